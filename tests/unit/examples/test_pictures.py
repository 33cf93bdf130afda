"""The demo's pictures, from views as the API gives them, on a terminal and in a log."""

import io
from datetime import UTC, datetime

from rich.console import Console

from examples.forecast import pictures, screen, sweep
from isthmus.domain.states import JobState
from isthmus.domain.views import JobView, Point, Progress, Series

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def series(name: str, *values: float | None) -> Series:
    points = tuple(Point(at=NOW, value=value, step=22.0 * i) for i, value in enumerate(values, 1))
    return Series(name=name, attempt=1, points=points, count=len(points))


REPORTED = [
    series("year", 2004.0, 2008.8, 2018.9),
    series("actual", 10.0, 60.0, 15.0),
    series("forecast", 11.0, None, 14.0),
    series("mae", 4.0, 4.5, 3.7),
    series("naive_mae", 5.0, 5.5),
]


def shown(*, terminal: bool) -> tuple[screen.Screen, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=90, color_system="standard" if terminal else None)
    console.legacy_windows = False
    return screen.Screen(console), out


def test_lines_have_the_points_that_are_known_in_both() -> None:
    walked = pictures.Walked.of(REPORTED)
    assert walked.line("actual") == [(2004.0, 10.0), (2008.8, 60.0), (2018.9, 15.0)]
    assert walked.line("forecast") == [(2004.0, 11.0), (2018.9, 14.0)]
    assert walked.line("other") == []


def test_the_sentence_tells_the_last_figures() -> None:
    assert pictures.Walked.of(REPORTED).sentence() == ("2018: error 3.70 so far; saying 'as today' 5.50 (% a year)")
    assert pictures.Walked({}).sentence() == "nothing reported yet"


def test_progress_is_a_share_whatever_is_known() -> None:
    assert pictures.share(JobView(id=1)) == 0.0
    assert pictures.share(JobView(id=1, progress=Progress(done=1, total=4))) == 0.25
    assert pictures.share(JobView(id=1, progress=Progress(done=1))) == 0.0
    assert pictures.share(JobView(id=1, state=JobState.COMPLETED)) == 1.0
    running = JobView(id=1, state=JobState.RUNNING, progress=Progress(done=1, total=4))
    assert pictures.status(running) == "RUNNING 25%"


def test_a_terminal_gets_braille_and_a_bar_and_a_log_letters() -> None:
    job = JobView(id=1, state=JobState.RUNNING, progress=Progress(done=1, total=4))
    lively, out = shown(terminal=True)
    lively.say(pictures.walk(job, pictures.Walked.of(REPORTED), lively))
    assert any(char > "\u2800" for char in out.getvalue())
    assert "RUNNING" in out.getvalue()

    plain, out = shown(terminal=False)
    plain.say(pictures.walk(job, pictures.Walked.of(REPORTED), plain))
    assert all(ord(char) < 128 for char in out.getvalue())
    assert "* what came (mean of 22 days)   o forecast" in out.getvalue()


def test_the_states_of_a_sweep_have_a_line_each() -> None:
    jobs = [JobView(id=10 + i, state=JobState.QUEUED) for i in range(len(sweep.GRID))]
    lively, out = shown(terminal=True)
    lively.say(pictures.states(jobs, sweep.GRID))
    lines = out.getvalue().splitlines()
    assert len(lines) == len(sweep.GRID)
    assert "10" in lines[0] and "mlp, all the past" in lines[0] and "QUEUED" in lines[0]


def test_a_sweep_in_one_line() -> None:
    jobs = [
        JobView(id=7, state=JobState.COMPLETED),
        JobView(id=8, state=JobState.RUNNING, progress=Progress(done=1, total=4)),
        JobView(id=9, state=JobState.PENDING),
    ]
    assert pictures.count(jobs) == "1 of 3 done; running: 8 at 25%"
    assert pictures.count(jobs[:1]) == "1 of 1 done; running: none"


def test_a_log_gets_a_line_when_it_is_new_and_the_time_has_come(monkeypatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: clock[0])
    plain, out = shown(terminal=False)
    with plain.watching(keep=True) as show:
        show("picture 1", "one")
        show("picture 2", "two")  # too soon
        clock[0] += screen.PLAIN_EVERY_S
        show("picture 3", "one")  # not new
        show("picture 4", "three")
    assert out.getvalue().splitlines() == ["one", "three", "picture 4"]


def test_commands_stay_whole_and_prose_is_broken() -> None:
    for terminal in (True, False):
        target, out = shown(terminal=terminal)
        target.say("  command " + "x" * 200)
        assert len(out.getvalue().splitlines()) == 1
        target, out = shown(terminal=terminal)
        target.tell("  against " + "word " * 40)
        lines = out.getvalue().splitlines()
        assert max(map(len, lines)) <= 90
        assert lines[1].startswith("    word")
