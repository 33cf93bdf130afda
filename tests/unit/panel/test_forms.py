"""Forms made from types: what was typed becomes a job, and a job what would have been typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import MultiDict

from isthmus import codec
from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import JobRequest
from isthmus.panel import forms, submit

WHOLE = {
    "name": "train",
    "command": ["python3", "train.py", "--name", "two words", "it's"],
    "image": "torch@2",
    "env": {"A": "1", "B": "x y"},
    "secrets": {"KEY": "wandb"},
    "resources": {"cpus": 4, "mem": 6 * 1024**3, "gpus": 2, "gpu_type": "a100", "time": 5400, "nodes": 2},
    "inputs": [
        {"path": "data", "dataset": "prices@3"},
        {"path": "m", "job": 7, "output": "model.pt", "mode": "copy"},
    ],
    "outputs": [{"path": "ckpt/*", "optional": True}, {"path": "big", "collect": False}],
    "priority": 5,
    "sites": ["a", "b"],
    "constraints": ["zone is EU", "gpu >= 2"],
    "after": [{"job": 3, "on": "ended"}],
    "retry": {"attempts": 5, "on": ["OOM", "TIMEOUT"], "mem_factor": 1.5, "infrastructure": False},
    "site_options": {"slurm": {"qos": "long"}},
    "labels": {"team": "vision"},
    "checkpoint": True,
    "deadline": "2030-01-31T12:00:00Z",
    "array": {"parameters": [{"lr": 0.1}, {"lr": 0.3}]},
}


def sent(typed: MultiDict) -> MultiDict:
    """As a browser sends the form: with the marks that say which boxes it showed."""
    shown = [("shown:retry.infrastructure", "1"), ("shown:outputs", "1")]
    collected = [
        (f"outputs[{number}].collect", "1")
        for number in range(10)
        if f"outputs[{number}].path" in typed and typed.get(f"outputs[{number}].collect", "1") == "1"
    ]
    rest = [(name, value) for name, value in typed.multi_items() if not name.endswith(".collect") and value != ""]
    return MultiDict([*rest, *shown, *collected])


def test_a_whole_job_survives_the_form() -> None:
    request = codec.read(JobRequest, WHOLE)
    typed = forms.typed_of(submit.FIELDS, codec.changed(request))
    assert submit._request(sent(typed)) == request


def test_what_is_typed_reads_as_people_write_it() -> None:
    request = codec.read(JobRequest, WHOLE)
    typed = forms.typed_of(submit.FIELDS, codec.changed(request))
    assert typed["command"] == "python3 train.py --name 'two words' 'it'\"'\"'s'"
    assert typed["resources.mem"] == "6.0GiB"
    assert typed["resources.time"] == "1h30m"
    assert typed["constraints"] == "zone is EU\ngpu >= 2"


def test_nothing_typed_is_every_default() -> None:
    assert submit._request(MultiDict([("command", "true"), ("shown:outputs", "1")])) == JobRequest(command=("true",))


def test_every_field_of_a_job_is_in_a_section() -> None:
    placed = {one.name for _, fields in submit.sections() for one in fields}
    assert placed == set(codec.fields_at(JobRequest, ()))
    named = {name for names in submit.SECTIONS.values() for name in names}
    assert named <= placed


@pytest.mark.parametrize("name", sorted({*submit.LABELS, *submit.HELP}))
def test_labels_and_help_are_of_fields_that_exist(name: str) -> None:
    outer, _, inner = name.partition(".")
    field = submit.BY_NAME[outer]
    assert not inner or name in {one.name for one in field.fields}


def test_rows_are_compacted_so_that_a_fault_is_at_its_row() -> None:
    typed = MultiDict(
        [("inputs[0].path", ""), ("inputs[3].path", "../up"), ("inputs[3].dataset", "d"), ("command", "x")]
    )
    compact = forms.compacted(submit.FIELDS, typed)
    assert compact["inputs[0].path"] == "../up"
    with pytest.raises(Invalid) as caught:
        submit._request(MultiDict([*compact.multi_items(), ("inputs[0].job", "seven")]))
    filled = forms.Filled(compact, forms.faults_of(caught.value))
    assert filled.fault("inputs[0].job")


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("command", "'open", "command"),
        ("resources.cpus", "many", "resources.cpus"),
        ("resources.mem", "much", "resources.mem"),
        ("site_options", "{", "site_options"),
        ("deadline", "tomorrow", "deadline"),
        ("array.parameters", "lr: 1", "array.parameters"),
    ],
)
def test_a_fault_names_its_field(name: str, text: str, place: str) -> None:
    with pytest.raises(Invalid) as caught:
        submit._request(MultiDict([("script", "true"), (name, text)]))
    assert forms.Filled(MultiDict(), forms.faults_of(caught.value)).fault(place, below=True)


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1))
def test_any_words_come_back(words: list[str]) -> None:
    (field,) = (one for one in submit.FIELDS if one.name == "command")
    typed = forms.typed_of([field], {"command": words})
    assert forms.read([field], typed)["command"] == words
