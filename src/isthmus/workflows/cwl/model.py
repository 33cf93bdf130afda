"""CWL's nouns as the rest of this package works with them: parsed, resolved, each thing said in one way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.workflows.dataflow.graph import MISSING

# ---- types. A primitive is its name: null, boolean, int, long, float, double, string, File, Directory, Any.


@dataclass(frozen=True, slots=True)
class ArrayType:
    """A list of items."""

    items: "Type"
    binding: "Binding | None" = None
    load_listing: str = ""


@dataclass(frozen=True, slots=True)
class EnumType:
    """One of some texts."""

    symbols: tuple[str, ...]
    binding: "Binding | None" = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class RecordType:
    """Named fields."""

    fields: "Mapping[str, Parameter]"
    binding: "Binding | None" = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class UnionType:
    """Any of several types."""

    options: "tuple[Type, ...]"


Type = str | ArrayType | EnumType | RecordType | UnionType


# ---- what stands at parameters


@dataclass(frozen=True, slots=True)
class Binding:
    """How a value becomes words of a command line."""

    position: int | str = 0
    prefix: str | None = None
    separate: bool = True
    item_separator: str | None = None
    value_from: str | None = None
    shell_quote: bool = True
    load_contents: bool = False


@dataclass(frozen=True, slots=True)
class OutputBinding:
    """How an output is found among what a command left."""

    glob: tuple[str, ...] = ()
    output_eval: str | None = None
    load_contents: bool = False
    load_listing: str = ""


@dataclass(frozen=True, slots=True)
class SecondaryFile:
    """A file that belongs to another. ``required`` may be an expression."""

    pattern: str
    required: bool | str | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """An input or output of a process, or a field of a record."""

    name: str
    type: Type
    default: Any = MISSING
    binding: Binding | None = None
    output: OutputBinding | None = None
    secondary_files: tuple[SecondaryFile, ...] = ()
    format: tuple[str, ...] = ()
    load_contents: bool = False
    load_listing: str = ""
    stream: str = ""  # stdin, stdout, stderr: the shortcut types
    place: str = ""
    label: str = ""
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What the three kinds share. ``requirements`` and ``hints`` are by class, as written."""

    id: str
    version: str
    inputs: Mapping[str, Parameter]
    outputs: Mapping[str, Parameter]
    requirements: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    namespaces: Mapping[str, str] = field(default_factory=dict)
    schemas: tuple[str, ...] = ()  # ontologies that its formats are of
    place: str = ""
    file: str = ""
    label: str = ""
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLineTool(Process):
    """A command."""

    base_command: tuple[str, ...] = ()
    arguments: tuple[str | Binding, ...] = ()
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    success_codes: tuple[int, ...] = (0,)
    temporary_codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionTool(Process):
    """An expression whose value is the outputs."""

    expression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Process):
    """A step that somebody means to write: it can't be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """How an input of a step is fed."""

    name: str
    sources: tuple[str, ...] = ()
    link_merge: str = ""
    pick_value: str = ""
    default: Any = MISSING
    value_from: str | None = None
    load_contents: bool = False
    load_listing: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSpec:
    """cwltool:Loop. ``inputs``: what feeds the next round."""

    when: str
    inputs: Mapping[str, StepInput]
    keep_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowStep:
    """One step."""

    name: str
    run: Process
    inputs: Mapping[str, StepInput]
    out: tuple[str, ...]
    scatter: tuple[str, ...] = ()
    scatter_method: str = ""
    when: str | None = None
    loop: LoopSpec | None = None
    requirements: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOutput:
    """Where an output of a workflow comes from."""

    sources: tuple[str, ...] = ()
    link_merge: str = ""
    pick_value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow(Process):
    """Steps, and what feeds the outputs."""

    steps: Mapping[str, WorkflowStep]
    sources: Mapping[str, WorkflowOutput]


# ---- requirements in force at a process


@dataclass(frozen=True, slots=True)
class InForce:
    """The requirements and hints that hold for a process: those nearest to it win, and requirements over hints."""

    requirements: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)

    def within(self, inner: "Process | WorkflowStep") -> "InForce":
        """Those that hold inside a process or step that stands here."""
        if not inner.requirements and not inner.hints:
            return self
        return InForce({**self.requirements, **inner.requirements}, {**self.hints, **inner.hints})

    def get(self, name: str) -> Any:
        """What is asked for under this class; None if nothing is."""
        found = self.requirements.get(name)
        return self.hints.get(name) if found is None else found

    def required(self, name: str) -> bool:
        """Whether it is a requirement, not a hint."""
        return name in self.requirements


def processes(process: Process) -> Iterator[Process]:
    """A process and all those in it."""
    yield process
    if isinstance(process, Workflow):
        for step in process.steps.values():
            yield from processes(step.run)
