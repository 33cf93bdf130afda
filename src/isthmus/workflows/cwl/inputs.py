"""A process's inputs made ready: defaults, types, secondary files, contents, listings, formats."""

import os
from collections.abc import Mapping
from typing import Any

from isthmus.domain.errors import nearest
from isthmus.workflows.cwl import files, formats, types
from isthmus.workflows.cwl.context import Context
from isthmus.workflows.cwl.files import FileError
from isthmus.workflows.cwl.model import ArrayType, Parameter, RecordType, SecondaryFile, Type
from isthmus.workflows.dataflow.graph import MISSING
from isthmus.workflows.locations import location, path_of
from isthmus.workflows.work import StepFailed


def ready(context: Context, given: Mapping[str, Any], *, top: bool) -> dict[str, Any]:
    """The inputs of a process from what it was given. ``top``: it is what a person runs, so secondary files are looked
    for where the files lie. Raises StepFailed."""
    process = context.process
    found: dict[str, Any] = {}
    for name, parameter in process.inputs.items():
        value = given.get(name)
        if value is None and parameter.default is not MISSING:
            value = _default(parameter, process.file)
        found[name] = value
        check(parameter, value, _meant(name, [each for each in given if each not in process.inputs]) if top else "")
    context.inputs = {**{name: given[name] for name in given if name not in found}, **found} if not top else found
    for name, parameter in process.inputs.items():
        if found[name] is not None:
            found[name] = _Ready(context, parameter, top=top).value(parameter.type, found[name], parameter)
            context.inputs[name] = found[name]
    return found


def _meant(name: str, strange: list[str]) -> str:
    """What to do about a missing input: perhaps it was given under another name."""
    hint = nearest(name, strange)
    return hint if hint.startswith("Did") else f"Give it as --{name} VALUE or in a file of inputs."


def check(parameter: Parameter, value: Any, hint: str = "") -> None:
    """Raise StepFailed unless the value is of the parameter's type."""
    if types.matches(parameter.type, value):
        return
    if value is None:
        raise StepFailed(f"The input {parameter.name!r} ({types.told(parameter.type)}) is missing. {hint}".rstrip())
    raise StepFailed(
        f"The input {parameter.name!r} must be {types.told(parameter.type)}, but it is {types.told_value(value)}."
    )


def _default(parameter: Parameter, file: str) -> Any:
    try:
        return files.normalised(parameter.default, file)
    except FileError as error:
        raise StepFailed(f"The default of {parameter.name!r}: {error}") from None


class _Ready:
    """Walks one input by its type."""

    def __init__(self, context: Context, parameter: Parameter, *, top: bool) -> None:
        self._context = context
        self._name = parameter.name
        self._top = top

    def value(self, kind: Type, value: Any, parameter: Parameter) -> Any:
        kind = types.chosen(kind, value) or kind
        if isinstance(kind, ArrayType) and isinstance(value, list):
            return [self.value(kind.items, each, parameter) for each in value]
        if isinstance(kind, RecordType) and isinstance(value, Mapping):
            found = dict(value)
            for name, field in kind.fields.items():
                if found.get(name) is None and field.default is not MISSING:
                    found[name] = field.default
                if found.get(name) is not None:
                    found[name] = self.value(field.type, found[name], field)
            return found
        if files.is_file(value):
            return self._file(dict(value), parameter)
        if isinstance(value, list):
            return [self.value("Any", each, parameter) for each in value]
        return value

    def _file(self, file: dict[str, Any], parameter: Parameter) -> dict[str, Any]:
        seen = files.deep(file, _shown)
        path = path_of(str(file.get("location", "")))
        try:
            if file["class"] == "File":
                self._contents(seen, parameter, path)
                if parameter.format:
                    formats.check(self._context, self._name, seen, parameter.format)
            else:
                default = "deep_listing" if self._context.process.version == "v1.0" else "no_listing"
                asked = self._context.in_force.get("LoadListingRequirement") or {}
                how = parameter.load_listing or asked.get("loadListing") or default
                seen = files.with_listing(seen, how)
                if how == "no_listing" and seen.get("location") and "listing" in seen:
                    del seen["listing"]
            if parameter.secondary_files:
                self._secondary(seen, parameter.secondary_files)
        except FileError as error:
            raise StepFailed(f"The input {self._name!r}: {error}") from None
        return seen

    def _contents(self, file: dict[str, Any], parameter: Parameter, path: str) -> None:
        wanted = parameter.load_contents or (parameter.binding is not None and parameter.binding.load_contents)
        if wanted and "contents" not in file:
            if not path:
                raise FileError(f"loadContents needs {file.get('location')} on this machine.")
            file["contents"] = files.contents(path)

    def _secondary(self, file: dict[str, Any], patterns: tuple[SecondaryFile, ...]) -> None:
        present = list(file.get("secondaryFiles") or [])
        names = {each.get("basename") for each in present}
        for pattern in patterns:
            required = pattern.required
            if isinstance(required, str):
                required = bool(self._context.value(required, file))
            required = True if required is None else required
            for wanted in expand(self._context, file, pattern.pattern):
                wanted.pop("path", None)
                if wanted["basename"] in names:
                    continue
                there = path_of(str(wanted.get("location", "")))
                if self._top and there and os.path.exists(there):
                    if os.path.isdir(there):
                        wanted["class"] = "Directory"
                    present.append(wanted)
                    names.add(wanted["basename"])
                elif self._top and wanted.get("location", "").startswith(("http://", "https://")):
                    present.append(wanted)
                elif required:
                    raise FileError(
                        f"The secondary file {wanted['basename']!r} of {file.get('basename')!r} is missing."
                    )
        if present:
            file["secondaryFiles"] = present


def _shown(file: dict[str, Any]) -> dict[str, Any]:
    """A file as expressions see it before it has a place: by the path where it lies, and its size."""
    name = file.get("basename")
    path = path_of(str(file.get("location", "")))
    file = files.with_path(file, path or str(name or ""))
    if name and name != file["basename"]:
        file["basename"] = name
        if file["class"] == "File":
            file["nameroot"], file["nameext"] = files.split_name(str(name))
    if file["class"] == "File":
        if path:
            try:
                file["size"] = os.stat(path).st_size
            except OSError:
                # What a step made and has gone since has a size: it is made again before the command starts.
                if "size" not in file:
                    raise StepFailed(f"There is no file {path}.") from None
        elif isinstance(file.get("contents"), str) and not file.get("location"):
            file["size"] = len(file["contents"].encode())
    return file


def expand(context: Context, file: dict[str, Any], pattern: str) -> list[dict[str, Any]]:
    """The secondary files that a pattern, or an expression, means beside a file. Raises StepFailed."""
    found = context.value(pattern, file)
    if found is pattern or isinstance(found, str):
        if found is pattern:
            found = files.secondary_name(str(file["basename"]), pattern)
        found = [found]
    elif found is None:
        return []
    elif not isinstance(found, list):
        found = [found]
    results = []
    for each in found:
        if each is None:
            continue
        if isinstance(each, str):
            results.append(files.sibling(file, each))
        elif files.is_file(each):
            one = dict(each)
            if not one.get("location") and one.get("path"):
                one["location"] = location(one["path"]) if str(one["path"]).startswith("/") else one["path"]
            one.setdefault("basename", files.basename(str(one.get("location", ""))))
            if one.get("location") and not one.get("path"):
                one["path"] = path_of(str(one["location"]))
            results.append(one)
        else:
            raise StepFailed(f"secondaryFiles: {pattern!r} gives {each!r}, which is neither a name nor a File.")
    return results
