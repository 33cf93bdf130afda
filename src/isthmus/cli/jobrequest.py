"""From the options of `isthmus run`, and a job's file, to a request."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.domain.jobs import JobRequest


def request(file: Path | None, given: dict[str, Any]) -> "JobRequest":
    """The job of the file, with the options over it."""
    from isthmus import codec
    from isthmus.domain.jobs import Array, JobRequest, check

    if file is None:
        request = codec.read(JobRequest, given)
        check(request, request.array)
        return request
    from isthmus.client import files
    from isthmus.domain.errors import Invalid

    node, value = files.parse(file)
    if not isinstance(value, dict):
        raise Invalid("It holds no job.", place=f"{file}:1", hint="Write it like `command: [python, train.py]`.")
    for part in ("resources", "env", "secrets", "labels"):
        if isinstance(value.get(part), dict) and part in given:
            given[part] = {**value[part], **given[part]}
    if "command" in given:
        value.pop("script", None)
    if "script" in given:
        value.pop("command", None)
    try:
        request = codec.read(JobRequest, {**value, **given})
        check(request, request.array)
    except Invalid as error:
        raise files.at(file, node, error) from None
    assert request.array is None or isinstance(request.array, Array)
    return request


def given(
    words: list[str] | None,
    name: str,
    script: Path | None,
    image: str,
    env: list[str] | None,
    secret: list[str] | None,
    cpus: int | None,
    mem: str,
    gpus: str,
    gpu_mem: str,
    time: str,
    nodes: int | None,
    tasks: int | None,
    launcher: str,
    input: list[str] | None,
    outputs: list[str] | None,
    checkpoint: bool,
    on: list[str] | None,
    constraint: list[str] | None,
    priority: int | None,
    deadline: str,
    after: list[str] | None,
    array: str,
    retry: str,
    label: list[str] | None,
    wait_for_site: bool,
) -> dict[str, Any]:
    """The fields of a request that the options name."""
    gpu_type, _, count = gpus.rpartition(":")
    needs = {
        "cpus": cpus,
        "mem": mem,
        "gpus": _number(count, "--gpus") if gpus else None,
        "gpu_type": gpu_type,
        "gpu_mem": gpu_mem,
        "time": time,
        "nodes": nodes,
        "tasks_per_node": tasks,
    }
    fields = {
        "command": list(words or ()),
        "name": name,
        "script": _text(script) if script else "",
        "image": image,
        "env": dict(_variable(each) for each in env or ()),
        "secrets": dict(pair(each, "--secret") for each in secret or ()),
        "resources": {key: value for key, value in needs.items() if value not in (None, "")},
        "launcher": launcher,
        "inputs": [_input(each) for each in input or ()],
        "outputs": [_output(each) for each in outputs or ()],
        "checkpoint": checkpoint,
        "sites": list(on or ()),
        "constraints": list(constraint or ()),
        "priority": priority,
        "deadline": _moment(deadline) if deadline else None,
        "after": [_after(each) for each in after or ()],
        "array": _array(array) if array else None,
        "retry": _retry(retry) if retry else None,
        "labels": dict(pair(each, "--label") for each in label or ()),
        "wait_for_site": wait_for_site,
    }
    return {key: value for key, value in fields.items() if value not in (None, "", [], {}, False)}


def pair(text: str, option: str) -> tuple[str, str]:
    """``NAME=VALUE``. Raises Invalid."""
    from isthmus.domain.errors import Invalid

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Invalid(f"{text!r} is not NAME=VALUE.", place=option)
    return name, value


def _variable(text: str) -> tuple[str, str]:
    import os

    from isthmus.domain.errors import Invalid

    if "=" in text:
        return pair(text, "--env")
    if text not in os.environ:
        raise Invalid(f"There is no {text!r} in your environment.", place="--env", hint="Write NAME=VALUE.")
    return text, os.environ[text]


def _number(text: str, option: str) -> int:
    from isthmus.domain.errors import Invalid

    if not text.isdigit():
        raise Invalid(f"{text!r} is not a whole number.", place=option)
    return int(text)


def _text(path: Path) -> str:
    from isthmus.documents import nearest_file
    from isthmus.domain.errors import Invalid

    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Invalid(f"There is no file {path}.", place="--script", hint=nearest_file(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} can't be read: {error}.", place="--script") from None


def _input(text: str) -> dict[str, Any]:
    path, source = pair(text, "--input")
    job, colon, output_path = source.partition(":")
    if colon and job.isdigit():
        return {"path": path, "job": int(job), "output": output_path}
    return {"path": path, "dataset": source}


def _output(text: str) -> dict[str, Any]:
    path, equals, dataset = text.partition("=")
    return {"path": path, "dataset": dataset} if equals else {"path": path}


def _after(text: str) -> dict[str, Any]:
    job, colon, how = text.partition(":")
    return {"job": _number(job, "--after"), **({"on": how} if colon else {})}


def _retry(text: str) -> dict[str, Any]:
    attempts, colon, reasons = text.partition(":")
    found: dict[str, Any] = {"attempts": _number(attempts, "--retry")}
    if colon:
        found["on"] = [reason.strip().upper() for reason in reasons.split(",")]
    return found


def _array(text: str) -> dict[str, Any]:
    if text.isdigit():
        return {"size": int(text)}
    from isthmus.client import files
    from isthmus.domain.errors import Invalid

    _, value = files.parse(Path(text))
    if not isinstance(value, list):
        raise Invalid("It holds no list of parameters.", place=text, hint="Write it like `- {lr: 0.1}`.")
    return {"parameters": value}


def _moment(text: str) -> str:
    from datetime import UTC, datetime, timedelta

    from isthmus.domain.errors import Invalid
    from isthmus.domain.units import Seconds

    try:
        return (datetime.now(UTC) + timedelta(seconds=Seconds.parse(text))).isoformat()
    except Invalid:
        return text
