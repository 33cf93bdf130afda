"""What a task does with a parameter: its kind, its direction, and how deep a collection goes.

Written as `IN`, `FILE_INOUT`, `COLLECTION_OUT`, or as a dict: ``{Type: COLLECTION_IN, Depth: 2}``. The names are those
of PyCOMPSs, so that its programs read the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from isthmus.domain.errors import Invalid, nearest

OBJECT: Final = "object"
FILE: Final = "file"
DIRECTORY: Final = "directory"
COLLECTION: Final = "collection"
FILE_COLLECTION: Final = "file collection"
DICTIONARY: Final = "dictionary"
STREAM: Final = "stream"

IN: Final = "IN"
OUT: Final = "OUT"
INOUT: Final = "INOUT"
CONCURRENT: Final = "CONCURRENT"
COMMUTATIVE: Final = "COMMUTATIVE"
IN_DELETE: Final = "IN_DELETE"
DIRECTIONS = (IN, OUT, INOUT, CONCURRENT, COMMUTATIVE, IN_DELETE)

STDIN: Final = "stdin"
STDOUT: Final = "stdout"
STDERR: Final = "stderr"


@dataclass(frozen=True, slots=True)
class Parameter:
    """How a task uses one of its parameters. `depth` counts the levels of a collection."""

    name: str  # as it is written: FILE_INOUT
    kind: str = OBJECT
    direction: str = IN
    stdio: str = ""
    depth: int = 1
    prefix: str = ""
    weight: str = ""
    keep_rename: bool = False
    cache: bool = True

    @property
    def reads(self) -> bool:
        """Whether the task needs the value that was there before."""
        return self.direction != OUT

    @property
    def writes(self) -> bool:
        """Whether the task leaves a new value."""
        return self.direction not in (IN, IN_DELETE)

    def __repr__(self) -> str:
        return self.name


# The keys of a parameter that is written as a dict.
Type: Final = "type"
Direction: Final = "direction"
StdIOStream: Final = "stream"
Prefix: Final = "prefix"
Depth: Final = "depth"
Weight: Final = "weight"
Keep_rename: Final = "keep_rename"
Cache: Final = "cache"
_KEYS = (Type, Direction, StdIOStream, Prefix, Depth, Weight, Keep_rename, Cache)


def _table() -> dict[str, Parameter]:
    kinds = {
        "": (OBJECT, DIRECTIONS),
        "FILE": (FILE, (IN, OUT, INOUT, CONCURRENT, COMMUTATIVE)),
        "DIRECTORY": (DIRECTORY, (IN, OUT, INOUT)),
        "COLLECTION": (COLLECTION, (IN, OUT, INOUT, IN_DELETE)),
        "COLLECTION_FILE": (FILE_COLLECTION, (IN, OUT, INOUT)),
        "DICTIONARY": (DICTIONARY, (IN, OUT, INOUT, IN_DELETE)),
        "STREAM": (STREAM, (IN, OUT)),
    }
    table: dict[str, Parameter] = {}
    for word, (kind, directions) in kinds.items():
        for direction in directions:
            name = f"{word}_{direction}" if word else direction
            table[name] = Parameter(name, kind, direction)
        if word and word != "STREAM":
            table[word] = Parameter(word, kind, IN)
    for stdio in (STDIN, STDOUT, STDERR):
        word = stdio.upper()
        plain = IN if stdio == STDIN else OUT
        table[f"FILE_{word}"] = Parameter(f"FILE_{word}", FILE, plain, stdio)
        for direction in (IN, OUT, INOUT, CONCURRENT, COMMUTATIVE):
            name = f"FILE_{direction}_{word}"
            table[name] = Parameter(name, FILE, direction, stdio)
    return table


TABLE: Final = _table()
DEFAULT: Final = TABLE[IN]


def parse(value: Any, place: str) -> Parameter:
    """The parameter that `value` describes; Invalid at `place` where it makes no sense."""
    if isinstance(value, Parameter):
        return value
    if isinstance(value, str):
        return _named(value, place)
    if isinstance(value, Mapping):
        return _described(value, place)
    raise Invalid(
        f"{value!r} is no direction.", place=place, hint="Such as IN, INOUT, FILE_OUT or {Type: COLLECTION_IN}."
    )


def _named(word: str, place: str) -> Parameter:
    if word not in TABLE:
        raise Invalid(f"{word!r} is no direction.", place=place, hint=nearest(word, TABLE))
    return TABLE[word]


def _described(given: Mapping[str, Any], place: str) -> Parameter:
    for key in given:
        if key not in _KEYS:
            raise Invalid(f"{key!r} is no key of a parameter.", place=place, hint=nearest(str(key), _KEYS))
    what = parse(given.get(Type, DEFAULT), place)
    if Direction in given:
        direction = parse(given[Direction], place).direction
        what = replace(what, direction=direction)
    depth = given.get(Depth, what.depth)
    if not isinstance(depth, int) or depth < 1:
        raise Invalid(f"{depth!r} is no depth.", place=place, hint="Depth is a whole number of 1 or more.")
    stdio = given.get(StdIOStream, what.stdio)
    if stdio not in ("", STDIN, STDOUT, STDERR):
        raise Invalid(f"{stdio!r} is no standard stream.", place=place, hint="There is: STDIN, STDOUT, STDERR.")
    return replace(
        what,
        depth=depth,
        stdio=stdio,
        prefix=str(given.get(Prefix, "")),
        weight=str(given.get(Weight, "")),
        keep_rename=bool(given.get(Keep_rename, False)),
        cache=bool(given.get(Cache, True)),
    )
