"""One run of a CommandLineTool or ExpressionTool: from its inputs to work, and from what the work left to outputs."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from isthmus.workflows.cwl import command, context, inputs, needs, outputs, signatures
from isthmus.workflows.cwl.context import Context
from isthmus.workflows.cwl.expressions import Script
from isthmus.workflows.cwl.files import FileError
from isthmus.workflows.cwl.model import CommandLineTool, ExpressionTool, InForce
from isthmus.workflows.cwl.staging import Stage
from isthmus.workflows.cwl.trees import LocalTree, SiteTree
from isthmus.workflows.hidden import Hidden
from isthmus.workflows.locations import path_of
from isthmus.workflows.work import Ended, Folders, Left, StepFailed, Wanted, Work


class ToolRun:
    """A run of a tool. `need` first, then `work`, then `collect` when it has ended. Raises StepFailed throughout."""

    def __init__(
        self,
        tool: CommandLineTool,
        in_force: InForce,
        script: Script,
        given: Mapping[str, Any],
        *,
        top: bool,
        hidden: Hidden | None = None,
    ):
        self.tool = tool
        self._hidden = hidden or Hidden()
        self._context = context.context(tool, in_force, script)
        self._context.inputs = inputs.ready(self._context, given, top=top)
        for name in secrets(in_force):
            if name in tool.inputs:
                self._hidden.add(self._context.inputs.get(name))
        self.need, self._sizes = needs.resources(self._context)
        self.reusable = needs.reusable(self._context)
        self._stage: Stage | None = None
        self._work: Work | None = None

    @property
    def context(self) -> Context:
        """Its inputs and runtime as expressions see them."""
        return self._context

    def identity(self, identify: Callable[[str], str]) -> dict[str, Any]:
        """See `isthmus.workflows.program.Run`."""
        return {
            "tool": signatures.of_tool(self.tool),
            "requirements": signatures.of_requirements(self._context.in_force),
            "inputs": {
                name: signatures.of_value(value, identify) for name, value in sorted(self._context.inputs.items())
            },
        }

    def work(self, folders: Folders, *, contained: bool = True) -> Work:
        """What is to be done, with paths as the command sees them. ``contained``: containers can be had."""
        now = self._context
        image, own_work = needs.image(now)
        if image is not None and not contained and not image.required:
            image = None
        if image is not None and own_work:
            folders = replace(folders, work=own_work.rstrip("/"))
        now.runtime = {**self._sizes, "outdir": folders.work, "tmpdir": folders.tmp}
        stage = self._stage = Stage(folders)
        now.inputs = stage.inputs(now.inputs)
        listing = now.in_force.get("InitialWorkDirRequirement")
        if listing is not None:
            asked = now.in_force.get("InplaceUpdateRequirement")
            stage.initial(
                now,
                listing.get("listing"),
                in_place=bool(asked and asked.get("inplaceUpdate")),
                in_container=image is not None and now.in_force.required("DockerRequirement"),
            )
        argv = command.words(now, self.tool)
        if not argv:
            raise StepFailed("The tool has no command: neither a baseCommand nor arguments.")
        argv = self._launched(argv)
        if any(self._hidden.within(word) for word in argv):
            raise StepFailed(
                "A secret input would stand on the command line, where everybody on the machine reads it: "
                "hand it over by EnvVarRequirement or in a file of InitialWorkDirRequirement."
            )
        env = {**needs.environment(now), "HOME": folders.work, "TMPDIR": folders.tmp}
        self._work = Work(
            argv=tuple(argv),
            env=env,
            stdin=self._stream("stdin"),
            stdout=self._stream("stdout"),
            stderr=self._stream("stderr"),
            placed=tuple(stage.placed),
            image=image,
            need=self.need,
            network=needs.network(now),
            reads=tuple(sorted(stage.read)),
            work=folders.work,
            hidden=self._hidden,
            success=tuple(sorted(self.tool.success_codes)),
        )
        return self._work

    def _launched(self, argv: list[str]) -> list[str]:
        asked = self._context.in_force.get("cwltool:MPIRequirement")
        if asked is None:
            return argv
        count = int(self._context.number(asked.get("processes", 1), "MPIRequirement: processes"))
        return argv if count == 0 else ["mpirun", "-n", str(count), *argv]

    def _stream(self, name: str) -> str:
        written = getattr(self.tool, name)
        if not written:
            return ""
        found = self._context.value(written)
        if found is None and name != "stdin":
            return ""
        if not isinstance(found, str):
            raise StepFailed(f"`{name}` must be a file's name, but {written!r} is {found!r}.")
        if name != "stdin":
            target = os.path.normpath(os.path.join("/", found))
            if found.startswith("/") or ".." in found.split("/") or target == "/":
                raise StepFailed(f"`{name}` must be a file within the work folder, not {found!r}.")
        return found

    def wanted(self) -> Wanted:
        """See `isthmus.workflows.program.Run`."""
        assert self._work is not None
        return outputs.wanted(self._context, self.tool, self._work)

    def collect(self, ended: Ended, left: Left) -> dict[str, Any]:
        """The outputs, from what the command left in its work folder."""
        assert self._stage is not None and self._work is not None
        now = self._context
        if ended.timed_out:
            raise StepFailed(
                f"It ran longer than its time limit of {self.need.time:g} s.",
                log=ended.log,
                rest=ended.rest,
                exit_code=ended.exit_code,
            )
        if ended.signal:
            said = f"It was ended by signal {ended.signal}."
            raise StepFailed(said, log=ended.log, rest=ended.rest, exit_code=128 + ended.signal)
        if ended.exit_code not in self.tool.success_codes:
            said = f"It ended with exit code {ended.exit_code}."
            raise StepFailed(said, log=ended.log, rest=ended.rest, exit_code=ended.exit_code)
        if now.process.version >= "v1.1":
            now.runtime["exitCode"] = ended.exit_code
        tree: outputs.Tree = LocalTree(left.folder, self._origins) if left.folder else SiteTree(left)
        return outputs.collect(now, self.tool, self._work, self._stage.seen, tree)

    def _origins(self) -> dict[str, str]:
        """The locations of inputs by their real paths: links in the work folder may lead there."""
        assert self._stage is not None
        places = [*self._stage.seen.values(), *(each.location for each in self._stage.placed if each.location)]
        pairs = ((path_of(place), place) for place in places)
        return {os.path.realpath(path): place for path, place in pairs if path}


def secrets(in_force: InForce) -> list[str]:
    """The inputs that `cwltool:Secrets` names."""
    asked = in_force.get("cwltool:Secrets")
    return [str(each).rpartition("#")[2].rpartition("/")[2] for each in (asked or {}).get("secrets") or ()]


def expression(tool: ExpressionTool, in_force: InForce, script: Script, given: Mapping[str, Any], *, top: bool) -> Any:
    """The outputs of an ExpressionTool. Raises StepFailed."""
    now = context.context(tool, in_force, script)
    now.inputs = inputs.ready(now, given, top=top)
    _, sizes = needs.resources(now)
    now.runtime = {**sizes, "outdir": "", "tmpdir": ""}
    found = now.value(tool.expression)
    if not isinstance(found, Mapping):
        raise StepFailed(f"The expression of {tool.id} must give a record of its outputs, but it gave {found!r}.")
    try:
        made = {name: outputs.kept(found.get(name), tool.file) for name in tool.outputs}
    except FileError as error:
        raise StepFailed(str(error)) from None
    outputs.check(tool, made)
    return made
