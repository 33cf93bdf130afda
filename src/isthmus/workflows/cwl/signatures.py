"""What a tool's result depends on, as digests: the tool itself, what is in force, the values of its inputs."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from isthmus.workflows.cwl import files
from isthmus.workflows.cwl.model import CommandLineTool, InForce

IGNORED = frozenset({"place", "file", "label", "doc", "id", "requirements", "hints"})
# What these ask for does not change what a command makes.
WITHOUT_EFFECT = frozenset({"WorkReuse", "ToolTimeLimit", "SoftwareRequirement", "cwltool:Secrets"})

_known: dict[int, tuple[Any, str]] = {}


def of_tool(tool: CommandLineTool) -> str:
    """A tool's digest: the same wherever its file lies."""
    return _once(tool, lambda: _plain(tool))


def of_requirements(in_force: InForce) -> str:
    """The digest of what is in force."""

    def plain() -> Any:
        merged = {**in_force.hints, **in_force.requirements}
        return {name: each for name, each in merged.items() if name not in WITHOUT_EFFECT}

    return _once(in_force, plain)


def of_value(value: Any, identify: Callable[[str], str]) -> Any:
    """A value with its files as what they are known by, not where they lie."""

    def one(file: dict[str, Any]) -> Any:
        found = {"class": file["class"], "basename": file.get("basename")}
        if file.get("location"):
            found["content"] = identify(str(file["location"]))
        else:
            found["text"] = file.get("contents")
        if file.get("format"):
            found["format"] = file["format"]
        for name in ("secondaryFiles", "listing"):
            if file.get(name) and (name != "listing" or not file.get("location")):
                found[name] = [one(each) for each in file[name]]
        return found

    return files.changed(value, one)


def _once(thing: Any, plain: Callable[[], Any]) -> str:
    """The digest of a thing that lives as long as its run: computed once."""
    found = _known.get(id(thing))
    if found is None or found[0] is not thing:
        text = json.dumps(plain(), sort_keys=True, default=str)
        found = (thing, hashlib.sha256(text.encode()).hexdigest()[:32])
        _known[id(thing)] = found
    return found[1]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    names = getattr(type(value), "__dataclass_fields__", None)
    if names is None:
        return value
    found = {name: _plain(getattr(value, name)) for name in names if name not in IGNORED}
    return {"kind": type(value).__name__, **found}
