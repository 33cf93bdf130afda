"""What people type into single fields, read; what is wrong is told at its field."""

from typing import Any

from isthmus import documents
from isthmus.domain.errors import Invalid


def whole(text: str, place: str) -> int:
    """A whole number. Raises Invalid."""
    try:
        return int(text)
    except ValueError:
        raise Invalid(f"{text[:40]!r} is not a whole number.", place=place) from None


def number(text: str, place: str) -> float:
    """Any number. Raises Invalid."""
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{text[:40]!r} is not a number.", place=place) from None


def document(text: str, place: str) -> Any:
    """YAML or JSON, read as the command line reads files. Raises Invalid that names the line."""
    try:
        return documents.parse(text, "")
    except Invalid as error:
        line = error.place.partition(":")[2]
        message = f"Line {line}: {error.message}" if line else error.message
        raise Invalid(message, place=place, hint=error.hint) from None
