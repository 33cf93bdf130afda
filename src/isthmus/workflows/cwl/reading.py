"""From a document as it is written to the model. What is wrong is said with its file and line, several at once."""

from collections.abc import Iterator, Mapping
from typing import Any

from isthmus.documents import Map, Seq, place_of
from isthmus.domain.errors import Invalid, nearest
from isthmus.workflows.cwl import loading, vocabulary
from isthmus.workflows.cwl.loading import Library, short
from isthmus.workflows.cwl.model import (
    Binding,
    CommandLineTool,
    ExpressionTool,
    LoopSpec,
    Operation,
    OutputBinding,
    Parameter,
    Process,
    SecondaryFile,
    StepInput,
    Type,
    Workflow,
    WorkflowOutput,
    WorkflowStep,
)
from isthmus.workflows.cwl.types import STREAMS
from isthmus.workflows.cwl.typing_dsl import TypeReader
from isthmus.workflows.dataflow.graph import MISSING

MOST_FAULTS = 10
DEEPEST = 64
UNSUPPORTED = "unsupported-requirement"  # the code of faults that another runner might not have


def read(address: str, library: Library | None = None) -> Process:
    """The process at an address, and all that it runs. Raises Invalid; ``faults`` holds each."""
    reader = _Reader(library or Library())
    found = reader.process(address, "", "", 0)
    if reader.faults:
        first = reader.faults[0]
        raise Invalid(
            first.message,
            place=first.place,
            hint=first.hint,
            code=first.code,
            faults=tuple(reader.faults[:MOST_FAULTS]),
        )
    assert found is not None
    return found


class _Reader:
    """One reading: gathers faults, so that several are told at once."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.faults: list[Invalid] = []
        self._version_now = vocabulary.VERSIONS[-1]
        self._since = {name: version for version, names in vocabulary.SINCE.items() for name in names}
        self._read: dict[str, Process] = {}

    def fault(self, message: str, place: str, hint: str = "") -> None:
        self.faults.append(Invalid(message, place=place, hint=hint, code="cwl"))

    # ---- processes

    def process(self, address: str, place: str, version: str, depth: int) -> Process | None:
        """The process at an address; None where there is a fault."""
        if depth > DEEPEST:
            raise Invalid("This workflow runs itself, directly or by others.", place=place, code="cwl")
        if address not in self._read:
            try:
                node = self.library.process(address, place)
            except Invalid as error:
                self.faults.append(error)
                return None
            found = self._process(node, version, depth, address)
            if found is None:
                return None
            self._read[address] = found
        return self._read[address]

    def _process(self, node: Map, version: str, depth: int, address: str = "") -> Process | None:
        kind = node.get("class")
        place = place_of(node, "class")
        if kind not in vocabulary.FIELDS:
            if kind is None:
                self.fault(
                    "This is no CWL process: it has no `class`.", place, "Write `class: CommandLineTool` or `Workflow`."
                )
            else:
                self.fault(f"There is no class of processes {kind!r}.", place, nearest(str(kind), vocabulary.FIELDS))
            return None
        version = self._version(node, version)
        outer, self._version_now = self._version_now, version
        try:
            return self._of_kind(kind, node, version, depth, address)
        finally:
            self._version_now = outer

    def _of_kind(self, kind: str, node: Map, version: str, depth: int, address: str) -> Process | None:
        place = place_of(node, "class")
        self._fields(node, vocabulary.FIELDS[kind], f"a {kind}")
        namespaces = node.get("$namespaces")
        requirements = self._requirements(node, "requirements", namespaces)
        hints = self._requirements(node, "hints", namespaces)
        types = TypeReader(self._schema_types(requirements, hints), self.fault, self._parameter, version)
        inputs = dict(self._parameters(node, "inputs", types, vocabulary.INPUT))
        allowed = vocabulary.WORKFLOW_OUTPUT if kind == "Workflow" else vocabulary.OUTPUT
        outputs = dict(self._parameters(node, "outputs", types, allowed))
        shared: dict[str, Any] = {
            "id": short(str(node.get("id", ""))) or short(address),
            "version": version,
            "inputs": inputs,
            "outputs": outputs,
            "requirements": requirements,
            "hints": hints,
            "namespaces": dict(namespaces) if isinstance(namespaces, Mapping) else {},
            "schemas": tuple(loading.resolve(node.file, str(each)) for each in _list(node.get("$schemas"))),
            "place": place_of(node),
            "file": node.file,
            "label": str(node.get("label") or ""),
            "doc": _doc(node.get("doc")),
        }
        if kind == "CommandLineTool":
            return self._tool(node, shared)
        if kind == "ExpressionTool":
            if not isinstance(node.get("expression"), str):
                self.fault("An ExpressionTool needs an `expression`.", place)
                return None
            return ExpressionTool(**shared, expression=node["expression"])
        if kind == "Operation":
            return Operation(**shared)
        return self._workflow(node, shared, depth)

    def _version(self, node: Map, inherited: str) -> str:
        found = node.get("cwlVersion")
        if found is None:
            if not inherited:
                self.fault("It does not say its `cwlVersion`.", place_of(node), "Write `cwlVersion: v1.2`.")
            return inherited or vocabulary.VERSIONS[-1]
        if found not in vocabulary.VERSIONS:
            known = ", ".join(vocabulary.VERSIONS)
            self.fault(
                f"This version of CWL is not known here: {found}.", place_of(node, "cwlVersion"), f"Known: {known}."
            )
            return vocabulary.VERSIONS[-1]
        return str(found)

    def _tool(self, node: Map, shared: dict[str, Any]) -> CommandLineTool:
        words = _list(node.get("baseCommand"))
        arguments: list[str | Binding] = []
        for each in _list(node.get("arguments")):
            arguments.append(self._binding(each) if isinstance(each, Map) else str(each))
        stdout, stderr, stdin = (str(node.get(name) or "") for name in ("stdout", "stderr", "stdin"))
        for name, parameter in shared["outputs"].items():
            if parameter.stream == "stdout":
                stdout = stdout or f"{name}.stdout"
            if parameter.stream == "stderr":
                stderr = stderr or f"{name}.stderr"
        for name, parameter in shared["inputs"].items():
            if parameter.stream == "stdin":
                if stdin:
                    self.fault("Both `stdin` and an input of type stdin say what is read.", parameter.place)
                stdin = f"$(inputs.{name}.path)"
        return CommandLineTool(
            **shared,
            base_command=tuple(str(word) for word in words),
            arguments=tuple(arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            success_codes=tuple(_list(node.get("successCodes"))) or (0,),
            temporary_codes=tuple(_list(node.get("temporaryFailCodes"))),
        )

    # ---- workflows

    def _workflow(self, node: Map, shared: dict[str, Any], depth: int) -> Workflow:
        sources = {}
        for name, entry in _entries(node.get("outputs"), "id", "type"):
            spec = entry if isinstance(entry, Map) else Map()
            sources[name] = WorkflowOutput(
                sources=tuple(str(each) for each in _list(spec.get("outputSource"))),
                link_merge=self._word(spec, "linkMerge", vocabulary.MERGES),
                pick_value=self._word(spec, "pickValue", vocabulary.PICKS),
            )
        if "steps" not in node:
            self.fault("A Workflow has `steps`.", place_of(node), "Write `steps: {}` if it has none.")
        steps = {}
        for name, entry in _entries(node.get("steps"), "id", ""):
            if not isinstance(entry, Map):
                self.fault(f"The step {name!r} holds no names and values.", place_of(node.get("steps"), name))
                continue
            step = self._step(name, entry, shared["version"], depth, node.get("$namespaces"), node.get("$schemas"))
            if step is not None:
                steps[name] = step
        return Workflow(**shared, steps=steps, sources=sources)

    def _step(
        self, name: str, node: Map, version: str, depth: int, namespaces: Any, schemas: Any
    ) -> WorkflowStep | None:
        self._fields(node, vocabulary.STEP, f"the step {name!r}")
        run = node.get("run")
        if isinstance(run, str):
            process = self.process(loading.resolve(node.file, run), place_of(node, "run"), version, depth + 1)
        elif isinstance(run, Map):
            if namespaces:
                run.setdefault("$namespaces", namespaces)
            if schemas:
                run.setdefault("$schemas", schemas)
            process = self._process(run, version, depth + 1)
        else:
            self.fault(f"The step {name!r} does not say what it runs.", place_of(node), "Write `run: tool.cwl`.")
            process = None
        if process is None:
            return None
        inputs = dict(self._step_inputs(node, "in"))
        out = tuple(
            short(str(each.get("id")) if isinstance(each, Map) else str(each)) for each in _list(node.get("out"))
        )
        if "out" not in node:
            self.fault(f"The step {name!r} does not say its `out`.", place_of(node), "Write `out: []` if it has none.")
        for each in out:
            if each not in process.outputs:
                self.fault(
                    f"The step {name!r} has no output {each!r}.",
                    place_of(node, "out"),
                    nearest(each, process.outputs),
                )
        requirements = self._requirements(node, "requirements", namespaces)
        scatter = tuple(short(str(each)) for each in _list(node.get("scatter")))
        for each in scatter:
            if each not in inputs:
                self.fault(
                    f"The step {name!r} scatters over {each!r}, which is none of its inputs.",
                    place_of(node, "scatter"),
                    nearest(each, inputs),
                )
        method = self._word(node, "scatterMethod", vocabulary.METHODS)
        if len(scatter) > 1 and not method:
            self.fault(
                f"The step {name!r} scatters over several inputs, but does not say its `scatterMethod`.",
                place_of(node, "scatter"),
                "There is: " + ", ".join(vocabulary.METHODS) + ".",
            )
        loop = self._loop(requirements.pop("cwltool:Loop", None))
        return WorkflowStep(
            name=name,
            run=process,
            inputs=inputs,
            out=out,
            scatter=scatter,
            scatter_method=method,
            when=None if node.get("when") is None else node["when"],
            loop=loop,
            requirements=requirements,
            hints=self._requirements(node, "hints", namespaces),
            place=place_of(node),
        )

    def _loop(self, spec: Any) -> LoopSpec | None:
        if spec is None:
            return None
        if "loopWhen" not in spec:
            self.fault("A loop needs `loopWhen`.", place_of(spec))
        inputs = {}
        for name, entry in _entries(spec.get("loop"), "id", "loopSource"):
            node = entry if isinstance(entry, Map) else Map({"loopSource": entry})
            inputs[name] = StepInput(
                name=name,
                sources=tuple(str(each) for each in _list(node.get("loopSource"))),
                link_merge=self._word(node, "linkMerge", vocabulary.MERGES),
                pick_value=self._word(node, "pickValue", vocabulary.PICKS),
                default=node.get("default", MISSING),
                value_from=node.get("valueFrom"),
            )
        method = spec.get("outputMethod", "last")
        if method not in ("last", "all"):
            self.fault(f"There is no outputMethod {method!r}.", place_of(spec, "outputMethod"), "There is: all, last.")
        return LoopSpec(when=str(spec.get("loopWhen", "")), inputs=inputs, keep_all=method == "all")

    def _step_inputs(self, node: Map, field: str) -> Iterator[tuple[str, StepInput]]:
        if field not in node:
            self.fault("A step has `in`.", place_of(node), "Write `in: {}` if it has none.")
        for name, entry in _entries(node.get(field), "id", "source"):
            spec = entry if isinstance(entry, Map) else Map({"source": entry})
            self._fields(spec, vocabulary.STEP_INPUT, f"the input {name!r}")
            default = spec.get("default", MISSING)
            yield (
                name,
                StepInput(
                    name=name,
                    sources=tuple(str(each) for each in _list(spec.get("source"))),
                    link_merge=self._word(spec, "linkMerge", vocabulary.MERGES)
                    or ("merge_nested" if isinstance(spec.get("source"), list) and len(spec["source"]) != 1 else "")
                    or ("listed" if isinstance(spec.get("source"), list) else ""),
                    pick_value=self._word(spec, "pickValue", vocabulary.PICKS),
                    default=default,
                    value_from=spec.get("valueFrom"),
                    load_contents=bool(spec.get("loadContents", False)),
                    load_listing=self._word(spec, "loadListing", vocabulary.LISTINGS),
                    place=place_of(spec) or place_of(node.get(field), name),
                ),
            )

    # ---- parameters

    def _parameters(
        self, node: Map, field: str, types: TypeReader, allowed: frozenset[str]
    ) -> Iterator[tuple[str, Parameter]]:
        if field not in node:
            self.fault(f"It has no `{field}`.", place_of(node), f"Write `{field}: []` if there are none.")
        where = node.get(field)
        if where is not None and not isinstance(where, Map | Seq):
            self.fault(f"`{field}` is neither a map nor a list.", place_of(node, field))
            return
        for name, entry in _entries(where, "id", "type"):
            spec = entry if isinstance(entry, Map) and ("type" in entry or "id" in entry or _is_spec(entry)) else None
            if spec is None:
                spec = Map({"type": entry}, file=node.file, line=_line_in(where, name, node.line))
            if spec.get("type") is None:
                self.fault(f"{name!r} has no type.", place_of(spec) or place_of(where, name))
                continue
            self._fields(spec, allowed, f"{name!r}")
            found = self._parameter(name, spec, types)
            if found is not None:
                yield name, found

    def _parameter(self, name: str, spec: Map, types: TypeReader) -> Parameter | None:
        written = spec.get("type")
        stream = written if isinstance(written, str) and written in STREAMS else ""
        kind: Type | None = "File" if stream else types.read(written, spec, "type")
        if kind is None:
            return None
        binding = spec.get("inputBinding")
        output = spec.get("outputBinding")
        return Parameter(
            name=name,
            type=kind,
            default=spec.get("default", MISSING),
            binding=self._binding(binding) if isinstance(binding, Map) else None,
            output=self._output_binding(output) if isinstance(output, Map) else None,
            secondary_files=self._secondary(spec.get("secondaryFiles"), types.version),
            format=tuple(str(each) for each in _list(spec.get("format"))),
            load_contents=bool(spec.get("loadContents", False)),
            load_listing=self._word(spec, "loadListing", vocabulary.LISTINGS)
            or (self._word(binding, "loadListing", vocabulary.LISTINGS) if isinstance(binding, Map) else ""),
            stream=stream,
            place=place_of(spec),
            label=str(spec.get("label") or ""),
            doc=_doc(spec.get("doc")),
        )

    def _binding(self, node: Map) -> Binding:
        self._fields(node, vocabulary.BINDING, "a binding")
        value = node.get("valueFrom")
        return Binding(
            position=node.get("position") or 0,
            prefix=None if node.get("prefix") is None else str(node["prefix"]),
            separate=node.get("separate") is not False,
            item_separator=node.get("itemSeparator"),
            value_from=None if value is None else str(value),
            shell_quote=node.get("shellQuote") is not False,
            load_contents=bool(node.get("loadContents", False)),
        )

    def _output_binding(self, node: Map) -> OutputBinding:
        self._fields(node, vocabulary.OUTPUT_BINDING, "an outputBinding")
        return OutputBinding(
            glob=tuple(str(each) for each in _list(node.get("glob"))),
            output_eval=node.get("outputEval"),
            load_contents=bool(node.get("loadContents", False)),
            load_listing=self._word(node, "loadListing", vocabulary.LISTINGS),
        )

    def _secondary(self, node: Any, version: str) -> tuple[SecondaryFile, ...]:
        found = []
        for each in _list(node):
            if isinstance(each, Mapping):
                if version == "v1.0":
                    self.fault("A secondary file is a text in CWL v1.0, not a map.", place_of(each))
                found.append(SecondaryFile(str(each.get("pattern", "")), each.get("required")))
            elif version != "v1.0" and str(each).endswith("?") and not str(each).startswith(("$(", "${")):
                found.append(SecondaryFile(str(each)[:-1], False))
            else:
                found.append(SecondaryFile(str(each)))
        return tuple(found)

    # ---- requirements

    def _requirements(self, node: Map, field: str, namespaces: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, entry in _entries(node.get(field), "class", ""):
            known = _known_name(name, namespaces)
            if known not in vocabulary.REQUIREMENTS:
                if field == "requirements":
                    self.faults.append(
                        Invalid(
                            f"There is no requirement {name!r} here.",
                            place=place_of(node.get(field), name) or place_of(entry) or place_of(node, field),
                            hint=nearest(name, vocabulary.REQUIREMENTS)
                            or "As a hint it would be ignored; as a requirement it can't be.",
                            code=UNSUPPORTED,
                        )
                    )
                continue
            spec = entry if isinstance(entry, Map) else Map(file=node.file, line=node.line)
            since = self._since.get(known)
            if since is not None and since > self._version_now and known == name:
                if field == "requirements":
                    self.fault(
                        f"{name} came with CWL {since}; this is {self._version_now}.",
                        place_of(spec) or place_of(node, field),
                        f"Write `cwlVersion: {since}`.",
                    )
                continue
            if known == "ResourceRequirement" and self._version_now < "v1.2":
                self._whole(spec)
            if field == "requirements":
                self._fields(spec, vocabulary.REQUIREMENTS[known] | {"class"}, known)
            found[known] = spec
        return found

    def _whole(self, spec: Map) -> None:
        for name, value in spec.items():
            if isinstance(value, float):
                self.fault(f"{name} may have a fraction from CWL v1.2 on only.", place_of(spec, name))

    def _schema_types(self, requirements: Mapping[str, Any], hints: Mapping[str, Any]) -> list[Any]:
        spec = requirements.get("SchemaDefRequirement") or hints.get("SchemaDefRequirement") or {}
        found: list[Any] = []
        for each in _list(spec.get("types")):
            found += each if isinstance(each, list) else [each]
        return found

    # ---- rules for all

    def _fields(self, node: Map, allowed: frozenset[str], what: str) -> None:
        for name in node:
            since = self._since.get(name)
            if since is not None and name in allowed and since > self._version_now:
                self.fault(
                    f"{name!r} came with CWL {since}; this is {self._version_now}.",
                    place_of(node, name),
                    f"Write `cwlVersion: {since}`.",
                )
            if name not in allowed and ":" not in name and not name.startswith(("$", "_")):
                self.fault(
                    f"{what[0].upper() + what[1:]} has no field {name!r}.", place_of(node, name), nearest(name, allowed)
                )

    def _word(self, node: Map, field: str, known: tuple[str, ...]) -> str:
        value = node.get(field)
        if value is None:
            return ""
        word = short(str(value))
        if word not in known:
            self.fault(f"There is no {field} {value!r}.", place_of(node, field), "There is: " + ", ".join(known) + ".")
            return ""
        return word


def _known_name(name: str, namespaces: Any) -> str:
    """The name by which a requirement is known here: prefixes of its document are resolved."""
    prefix, colon, rest = name.partition(":")
    if colon and isinstance(namespaces, Mapping) and namespaces.get(prefix) == vocabulary.EXTENSIONS:
        name = f"cwltool:{rest}"
    elif name.startswith(vocabulary.EXTENSIONS):
        name = f"cwltool:{name.removeprefix(vocabulary.EXTENSIONS)}"
    return vocabulary.SUCCESSORS.get(name, name)


def _entries(node: Any, key: str, predicate: str) -> Iterator[tuple[str, Any]]:
    """The entries of a field that is a map by ``key``, or a list of maps that have it."""
    if isinstance(node, Map):
        for name, value in node.items():
            yield (name if key == "class" else short(name)), value
    elif isinstance(node, list):
        for each in node:
            if isinstance(each, Mapping) and each.get(key) is not None:
                yield (str(each[key]) if key == "class" else short(str(each[key]))), each
            elif isinstance(each, list):
                yield from _entries(each, key, predicate)


def _is_spec(entry: Map) -> bool:
    return not ({"items", "fields", "symbols"} & set(entry))


def _line_in(where: Any, name: str, line: int) -> int:
    return where.lines.get(name, line) if isinstance(where, Map) else line


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _doc(value: Any) -> str:
    return "\n".join(str(each) for each in _list(value))
