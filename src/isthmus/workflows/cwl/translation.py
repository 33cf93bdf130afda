"""From a CWL process to a program for the driver: the graph, and how its steps are prepared and begun."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from isthmus.domain.errors import Invalid, Unavailable, nearest
from isthmus.workflows.cwl import context, files, inputs, javascript, model, needs, outputs, tool, types
from isthmus.workflows.cwl.expressions import Script
from isthmus.workflows.cwl.files import FileError
from isthmus.workflows.cwl.javascript import Node
from isthmus.workflows.cwl.loading import short
from isthmus.workflows.cwl.model import (
    ArrayType,
    CommandLineTool,
    ExpressionTool,
    InForce,
    Operation,
    Parameter,
    Process,
    StepInput,
    Type,
    Workflow,
    WorkflowStep,
)
from isthmus.workflows.dataflow.graph import MISSING, Cross, Feed, Graph, Loop, Merge, Pick, Scatter, Source, Step
from isthmus.workflows.hidden import Hidden
from isthmus.workflows.locations import path_of
from isthmus.workflows.work import Need, StepFailed


@dataclass(frozen=True, slots=True)
class Leaf:
    """A step's body that is no workflow."""

    process: Process
    in_force: InForce
    top: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """What preparing a step needs: the step as written, and what is in force around it and inside it."""

    step: WorkflowStep
    around: InForce
    inside: InForce


class CwlProgram:
    """A CWL process as a program. ``extra``: requirements that the inputs brought with them (``cwl:requirements``)."""

    def __init__(self, process: Process, *, extra: InForce | None = None, script: Script | None = None) -> None:
        self.process = process
        self.name = process.id or "main"
        self.hidden = Hidden()
        self._script: Script = script or Node()
        self._top = InForce().within(process)
        if extra is not None:
            self._top = InForce({**self._top.requirements, **extra.requirements}, {**extra.hints, **self._top.hints})
        if isinstance(process, Workflow):
            self.graph = _graph(process, self._top)
        else:
            self.graph = _alone(process, self._top)

    def inputs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """See Program."""
        now = context.context(self.process, self._top, self._script)
        if not javascript.program():
            for one in model.processes(self.process):
                if "InlineJavascriptRequirement" in one.requirements:
                    raise Unavailable(
                        "This process needs JavaScript, and there is no node on this machine.",
                        hint="Install Node.js, so that `node` is on the path.",
                        place=one.place,
                        code="no-node",
                    )
        for name in self.secrets():
            self.hidden.add(given.get(name))
        try:
            ready = inputs.ready(now, given, top=True)
            if isinstance(self.process, Workflow):
                return {name: outputs.kept(value, self.process.file) for name, value in ready.items()}
            return {name: given.get(name) for name in self.process.inputs}
        except StepFailed as error:
            raise Invalid(error.message, code="cwl-inputs") from None

    def secrets(self) -> tuple[str, ...]:
        """See Program."""
        return tuple(name for name in tool.secrets(self._top) if name in self.process.inputs)

    def contained(self) -> str:
        """See Program."""
        for one in model.processes(self.process):
            if "DockerRequirement" in one.requirements and isinstance(one, CommandLineTool):
                return one.place
        return ""

    def asked(self) -> Iterator[tuple[str, Need, str]]:
        """See Program."""
        return _asked(self.graph, "", self._script)

    def prepare(self, task: str, step: Step, given: dict[str, Any]) -> dict[str, Any] | None:
        """See Program."""
        note = step.note
        assert isinstance(note, Note)
        now = context.context(note.step.run, note.around, self._script)
        round_ = int(task.rpartition("#")[2]) if step.loop is not None else 0
        feeds = note.step.loop.inputs if round_ and note.step.loop is not None else note.step.inputs
        found = self._fed(now, feeds, given)
        when = note.step.loop.when if note.step.loop is not None else note.step.when
        if when is not None:
            now.inputs = _shown(found)
            value = now.value(when)
            if not isinstance(value, bool):
                raise StepFailed(f"`when` must be true or false, but {when!r} is {value!r}.")
            if not value:
                return None
        if isinstance(note.step.run, Workflow):
            inner = context.context(note.step.run, note.inside, self._script)
            ready = inputs.ready(inner, found, top=False)
            return self._kept({**found, **ready}, note)
        return found

    def _fed(self, now: context.Context, feeds: Mapping[str, StepInput], given: dict[str, Any]) -> dict[str, Any]:
        """The inputs after loadContents and valueFrom."""
        loaded = dict(given)
        for name, feed in feeds.items():
            if feed.load_contents:
                loaded[name] = files.changed(loaded.get(name), _with_contents)
            if feed.load_listing:
                loaded[name] = files.changed(loaded.get(name), partial(files.with_listing, how=feed.load_listing))
        if not any(feed.value_from is not None for feed in feeds.values()):
            return loaded
        now.inputs = _shown(loaded)
        found = dict(loaded)
        for name, feed in feeds.items():
            if feed.value_from is not None:
                value = now.value(feed.value_from, now.inputs.get(name))
                try:
                    found[name] = outputs.kept(value, now.process.file)
                except FileError as error:
                    raise StepFailed(f"valueFrom of {name!r}: {error}") from None
        return found

    def _kept(self, values: dict[str, Any], note: Note) -> dict[str, Any]:
        try:
            return {name: outputs.kept(value, note.step.run.file) for name, value in values.items()}
        except FileError as error:
            raise StepFailed(str(error)) from None

    def begin(self, step: Step, given: dict[str, Any]) -> tool.ToolRun | dict[str, Any]:
        """See Program."""
        leaf = step.body
        assert isinstance(leaf, Leaf)
        if isinstance(leaf.process, CommandLineTool):
            return tool.ToolRun(leaf.process, leaf.in_force, self._script, given, top=leaf.top, hidden=self.hidden)
        if isinstance(leaf.process, ExpressionTool):
            found: dict[str, Any] = tool.expression(leaf.process, leaf.in_force, self._script, given, top=leaf.top)
            return found
        raise StepFailed(f"{leaf.process.id} is an Operation: nobody has said yet how it is run.")

    def reads(self, step: Step) -> bool:
        """See Program."""
        note = step.note
        if isinstance(note, Note) and any(
            each.load_contents or each.load_listing for each in note.step.inputs.values()
        ):
            return True
        if isinstance(step.body, Graph):
            return any(each.load_contents or each.load_listing for each in note.step.run.inputs.values())
        process = step.body.process
        asked = step.body.in_force.get("LoadListingRequirement")
        if asked and asked.get("loadListing", "no_listing") != "no_listing" and _takes_folders(process):
            return True
        return any(
            each.load_contents or each.load_listing or (each.binding is not None and each.binding.load_contents)
            for each in process.inputs.values()
        )

    def check(self, made: Mapping[str, Any]) -> None:
        """See Program."""
        outputs.check(self.process, made)

    def close(self) -> None:
        """See Program."""
        close = getattr(self._script, "close", None)
        if close is not None:
            close()


def _asked(graph: Graph, around: str, script: Script) -> Iterator[tuple[str, Need, str]]:
    for name, step in graph.steps.items():
        path = f"{around}/{name}" if around else name
        if isinstance(step.note, Note) and step.note.step.when is not None:
            continue  # it may not run at all
        if isinstance(step.body, Graph):
            yield from _asked(step.body, path, script)
        elif isinstance(step.body.process, CommandLineTool):
            leaf = step.body
            sizes = leaf.in_force.get("ResourceRequirement") or {}
            if not any(isinstance(each, str) and "$" in each for each in sizes.values()):
                with contextlib.suppress(StepFailed):  # told when it is reached, with its inputs
                    yield (
                        path,
                        needs.resources(context.context(leaf.process, leaf.in_force, script))[0],
                        leaf.process.place,
                    )


def _takes_folders(process: Process) -> bool:
    return any("Directory" in repr(each.type) for each in process.inputs.values())


def _with_contents(file: dict[str, Any]) -> dict[str, Any]:
    path = path_of(str(file.get("location", "")))
    if file["class"] == "File" and "contents" not in file and path:
        try:
            file["contents"] = files.contents(path)
        except FileError as error:
            raise StepFailed(str(error)) from None
    return file


def _shown(values: dict[str, Any]) -> dict[str, Any]:
    """Values as expressions between steps see them: files with names and, on this machine, paths."""

    def one(file: dict[str, Any]) -> dict[str, Any]:
        name = file.get("basename")
        seen = files.with_path(file, path_of(str(file.get("location", ""))) or str(name or ""))
        if name:
            seen["basename"] = name
            if seen["class"] == "File":
                seen["nameroot"], seen["nameext"] = files.split_name(str(name))
        return seen

    return {name: files.changed(value, lambda file: files.deep(file, one)) for name, value in values.items()}


# ---- the graph


def _alone(process: Process, in_force: InForce) -> Graph:
    name = process.id or "main"
    if isinstance(process, Operation):
        raise Invalid(f"{name} is an Operation: nobody has said yet how it is run.", place=process.place, code="cwl")
    step = Step(
        inputs={port: Feed((Source("", port),)) for port in process.inputs},
        outputs=tuple(process.outputs),
        body=Leaf(process, in_force, top=True),
        place=process.place,
    )
    feeds = {port: Feed((Source(name, port),)) for port in process.outputs}
    return Graph(tuple(process.inputs), {name: step}, feeds)


def _graph(workflow: Workflow, in_force: InForce) -> Graph:
    faults: list[Invalid] = []
    steps = {}
    for name, step in workflow.steps.items():
        steps[name] = _step(workflow, step, in_force, faults)
    feeds = {}
    for name, output in workflow.sources.items():
        sources = tuple(_source(each, workflow, workflow.outputs[name].place, faults) for each in output.sources)
        found = tuple(each for each in sources if each is not None)
        feeds[name] = Feed(found, _merge(output.link_merge, len(found)), Pick(output.pick_value))
        if len(found) == 1 and not output.link_merge and not output.pick_value:
            _check_link(workflow, found[0], workflow.outputs[name].type, workflow.outputs[name].place, name, faults)
    if faults:
        raise Invalid(
            faults[0].message,
            place=faults[0].place,
            hint=faults[0].hint,
            code="cwl",
            faults=tuple(faults),
        )
    return Graph(tuple(workflow.inputs), steps, feeds)


def _step(workflow: Workflow, step: WorkflowStep, around: InForce, faults: list[Invalid]) -> Step:
    at_step = around.within(step)
    inside = at_step.within(step.run)
    feeds = {}
    for name, entry in step.inputs.items():
        found = [_source(each, workflow, entry.place, faults) for each in entry.sources]
        sources = tuple(each for each in found if each is not None)
        feeds[name] = Feed(
            sources, _merge(entry.link_merge, len(sources)), Pick(entry.pick_value), _default(entry, step)
        )
        parameter = step.run.inputs.get(name)
        if parameter is not None and len(sources) == 1 and not _changes(entry):
            kind: Type = ArrayType(parameter.type) if name in step.scatter else parameter.type
            _check_link(workflow, sources[0], kind, entry.place, f"{step.name}/{name}", faults, entry)
    for name, parameter in step.run.inputs.items():
        if name not in step.inputs and parameter.default is MISSING and not types.optional(parameter.type):
            faults.append(
                Invalid(
                    f"The step {step.name!r} does not feed the input {name!r} of {step.run.id or 'what it runs'}.",
                    place=step.place,
                    hint=nearest(name, [each for each in step.inputs if each not in step.run.inputs])
                    if any(each not in step.run.inputs for each in step.inputs)
                    else "",
                    code="cwl",
                )
            )
    body: Any
    if isinstance(step.run, Workflow):
        body = _graph(step.run, inside)
    else:
        body = Leaf(step.run, inside)
    prepared = (
        isinstance(step.run, Workflow)
        or step.when is not None
        or step.loop is not None
        or any(each.value_from is not None or each.load_contents or each.load_listing for each in step.inputs.values())
    )
    return Step(
        inputs=feeds,
        outputs=step.out,
        body=body,
        scatter=Scatter(step.scatter, Cross(step.scatter_method or "dotproduct")) if step.scatter else None,
        prepared=prepared,
        loop=_loop(step) if step.loop is not None else None,
        note=Note(step, at_step, inside),
        place=step.place,
    )


def _loop(step: WorkflowStep) -> Loop:
    assert step.loop is not None
    feeds = {}
    for name, entry in step.loop.inputs.items():
        sources = tuple(Source("", short(each)) for each in entry.sources)
        feeds[name] = Feed(sources, _merge(entry.link_merge, len(sources)), Pick(entry.pick_value), entry.default)
    return Loop(feeds, step.loop.keep_all)


def _changes(entry: StepInput) -> bool:
    return entry.value_from is not None or bool(entry.pick_value) or entry.link_merge not in ("", "listed")


def _default(entry: StepInput, step: WorkflowStep) -> Any:
    if entry.default is MISSING:
        return MISSING
    base = entry.place.rpartition(":")[0] or step.place.rpartition(":")[0]
    try:
        return files.normalised(entry.default, base)
    except FileError as error:
        raise Invalid(f"The default of {entry.name!r}: {error}", place=entry.place, code="cwl") from None


def _merge(written: str, count: int) -> Merge | None:
    if written == "merge_flattened":
        return Merge.FLATTENED
    if written == "merge_nested":
        return Merge.NESTED
    return Merge.NESTED if count > 1 else None


def _source(written: str, workflow: Workflow, place: str, faults: list[Invalid]) -> Source | None:
    """What a source means: ``step/out``, ``in``, with ``#main/`` before it or not."""
    parts = written.rpartition("#")[2].split("/")
    if len(parts) > 1 and parts[-2] in workflow.steps:
        step = workflow.steps[parts[-2]]
        if parts[-1] in step.out:
            return Source(parts[-2], parts[-1])
        hint = nearest(parts[-1], step.out)
        if parts[-1] in step.run.outputs:
            hint = f"Add it to the `out` of the step {parts[-2]!r}."
        faults.append(Invalid(f"The step {parts[-2]!r} gives no {parts[-1]!r}.", place=place, hint=hint, code="cwl"))
        return None
    if parts[-1] in workflow.inputs and (len(parts) == 1 or parts[-2] not in workflow.steps):
        return Source("", parts[-1])
    known = [*workflow.inputs, *(f"{name}/{out}" for name, step in workflow.steps.items() for out in step.out)]
    wanted = "/".join(parts[-2:])
    hint = nearest(wanted, known)
    if not hint.startswith("Did"):
        hint = nearest(parts[-1], known) or hint
    faults.append(Invalid(f"There is no source {wanted!r} in this workflow.", place=place, hint=hint, code="cwl"))
    return None


def _check_link(
    workflow: Workflow,
    source: Source,
    sink: Type,
    place: str,
    name: str,
    faults: list[Invalid],
    entry: StepInput | None = None,
) -> None:
    kind = _source_type(workflow, source)
    if kind is None:
        return
    if entry is not None and entry.default is not MISSING:
        return
    if not types.joins(kind, sink):
        origin = f"{source.step}/{source.port}" if source.step else source.port
        faults.append(
            Invalid(
                f"{origin!r} is {types.told(kind)}, but {name!r} needs {types.told(sink)}.",
                place=place,
                code="cwl",
            )
        )


def _source_type(workflow: Workflow, source: Source) -> Type | None:
    if not source.step:
        return workflow.inputs[source.port].type
    step = workflow.steps[source.step]
    parameter: Parameter | None = step.run.outputs.get(source.port)
    if parameter is None:
        return None
    kind = parameter.type
    if step.loop is not None:
        return None
    for _ in step.scatter if step.scatter_method == "nested_crossproduct" else step.scatter[:1]:
        kind = ArrayType(kind)
    return kind
