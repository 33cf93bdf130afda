"""Small parts of the panel: words, times, journeys, comparisons, where one may be sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import JobSpec, Resources
from isthmus.domain.reasons import Reason
from isthmus.domain.states import JobState
from isthmus.domain.users import Event
from isthmus.domain.views import JobView
from isthmus.panel import words
from isthmus.panel.compare import differing, options_of
from isthmus.panel.job import journey, safe_cell
from isthmus.panel.newrun import Draft, checked
from isthmus.panel.rendering import Renderer, short, show_hours, show_money, show_number, time_tag, url
from isthmus.panel.visitor import csrf_of, local

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "goes"),
    [
        ("/jobs?q=1", "/jobs?q=1"),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example", "/"),
        ("/\\elsewhere.example", "/"),
        ("/jobs\r\nSet-Cookie: x", "/"),
        ("", "/"),
    ],
)
def test_nobody_is_sent_elsewhere(asked: str, goes: str) -> None:
    assert local(asked) == goes


def test_the_mark_of_a_form_tells_nothing_of_the_session() -> None:
    assert csrf_of("a") != csrf_of("b")
    assert "secret" not in csrf_of("secret")


def test_everything_is_escaped() -> None:
    nasty = '"><script>alert(1)</script>'
    job = JobView(
        id=1, name=nasty, message=nasty * 9, labels={nasty: nasty}, site=nasty, node=nasty, state=JobState.FAILED
    )
    macro = Renderer().macro
    for name in ("name", "state", "why", "place", "wait", "run"):
        assert "<script" not in str(macro("parts.html", name)(job)), name
    assert "<script" not in str(short(nasty * 20))


def test_a_time_is_exact_for_machines_and_on_hover() -> None:
    tag = str(time_tag(NOW))
    assert 'datetime="2030-01-02T03:04:05.000Z"' in tag
    assert 'title="2030-01-02 03:04:05 UTC"' in tag
    assert str(time_tag(None)) == "–"


def test_why_says_nothing_twice() -> None:
    said = JobView(id=1, state=JobState.FAILED, reason=Reason.EXIT_CODE, message="The command ended with exit code 3.")
    assert words.why(said) == "The command ended with exit code 3."
    full = JobView(id=1, state=JobState.QUEUED, reason=Reason.CAPACITY, message="local: 0 of 2 cores are free")
    assert words.why(full) == "Every site where it fits is busy. local: 0 of 2 cores are free"


def test_every_state_has_a_tone() -> None:
    assert {words.tone(state) for state in JobState} == {"wait", "run", "good", "bad", "dull"}


def test_a_journey_adds_up() -> None:
    def event(after: str, seconds: int, verb: str = "state") -> Event:
        at = NOW + timedelta(seconds=seconds)
        return Event(id=1, at=at, actor="x", noun="job", noun_id="1", verb=verb, after=after)

    history = [event("QUEUED", 0, "created"), event("RUNNING", 100), event("COMPLETED", 125)]
    steps = journey(JobView(id=1, state=JobState.COMPLETED), history)
    assert [(one["state"], one["seconds"]) for one in steps] == [("QUEUED", 100), ("RUNNING", 25), ("COMPLETED", 0)]
    assert sum(one["width"] for one in steps) == pytest.approx(100)
    assert journey(JobView(id=1), []) == []


def test_options_of_commands() -> None:
    command = ("python", "train.py", "--lr", "0.1", "--fast", "--depth=3", "--shift", "-2", "--on", "--off")
    assert options_of(command) == {
        "word 1": "python",
        "word 2": "train.py",
        "lr": "0.1",
        "fast": "yes",
        "depth": "3",
        "shift": "-2",
        "on": "yes",
        "off": "yes",
    }


def test_only_what_differs_is_shown() -> None:
    def job(number: int, lr: str, mem: int) -> JobView:
        env = {"lr": lr, "seed": "1", "ISTHMUS_ARRAY_INDEX": str(number)}
        spec = JobSpec(name=f"x[{number}]", command=("a",), env=env, resources=Resources(cpus=mem))
        return JobView(id=number, spec=spec)

    differ, same = differing([job(1, "0.1", 1), job(2, "0.3", 2)])
    assert differ == {"lr": ["0.1", "0.3"], "resources.cpus": ["", "2"]}
    assert same == {"seed": "1", "word 1": "a"}


def test_cells_are_no_formulas() -> None:
    assert safe_cell("=HYPERLINK()") == "'=HYPERLINK()"
    assert safe_cell("loss") == "loss"


def test_queries_leave_out_what_is_empty() -> None:
    assert url("/jobs", q="a&b", state=("X", "Y"), user="", before=0) == "/jobs?q=a%26b&state=X&state=Y"
    assert url("/jobs", user="") == "/jobs"


@pytest.mark.parametrize(("value", "shown"), [(3.0, "3"), (0.123456789, "0.12346"), (None, "–"), (1.5e9, "1.5e+09")])
def test_numbers(value: float | None, shown: str) -> None:
    assert show_number(value) == shown


@pytest.mark.parametrize(
    ("value", "hours", "money"),
    [(0.0, "0.0", "0.00"), (0.004, "0.004", "0.004"), (0.5, "0.50", "0.50"), (12345.67, "12,345.7", "12,345.67")],
)
def test_small_amounts_say_something(value: float, hours: str, money: str) -> None:
    assert (show_hours(value), show_money(value)) == (hours, money)


def test_a_reason_is_said_once() -> None:
    sentence = Reason.NO_SITE.sentence
    assert words.reason("NO_SITE", sentence) == words.reason("NO_SITE", "")
    assert words.reason("EXIT_CODE", "It ended with 3.") == "It ended with 3."
    assert words.reason("TIMEOUT", "It ran for 2 s.") == f"{Reason.TIMEOUT.sentence} It ran for 2 s."
    assert words.reason("KILLED", "by ada") == "Its end was asked for by ada."
    assert words.reason("something else", "x") == "something else x"
    assert words.reason("", "x") == "x"


def test_faults_of_a_workflow_stand_at_their_fields() -> None:
    draft = Draft([("main.cwl", "x"), ("tools/a.cwl", "y")])
    faults = (
        Invalid("Wrong here.", place="/tmp/w/tools/a.cwl:3", hint="Do that."),
        Invalid("And in /tmp/w/main.cwl.", place="/tmp/w/main.cwl:12"),
        Invalid("A number.", place="inputs.reads"),
        Invalid("No such step.", place="/tmp/w/.isthmus-bindings.yml:2"),
        Invalid("Elsewhere.", place="body"),
    )
    draft.blame(Invalid("x", faults=faults), "/tmp/w")
    assert draft.faults == {
        "files[1]": ["Line 3: Wrong here. Do that."],
        "files[0]": ["Line 12: And in main.cwl."],
        "inputs": ["A number."],
        "bindings": ["Line 2: No such step."],
        "": ["body: Elsewhere."],
    }


def test_a_draft_takes_no_names_that_leave_its_folder(tmp_path: Path) -> None:
    for name in ("../x.cwl", "/etc/x.cwl", "a/../../x", ".isthmus-inputs.yml", ""):
        with pytest.raises(Invalid, match="name") as refused:
            checked(Draft([(name, "class: CommandLineTool")]), tmp_path, [])
        assert refused.value.place == "files[0]"
    assert list(tmp_path.iterdir()) == []
