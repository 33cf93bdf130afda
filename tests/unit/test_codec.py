"""What pydantic finds is told in readable lines, with the place and the nearest right word."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus import codec
from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import After, JobRequest, JobSpec
from isthmus.domain.reasons import Reason
from isthmus.domain.views import JobPage, JobView


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"comand": ["x"]}, "comand: There is no field 'comand' here. Did you mean 'command'?"),
        ({"resources": {"gpuss": 1}}, "resources.gpuss: There is no field 'gpuss' here. Did you mean 'gpus'?"),
        ({"command": "echo"}, "command: 'echo' is not a list. Write it like [a, b]."),
        ({"resources": {"cpus": "a"}}, "resources.cpus: 'a' is not a whole number."),
        ({"resources": {"cpus": 1.5}}, "resources.cpus: 1.5 is not a whole number."),
        ({"resources": {"mem": "4 gigs"}}, "resources.mem: '4 gigs' is not a size. Write it like 512MiB or 4G."),
        (
            {"resources": {"time": "soon"}},
            "resources.time: 'soon' is not a length of time. Write it like 90s, 1h30m or",
        ),
        ({"launcher": "srn"}, "launcher: 'srn' is not one of the choices. Did you mean 'srun'?"),
        ({"inputs": [{"dataset": "x"}]}, "inputs[0].path: It is missing."),
        ({"after": [{"job": 1, "on": "complete"}]}, "after[0].on: 'complete' is not one of the choices. Did you mean"),
        ({"retry": {"on": ["OMM"]}}, "retry.on[0]: 'OMM' is not one of the choices. Did you mean 'OOM'?"),
        ({"deadline": "tomorrow"}, "deadline: 'tomorrow' is not a time. Write it like 2030-01-31T12:00:00Z."),
        ({"env": {"A": 1}}, "env.A: 1 is not a text. Put it between quotes."),
        ({"env": ["A"]}, "env: ['A'] is not a set of names and values."),
        ({"checkpoint": "perhaps"}, "checkpoint: 'perhaps' is not true or false."),
        ({"retry": {"mem_factor": "big"}}, "retry.mem_factor: 'big' is not a number."),
        (
            {"array": {"parameters": [{"lr": [1]}]}},
            "array.parameters[0].lr: [1] is not a text, a number, true or false.",
        ),
        ({"name": ["x"]}, "name: ['x'] is not a text."),
    ],
)
def test_says_what_is_wrong_and_where(given: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as caught:
        codec.read(JobRequest, given)
    assert str(caught.value).startswith(said)


def test_several_faults_are_told_each() -> None:
    with pytest.raises(Invalid) as caught:
        codec.read(JobRequest, {"nane": "x", "resources": {"gpuss": 1}})
    assert caught.value.message.endswith("(And 1 more.)")
    assert {fault.place for fault in caught.value.faults} == {"nane", "resources.gpuss"}


def test_the_place_within_a_list_of_jobs() -> None:
    with pytest.raises(Invalid) as caught:
        codec.read(list[JobRequest], [{"command": ["x"]}, {"comand": ["x"]}])
    assert str(caught.value) == "[1].comand: There is no field 'comand' here. Did you mean 'command'?"


def test_not_json_is_told() -> None:
    with pytest.raises(Invalid, match="This is not JSON: EOF while parsing"):
        codec.read_json(JobRequest, b'{"name":')


@pytest.mark.parametrize("text", [b'{"name": "a\\u0000b"}', b'{"name": "\\\\\\u0000"}'])
def test_null_characters_are_refused(text: bytes) -> None:
    with pytest.raises(Invalid, match="null character"):
        codec.read_json(JobRequest, text)


def test_an_escaped_backslash_before_u0000_is_text() -> None:
    job = codec.read_json(JobRequest, b'{"script": "print(\\"\\\\u0000\\")"}')
    assert job.script == 'print("\\u0000")'


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(Invalid, match="not JSON"):
        codec.read_json(JobRequest, b'{"name": "\\ud800"}')


def test_views_go_and_come_back() -> None:
    page = JobPage(
        jobs=(JobView(id=3, reason=Reason.OOM, spec=JobSpec(command=("a",), after=(After(job=1),))),), next=2
    )
    assert codec.read_json(JobPage, codec.write_json(page)) == page


def test_changed_leaves_out_defaults() -> None:
    assert codec.changed(JobSpec(command=("a", "b"), priority=3)) == {"command": ["a", "b"], "priority": 3}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*JobRequest.__dataclass_fields__, "nonsense"]), json_values, max_size=4))
def test_whatever_is_sent_is_a_job_or_told_in_one_line(value: dict[str, Any]) -> None:
    try:
        codec.read(JobRequest, value)
    except Invalid as error:
        assert error.place
        assert error.message.strip()
        assert "\n" not in error.message
