"""What expressions of one process see, and what is in force for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.workflows.cwl.expressions import ExpressionError, Expressions, Script
from isthmus.workflows.cwl.model import InForce, Process
from isthmus.workflows.work import StepFailed


@dataclass(slots=True)
class Context:
    """One evaluation of a process: its inputs as they are so far, and its runtime."""

    process: Process
    in_force: InForce
    expressions: Expressions
    inputs: dict[str, Any] = field(default_factory=dict)
    runtime: dict[str, Any] = field(default_factory=dict)

    def value(self, text: Any, self_: Any = None, *, strip: bool = True) -> Any:
        """The value of a text with expressions. Raises StepFailed."""
        if not isinstance(text, str) or ("$(" not in text and "${" not in text):
            return text
        names: Mapping[str, Any] = {"inputs": self.inputs, "self": self_, "runtime": self.runtime}
        try:
            return self.expressions.value(text, names, strip=strip)
        except ExpressionError as error:
            raise StepFailed(f"An expression of {self.process.id or self.process.place} fails: {error}") from None

    def text(self, text: Any, what: str, self_: Any = None) -> str:
        """The same where a string must come out. Raises StepFailed."""
        found = self.value(text, self_)
        if not isinstance(found, str):
            raise StepFailed(f"{what} must be a string, but {text!r} is {found!r}.")
        return found

    def number(self, text: Any, what: str) -> float:
        """The same where a number must come out. Raises StepFailed."""
        found = self.value(text)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise StepFailed(f"{what} must be a number, but it is {found!r}.")
        return found

    def flag(self, text: Any, what: str) -> bool:
        """The same where true or false must come out. Raises StepFailed."""
        found = self.value(text)
        if not isinstance(found, bool):
            raise StepFailed(f"{what} must be true or false, but it is {found!r}.")
        return found


def context(process: Process, in_force: InForce, script: Script) -> Context:
    """A context for a process, with the JavaScript that it may use."""
    asked = in_force.get("InlineJavascriptRequirement")
    library: tuple[str, ...] | None = None
    if asked is not None:
        written = asked.get("expressionLib") or ()
        library = tuple(str(each) for each in (written if isinstance(written, list | tuple) else [written]))
    return Context(process, in_force, Expressions(script, library, process.version))
