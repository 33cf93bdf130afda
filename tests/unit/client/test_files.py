"""Jobs written as files: what is wrong is told with the line."""

from pathlib import Path

import pytest

from isthmus.client import files
from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import JobRequest


def read(tmp_path: Path, text: str) -> JobRequest:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return files.read(JobRequest, path)


def fault(tmp_path: Path, text: str) -> str:
    with pytest.raises(Invalid) as caught:
        read(tmp_path, text)
    return str(caught.value).removeprefix(str(tmp_path) + "/")


def test_a_job(tmp_path: Path) -> None:
    job = read(tmp_path, "command: [python, train.py]\nresources:\n  mem: 4GiB\n  time: 1-00:00:00\n")
    assert job.command == ("python", "train.py")
    assert job.resources.mem == 4 << 30
    assert job.resources.time == 86400


def test_json_is_yaml_too(tmp_path: Path) -> None:
    assert read(tmp_path, '{"command": ["a"], "priority": 3}').priority == 3


def test_a_wrong_name_has_its_line(tmp_path: Path) -> None:
    text = "command: [a]\n\nresources:\n  cpus: 2\n  gpuss: 1\n"
    assert fault(tmp_path, text) == (
        "job.yaml:5: resources.gpuss: There is no field 'gpuss' here. Did you mean 'gpus'?"
    )


def test_a_wrong_value_in_a_list_has_its_line(tmp_path: Path) -> None:
    text = "command: [a]\ninputs:\n  - path: x\n    dataset: d\n  - path: y\n    mode: lnk\n    dataset: e\n"
    assert fault(tmp_path, text).startswith("job.yaml:6: inputs[1].mode: 'lnk' is not one of the choices.")


def test_what_is_missing_has_the_line_of_its_owner(tmp_path: Path) -> None:
    assert fault(tmp_path, "command: [a]\ninputs:\n  - dataset: d\n") == "job.yaml:3: inputs[0].path: It is missing."


def test_a_name_that_stands_twice(tmp_path: Path) -> None:
    said = fault(tmp_path, "command: [a]\nenv:\n  A: x\n  A: y\n")
    assert said == "job.yaml:4: 'A' stands here twice: on line 3 too."


def test_not_yaml(tmp_path: Path) -> None:
    assert fault(tmp_path, "command: [a\nname: b\n").startswith("job.yaml:2: This is not YAML:")


def test_words_that_older_yaml_misreads(tmp_path: Path) -> None:
    job = read(tmp_path, "command: [a]\nenv: {COUNTRY: no, SWITCH: on, DAY: 2024-01-31, MODE: 0o17, CLOCK: 12:30:00}\n")
    assert job.env == {"COUNTRY": "no", "SWITCH": "on", "DAY": "2024-01-31", "MODE": "0o17", "CLOCK": "12:30:00"}


def test_a_number_where_a_text_must_be(tmp_path: Path) -> None:
    assert (
        fault(tmp_path, "command: [a]\nenv:\n  N: 3\n") == "job.yaml:3: env.N: 3 is not a text. Put it between quotes."
    )


def test_an_empty_file(tmp_path: Path) -> None:
    assert fault(tmp_path, "").startswith("job.yaml:1: It holds no names and values.")


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"command: [\xff]")
    with pytest.raises(Invalid, match="It is not UTF-8 text: byte 10 is 0xff"):
        files.read(JobRequest, path)


def test_anchors_and_merges(tmp_path: Path) -> None:
    job = read(tmp_path, "env: &e {A: x}\nsecrets: {B: s}\nlabels: {<<: *e, C: z}\ncommand: [a]\n")
    assert job.labels == {"A": "x", "C": "z"}
