"""Outputs: found among what a command left, described, checked against their types."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from isthmus.workflows.cwl import files, formats, inputs, types
from isthmus.workflows.cwl.context import Context
from isthmus.workflows.cwl.files import FileError
from isthmus.workflows.cwl.model import ArrayType, CommandLineTool, Parameter, Process, RecordType, Type, UnionType
from isthmus.workflows.locations import is_far, location, path_of
from isthmus.workflows.work import StepFailed, Wanted, Work

REPORT = "cwl.output.json"
LISTED = {"shallow_listing": "*", "deep_listing": "**"}  # what a job must say of a folder that is listed


class Tree(Protocol):
    """What a command left in its work folder, on this machine or at a site. Paths are relative to it."""

    def glob(self, pattern: str) -> list[dict[str, Any]]:
        """The Files and Directories that a pattern means, by name: ``location``, ``basename``, ``size``."""

    def at(self, path: str) -> dict[str, Any] | None:
        """The File or Directory of a path; None if there is none."""

    def text(self, file: Mapping[str, Any], *, whole: bool = False) -> str:
        """A file's text. Raises FileError above 64 KiB, unless it is wanted ``whole``."""

    def listing(self, file: Mapping[str, Any], *, deeply: bool) -> list[dict[str, Any]]:
        """A folder's entries."""


def collect(context: Context, tool: CommandLineTool, work: Work, seen: Mapping[str, str], tree: Tree) -> dict[str, Any]:
    """The outputs of a tool that has ended. ``seen``: the locations of inputs by path. Raises StepFailed."""
    collector = _Collector(context, tool, work, seen, tree)
    try:
        report = tree.at(REPORT)
        if report is not None:
            found = collector.reported(report)
        else:
            found = {name: collector.parameter(each) for name, each in tool.outputs.items()}
    except FileError as error:
        raise StepFailed(str(error)) from None
    check(tool, found)
    return files.changed(found, lambda file: files.deep(file, _kept_between))  # type: ignore[no-any-return]


def _kept_between(file: dict[str, Any]) -> dict[str, Any]:
    for name in ("_inside", "path", "dirname", "nameroot", "nameext"):
        file.pop(name, None)
    return file


def wanted(context: Context, tool: CommandLineTool, work: Work) -> Wanted:
    """What a job must say of what it leaves, so that `collect` can do its work. Raises StepFailed."""
    paths: dict[str, None] = {}
    texts: dict[str, None] = {REPORT: None}
    collector = _Collector(context, tool, work, {}, None)  # type: ignore[arg-type]
    for parameter in _leaves(tool.outputs.values()):
        patterns = [work.stdout] if parameter.stream == "stdout" else [work.stderr] if parameter.stream else []
        if parameter.output is not None:
            patterns += collector.patterns(parameter.output.glob)
            if parameter.output.load_contents or parameter.load_contents:
                texts.update(dict.fromkeys(patterns))
            within = LISTED.get(parameter.output.load_listing or parameter.load_listing or "")
            if within:
                paths.update(dict.fromkeys(f"{each}/{within}" for each in patterns))
        paths.update(dict.fromkeys(patterns))
        for secondary in parameter.secondary_files:
            if "$(" in secondary.pattern or "${" in secondary.pattern:
                paths["*"] = None
            else:
                paths.update(dict.fromkeys(files.secondary_name(each, secondary.pattern) for each in patterns))
    return Wanted(paths=(*paths, REPORT), texts=tuple(texts))


def _leaves(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    for parameter in parameters:
        kind = _record(parameter.type)
        if kind is not None and parameter.output is None:
            yield from _leaves(kind.fields.values())
        else:
            yield parameter


def check(process: Process, found: Mapping[str, Any]) -> None:
    """Raise StepFailed unless every output is of its type."""
    for name, parameter in process.outputs.items():
        if not types.matches(parameter.type, found.get(name)) and not (
            found.get(name) is None and "Any" in types.options(parameter.type)
        ):
            raise StepFailed(
                f"The output {name!r} must be {types.told(parameter.type)}, but it is "
                f"{types.told_value(found.get(name))}."
            )


def kept(value: Any, base: str) -> Any:
    """A value that an expression made, as it is kept between steps. Raises FileError."""

    def one(file: dict[str, Any]) -> dict[str, Any]:
        return files.deep(file, lambda each: _unplaced(each))

    return files.normalised(files.changed(value, one), base)


def _unplaced(file: dict[str, Any]) -> dict[str, Any]:
    """Without the path that a tool saw: where the file is, its location tells."""
    if file.get("location"):
        file.pop("path", None)
    return file


class _Collector:
    def __init__(
        self, context: Context, tool: CommandLineTool, work: Work, seen: Mapping[str, str], tree: Tree
    ) -> None:
        self._context = context
        self._tool = tool
        self._work = work
        self._seen = seen
        self._tree = tree

    # ---- by bindings

    def parameter(self, parameter: Parameter) -> Any:
        if parameter.stream in ("stdout", "stderr"):
            name = self._work.stdout if parameter.stream == "stdout" else self._work.stderr
            return self._described(self._single(self._tree.glob(name), parameter), parameter)
        kind = _record(parameter.type)
        if kind is not None and parameter.output is None:
            return {name: self.parameter(field) for name, field in kind.fields.items()}
        binding = parameter.output
        if binding is None:
            return None
        found: Any = self._glob(binding.glob)
        how = binding.load_listing or parameter.load_listing
        for file in found:
            if file["class"] == "File" and (binding.load_contents or parameter.load_contents):
                file["contents"] = self._tree.text(file)
            if file["class"] == "Directory" and how in ("shallow_listing", "deep_listing"):
                file["listing"] = self._tree.listing(file, deeply=how == "deep_listing")
        if binding.output_eval is not None:
            shown = [self._shown(each) for each in found]
            found = self._back(self._context.value(binding.output_eval, shown))
        elif binding.glob:
            found = self._single(found, parameter)
        else:
            found = None
        found = self._described(found, parameter)
        if parameter.load_contents or binding.load_contents:
            return found
        return files.changed(found, _without_contents)

    def _glob(self, patterns: Iterable[str]) -> list[dict[str, Any]]:
        return [each for pattern in self.patterns(patterns) for each in self._tree.glob(pattern)]

    def patterns(self, written: Iterable[str]) -> list[str]:
        """Globs, evaluated, relative to the work folder."""
        found: list[str] = []
        for pattern in written:
            value = self._context.value(pattern)
            for each in value if isinstance(value, list) else [value]:
                if each is None:
                    continue
                if not isinstance(each, str):
                    raise StepFailed(f"A glob must be a string, but {pattern!r} is {each!r}.")
                found.append(self._relative(each))
        return found

    def _relative(self, pattern: str) -> str:
        work = self._work.work
        if pattern == work:
            return "."
        if pattern.startswith(work + "/"):
            return pattern[len(work) + 1 :]
        if pattern.startswith("/"):
            raise StepFailed(f"The glob {pattern!r} leads out of the work folder.")
        if ".." in pattern.split("/"):
            raise StepFailed(f"The glob {pattern!r} leads out of the work folder.")
        return os.path.normpath(pattern)

    def _single(self, found: list[dict[str, Any]], parameter: Parameter) -> Any:
        if any(isinstance(each, ArrayType) for each in types.options(parameter.type)):
            return found
        if types.matches(parameter.type, None) and not found:
            return None
        if not found and any(each in ("File", "Directory") for each in types.options(parameter.type)):
            globs = ", ".join(parameter.output.glob) if parameter.output else parameter.stream
            raise StepFailed(f"The output {parameter.name!r} is missing: nothing matches {globs!r}.")
        if len(found) > 1:
            raise StepFailed(
                f"The output {parameter.name!r} must be one file, but {len(found)} match: "
                + ", ".join(str(each["basename"]) for each in found[:5])
            )
        return found[0] if found else None

    def _described(self, value: Any, parameter: Parameter) -> Any:
        """With secondary files and formats."""
        kind = parameter.type

        def one(file: dict[str, Any]) -> dict[str, Any]:
            if file["class"] != "File":
                return file
            if parameter.secondary_files:
                self._secondary(file, parameter)
            if parameter.format:
                found = formats.asked(self._context, parameter.format, self._shown(file))
                if found:
                    file["format"] = found[0]
            return file

        record = _record(kind)
        if record is not None and isinstance(value, Mapping):
            return {
                name: self._described(each, record.fields[name]) if name in record.fields else each
                for name, each in value.items()
            }
        return files.changed(value, one)

    def _secondary(self, file: dict[str, Any], parameter: Parameter) -> None:
        present = list(file.get("secondaryFiles") or [])
        names = {each.get("basename") for each in present}
        shown = self._shown(file)
        folder = os.path.dirname(self._inside(shown["path"]))
        for pattern in parameter.secondary_files:
            required = pattern.required
            if isinstance(required, str):
                required = bool(self._context.value(required, shown))
            for wanted in inputs.expand(self._context, shown, pattern.pattern):
                if wanted["basename"] in names:
                    continue
                path = str(wanted.get("path") or "")
                if path and not path.startswith(self._work.work + "/"):
                    present.append(self._elsewhere({**wanted}, str(wanted.get("location") or ""), path))
                    names.add(wanted["basename"])
                    continue
                place = self._inside(path) if path else os.path.join(folder, wanted["basename"])
                found = self._tree.at(place)
                if found is not None:
                    if wanted["basename"] != found["basename"]:
                        found["basename"] = wanted["basename"]
                    names.add(found["basename"])
                    present.append(found)
                elif required:
                    raise StepFailed(
                        f"The output {parameter.name!r}: the secondary file {wanted['basename']!r} of "
                        f"{file['basename']!r} is missing."
                    )
        if present:
            file["secondaryFiles"] = present

    def _inside(self, path: str) -> str:
        """A path that the tool sees, relative to its work folder."""
        work = self._work.work
        return path[len(work) + 1 :] if path.startswith(work + "/") else path

    def _shown(self, file: Mapping[str, Any]) -> dict[str, Any]:
        """A file of the work folder as expressions see it: at its path there."""
        return files.deep(dict(file), self._with_path)

    def _with_path(self, file: dict[str, Any]) -> dict[str, Any]:
        inner = file.pop("_inside", None)
        path = (
            os.path.join(self._work.work, str(inner)) if inner is not None else path_of(str(file.get("location", "")))
        )
        return files.with_path(file, path or str(file.get("basename", "")))

    # ---- back from expressions and reports

    def _back(self, value: Any) -> Any:
        """What an expression or report gave, with paths of the work folder as files that are there."""
        return files.changed(value, lambda file: files.deep(file, self._found))

    def _found(self, file: dict[str, Any]) -> dict[str, Any]:
        path = str(file.get("path") or "")
        place = str(file.get("location") or "")
        for name in ("path", "dirname", "nameroot", "nameext"):
            file.pop(name, None)
        if not path and place and not is_far(place) and not place.startswith(("http:", "https:", "_:")):
            path = path_of(place) or place
        if not path:
            if not place and file["class"] == "File":
                file.setdefault("basename", "file")
            return file
        if not path.startswith("/"):
            path = os.path.normpath(os.path.join(self._work.work, path))
        if path == self._work.work or path.startswith(self._work.work + "/"):
            inner = self._inside(path) if path != self._work.work else "."
            found = self._tree.at(inner)
            if found is None and place:
                return self._elsewhere(file, place, path)
            if found is None:
                raise FileError(f"There is no {inner!r} in the work folder, which an output names.")
            if file.get("basename"):
                found["basename"] = file["basename"]
            for name, value in file.items():
                if name not in ("location", "size", "class"):
                    found[name] = value
            if file["class"] != found["class"]:
                raise FileError(f"{inner!r} is a {found['class']}, not a {file['class']}.")
            return found
        return self._elsewhere(file, place, path)

    def _elsewhere(self, file: dict[str, Any], place: str, path: str) -> dict[str, Any]:
        """An input, or another file that the command may know of."""
        file["location"] = self._seen.get(path) or (place if place else location(path))
        if path_of(file["location"]) and not files.exists(file["location"]):
            raise FileError(f"There is no {path}, which an output names.")
        file.setdefault("basename", os.path.basename(path))
        return file

    def reported(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs that the command itself wrote down."""
        try:
            found = json.loads(self._tree.text(report, whole=True))
        except ValueError as error:
            raise StepFailed(f"{REPORT} is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise StepFailed(f"{REPORT} must hold an object with the outputs.")
        found = self._back(found)
        return {name: self._described(found.get(name), each) for name, each in self._tool.outputs.items()}


def _record(kind: Type) -> RecordType | None:
    if isinstance(kind, UnionType):
        return next((each for each in kind.options if isinstance(each, RecordType)), None)
    return kind if isinstance(kind, RecordType) else None


def _without_contents(file: dict[str, Any]) -> dict[str, Any]:
    if file.get("location"):
        file.pop("contents", None)
    return file
