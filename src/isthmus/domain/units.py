"""Sizes and times as people write them: ``4GiB``, ``90m``, ``1-00:00:00``.

``Bytes`` and ``Seconds`` are plain ints to the code; at the edges pydantic reads them from a number or a text.
"""

import re
from typing import Any, Self, TypeVar

from isthmus.domain.errors import Invalid

_SCALE = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
_BYTES = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)(B?)\s*$", re.IGNORECASE)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|m|s)", re.IGNORECASE)
_CLOCK = re.compile(r"^(?:(\d+)-)?(\d+):(\d+)(?::(\d+))?$")
_Q = TypeVar("_Q", bound="_Quantity")
_UNIT_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class _Quantity(int):
    """An int that may be written as a text; the subclass says how."""

    _examples: tuple[Any, ...] = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def read(value: Any) -> int:
            try:
                return int(cls.parse(value))
            except Invalid as error:
                raise ValueError(str(error)) from None

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(int)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
            "examples": list(cls._examples),
        }


class Bytes(_Quantity):
    """A size in bytes. ``1K`` is 1024 bytes, as in SLURM; ``KB``, ``KiB`` and ``K`` are the same."""

    _examples = (1073741824, "4GiB")

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a number of bytes or a text such as ``4GiB``. Raises Invalid."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise Invalid(f"{value!r} is not a size.", hint="Write it like 512MiB or 4G.")
        if isinstance(value, str):
            match = _BYTES.match(value)
            if not match:
                raise Invalid(f"{value!r} is not a size.", hint="Write it like 512MiB or 4G.")
            value = (
                float(match[1]) * _SCALE[match[2].upper()]
                if "." in match[1]
                else (int(match[1]) * _SCALE[match[2].upper()])
            )
        return _whole(cls, value, "size")


class Seconds(_Quantity):
    """A length of time in seconds."""

    _examples = (3600, "1h30m", "1-00:00:00")

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read seconds, ``1h30m``, or SLURM's ``minutes:seconds``, ``hours:minutes:seconds`` and
        ``days-hours:minutes[:seconds]``. Raises Invalid."""
        wrong = Invalid(f"{value!r} is not a length of time.", hint="Write it like 90s, 1h30m or 1-00:00:00.")
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise wrong
        if isinstance(value, str):
            text = value.strip()
            clock = _CLOCK.match(text)
            if clock:
                days, first, second = (int(part or 0) for part in clock.groups()[:3])
                if clock[4] is not None:
                    value = days * 86400 + first * 3600 + second * 60 + int(clock[4])
                elif clock[1] is not None:
                    value = days * 86400 + first * 3600 + second * 60
                else:
                    value = first * 60 + second
            elif re.fullmatch(r"\d+", text):
                value = int(text)
            elif text and not _SPAN.sub("", text).strip():
                value = sum(float(n) * _UNIT_S[unit.lower()] for n, unit in _SPAN.findall(text))
            else:
                raise wrong
        return _whole(cls, value, "length of time")


def _whole(kind: type[_Q], value: int | float, what: str) -> _Q:
    if value < 0 or value != value or value > 2**62:
        raise Invalid(f"{value!r} is not a {what}.", hint="It must be 0 or more.")
    return kind(int(value))


def show_bytes(size: int | None) -> str:
    """``1.5 GiB``; an empty text for None."""
    if size is None:
        return ""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} PiB"


def show_seconds(span: float | None) -> str:
    """``1h05m``, ``42s``, ``3d04h``; an empty text for None."""
    if span is None:
        return ""
    total = int(span)
    if total < 60:
        return f"{span:.1f}s" if span < 10 and span != total else f"{total}s"
    if total < 3600:
        return f"{total // 60}m{total % 60:02d}s"
    if total < 86400:
        return f"{total // 3600}h{total % 3600 // 60:02d}m"
    return f"{total // 86400}d{total % 86400 // 3600:02d}h"
