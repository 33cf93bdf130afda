"""Native options: what a person may say to a site's batch system in its own words, checked before anything is sent.

SiteSpec.options ─────────────┐
JobSpec.site_options[kind] ───┼─► merge ─► checked values by name
JobSpec.site_options[site] ───┘
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from isthmus.domain.errors import Invalid, nearest

Type = Literal["text", "whole", "flag", "flag or text", "list", "words", "map"]

_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
# A line break would begin a directive of its own.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Option:
    """One option: what it takes, and what it means.

    ``text``: a text or a number; ``list``: texts, or one text, joined by commas; ``words``: raw words for the submit
    command; ``map``: names with values.
    """

    type: Type
    meaning: str
    flag: str = ""  # how the batch system calls it, such as "--account"; "" when the kind handles it itself

    def read(self, value: object, place: str) -> Any:
        """The value in its proper form. Raises Invalid."""
        match self.type:
            case "whole":
                # A site's address can hold texts only, so a number may be one.
                if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
                    raise Invalid(f"{value!r} is not a whole number.", place=place)
                return int(str(value))
            case "flag" | "flag or text":
                found = value if isinstance(value, bool) else _FLAGS.get(str(value).lower())
                if found is None and self.type == "flag":
                    raise Invalid(f"{value!r} is neither true nor false.", place=place)
                return _text(value, place) if found is None else found
            case "list":
                return ",".join(_texts(value, place))
            case "words":
                if isinstance(value, str):
                    raise Invalid("Write the words as a list.", place=place, hint=f"Such as {value.split()!r}.")
                return tuple(_texts(value, place))
            case "map":
                if not isinstance(value, Mapping):
                    raise Invalid(f"{value!r} is not a set of names with values.", place=place)
                return {_text(name, place): _text(one, f"{place}.{name}") for name, one in value.items()}
            case _:
                return _text(value, place)


EXTRA = Option("words", "further words for the submit command, as they are")


def check_options(
    given: Mapping[str, Any], known: Mapping[str, Option], elsewhere: Mapping[str, str], place: str
) -> dict[str, Any]:
    """The options in their proper form. ``elsewhere``: names that are said in another way, and how.

    Raises Invalid for an unknown name, with the nearest right one, and for a value of the wrong type.
    """
    found = {}
    for name, value in given.items():
        where = f"{place}.{name}"
        key = name.lstrip("-").replace("-", "_")
        if key not in known:
            hint = elsewhere.get(key) or nearest(key, known) or "Give it as words under `extra`."
            raise Invalid(f"There is no option {name!r}.", place=where, hint=hint)
        found[key] = known[key].read(value, where)
    return found


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win; ``extra`` words add up."""
    merged: dict[str, Any] = {}
    for layer in layers:
        words = (*merged.get("extra", ()), *layer.get("extra", ()))
        merged.update(layer)
        if words:
            merged["extra"] = words
    return merged


def _texts(value: object, place: str) -> list[str]:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, Sequence):
        raise Invalid(f"{value!r} is not a list of texts.", place=place)
    return [_text(one, f"{place}[{number}]") for number, one in enumerate(value)]


def _text(value: object, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Invalid(f"{value!r} is not a text.", place=place)
    text = str(value)
    if not text.strip():
        raise Invalid("It is empty.", place=place)
    if _UNSAFE.search(text):
        raise Invalid(f"{text!r} has a line break or another control character in it.", place=place)
    return text
