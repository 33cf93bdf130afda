"""From the arguments of a call to its accesses: which data it reads, which it writes, and how its arguments travel.

Accesses are collected first, while nothing is locked, and applied to the graph in one go: all reads before all writes,
so that a task that is given the same datum twice does not wait for itself.
"""

import copy
import operator
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import Invalid, NotFound
from isthmus.tasks import directions
from isthmus.tasks.calls import PLAIN, Encoding, Leaf, Nth, Path, Where, is_object_array
from isthmus.tasks.declaration import Shape, Task, place_of
from isthmus.tasks.directions import DEFAULT, Parameter
from isthmus.tasks.failures import culprit
from isthmus.tasks.futures import Future
from isthmus.tasks.graph import Datum, Node

if TYPE_CHECKING:
    from isthmus.tasks.program import Program

_IMMUTABLE = (int, float, str, bytes, bool, type(None), complex, tuple, frozenset)
# Within what is only read these stand for data, or hold what does. A bare object() is a placeholder.
_NESTING = (Future, list, tuple, dict, object)


# Generators of random numbers, of numpy and Python: whoever draws changes them.
_GENERATORS = frozenset({"RandomState", "Generator", "Random"})


def stands_elsewhere(value: Any) -> bool:
    """Whether it is a persistent object: one place has its state, whoever reads it."""
    return getattr(type(value), "has_persistent_state", False) and value.getID() is not None


def _holds_placeholders(value: Any) -> bool:
    """Whether a list is one of placeholders: then each is a datum, however shallow the collection is said to be."""
    return type(value) is list and any(type(item) is object or _holds_placeholders(item) for item in value)


def _step(key: Any, place: int) -> Any:
    """A dictionary's key as it stands in a path."""
    return key if type(key) in PLAIN or isinstance(key, tuple | frozenset) else Nth(place)


def _settle(value: Any) -> None:
    """Put their values in the place of futures within lists and dicts that a task will change in place. Blocks."""
    kind = type(value)
    if kind is not list and kind is not dict:
        return
    for place, item in list(enumerate(value)) if kind is list else list(value.items()):
        if type(item) is Future:
            value[place] = item.result()
        else:
            _settle(item)


class Binding:
    """The accesses of one call."""

    def __init__(self, program: "Program", task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._program = program
        self._task = task
        self._reads: list[tuple[Datum, Leaf]] = []
        self._writes: list[tuple[Datum, Leaf, str]] = []
        self._written: dict[int, Leaf] = {}
        self._paths: set[Leaf] = set()  # those that stand for files
        self.outs: list[tuple[Where, Path]] = []
        self.args: list[Any] = []
        self.keywords: dict[str, Any] = {}
        self._trees: list[tuple[Where, Any]] = []
        self.finally_delete: list[str] = []
        self.streams: list[tuple[Any, bool]] = []  # those that it holds, and whether it writes them
        self.files: list[str] = []  # those that it writes
        self.names: dict[str, Any] = {}  # what each parameter was given
        self._arrange(args, kwargs)

    # -- from arguments to trees -------------------------------------------------------------------------------

    def _arrange(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        shape = self._task.shape
        most = len(shape.names)
        if len(args) > most and not shape.varargs:
            raise TypeError(f"{self._task.name}() takes {most} arguments, and was given {len(args)}.")
        positional = list(args[:most])
        left = dict(kwargs)
        for name in shape.names[len(positional) :]:
            if name in left:
                positional.append(left.pop(name))
            elif name in shape.defaults:
                positional.append(shape.defaults[name])
            else:
                raise TypeError(f"{self._task.name}() is missing its argument {name!r}.")
        for name, value in zip(shape.names, positional, strict=True):
            self._argument(len(self.args), name, value, shape.parameters.get(name, DEFAULT))
        for number, value in enumerate(args[most:]):
            self._argument(len(self.args), f"*{shape.varargs}[{number}]", value, self._vararg(shape, number))
        for name in shape.keyword_only:
            if name in left:
                self._argument(name, name, left.pop(name), shape.parameters.get(name, DEFAULT))
            elif name not in shape.defaults:
                raise TypeError(f"{self._task.name}() is missing its argument {name!r}.")
        for name, value in left.items():
            if not shape.varkw:
                raise TypeError(f"{self._task.name}() has no argument {name!r}, or got it twice.")
            how = shape.parameters.get(name, shape.parameters.get(shape.varkw, DEFAULT))
            self._argument(name, name, value, how)

    def _vararg(self, shape: Shape, number: int) -> Parameter:
        return shape.parameters.get(f"{shape.varargs}{number}", shape.parameters.get(shape.varargs, DEFAULT))

    def _argument(self, where: int | str, name: str, value: Any, how: Parameter) -> None:
        self.names[name] = value
        if isinstance(where, int):
            self.args.append(None)
        if how.kind in (directions.FILE, directions.DIRECTORY):
            tree = self._file(name, value, how)
        elif how.kind == directions.FILE_COLLECTION:
            tree = self._files(name, value, how, how.depth)
        elif how.kind == directions.STREAM:
            tree = self._stream(name, value, how)
        elif how.kind in (directions.COLLECTION, directions.DICTIONARY):
            tree = self._collection(where, (), value, how, how.depth, name)
        else:
            tree = self._object(where, (), value, how, name)
        if type(tree) in PLAIN:
            if isinstance(where, int):
                self.args[where] = tree
            else:
                self.keywords[where] = tree
        else:
            self._trees.append((where, tree))

    def _object(self, where: Where, path: Path, value: Any, how: Parameter, name: str) -> Any:
        program = self._program
        direction = how.direction
        if type(value) is Future:
            datum: Datum | None = value
        elif type(value) in PLAIN:
            if how.writes:
                self._say_immutable(name, value)
            return value
        else:
            datum = program.tracker.find(value)
        if direction in ("IN", "IN_DELETE"):
            if datum is None or self._is_live(datum, value):
                given = self._listed(value)
                nested = self._nested(given) if type(given) in (list, tuple, dict) else given
                if nested is not value:
                    if datum is not None:
                        self._read(datum)  # before its next writer
                    return nested
            if datum is None and program.advice.knows_parts:
                program.advice.takes(self._task, name, value)
            if datum is None and program.engine.in_place and type(value).__name__ in _GENERATORS:
                # Threads that draw from one would each time share its numbers out differently.
                return copy.deepcopy(value)
            if datum is None and (program.engine.in_place or stands_elsewhere(value)):
                datum = program.datum_of(value)
            if direction == "IN_DELETE" and type(value) is not Future:
                program.tracker.forget(value)
            if datum is not None:
                return self._read(datum)
            return value
        if datum is None:
            if isinstance(value, _IMMUTABLE):
                self._say_immutable(name, value)
                return value
            if program.engine.in_place:
                _settle(value)
            if program.advice.knows_parts:
                program.advice.takes(self._task, name, value)
            datum = program.datum_of(value)
            program.advice.writes(self._task, name, value)
        elif self._is_live(datum, value):
            _settle(value)
        return self._write(where, path, datum, direction, value)

    def _is_live(self, datum: Datum, value: Any) -> bool:
        """Whether the program's own object is the datum's value now, with what the program has put into it since."""
        return datum.in_place and type(value) is not Future and datum.version.producer is None

    def _listed(self, value: Any) -> Any:
        """A numpy array of futures or placeholders as the list that a task will see; anything else as it is."""
        if not is_object_array(value):
            return value
        find = self._program.tracker.find
        stands = any(type(item) is Future or (type(item) is object and find(item) is not None) for item in value.flat)
        return value.tolist() if stands else value

    def _nested(self, value: Any) -> Any:
        """An object that is only read. Futures may stand within its lists and dicts."""
        kind = type(value)
        if kind is Future:
            return self._read(value)
        if kind is object:
            datum = self._program.tracker.find(value)
            return value if datum is None else self._read(datum)
        if kind is list or kind is tuple:
            items = [self._nested(item) if type(item) in _NESTING else item for item in value]
            return value if all(map(operator.is_, items, value)) else kind(items)
        if kind is dict:
            changed = {key: self._nested(item) if type(item) in _NESTING else item for key, item in value.items()}
            return value if all(changed[key] is value[key] for key in value) else changed
        return value

    def _collection(self, where: Where, path: Path, value: Any, how: Parameter, depth: int, name: str) -> Any:
        if depth <= 0 and not (how.writes and _holds_placeholders(value)):
            element = Parameter(how.name, directions.OBJECT, how.direction)
            return self._object(where, path, value, element, name)
        value = self._listed(value)
        if type(value) is Future or (value is not None and not isinstance(value, list | tuple | dict) and depth):
            # A whole collection that another task leaves, or something that is none: one datum.
            return self._object(where, path, value, Parameter(how.name, directions.OBJECT, how.direction), name)
        if value is None:
            return None
        datum = self._program.tracker.find(value)
        if datum is not None and not how.writes:
            leaf = self._read(datum)
            if not self._is_live(datum, value):
                return leaf
        if isinstance(value, dict):
            return {
                key: self._collection(where, (*path, _step(key, place)), item, how, depth - 1, f"{name}[{key!r}]")
                for place, (key, item) in enumerate(value.items())
            }
        items = [
            self._collection(where, (*path, place), item, how, depth - 1, f"{name}[{place}]")
            for place, item in enumerate(value)
        ]
        # What is written must be a list where the task finds it, so that elements can be set.
        return tuple(items) if isinstance(value, tuple) and not how.writes else items

    def _file(self, name: str, value: Any, how: Parameter) -> Any:
        if value is None:
            return None
        if type(value) is Future:
            value = value.result()
        try:
            path = os.path.abspath(os.fspath(value))
        except TypeError:
            raise Invalid(
                f"{name!r} of {self._task.name} is a {how.kind}: give its path, not {value!r}.",
                place=place_of(self._task.function),
            ) from None
        datum = self._program.file(path)
        if (
            how.direction in ("IN", "INOUT", "IN_DELETE")
            and datum.version.producer is None
            and not os.path.exists(path)
        ):
            raise NotFound(
                f"{name!r} of {self._task.name} reads {path}, which is not there.",
                place=place_of(self._task.function),
                hint="No task before writes it either.",
            )
        if how.direction == "IN":
            self._read(datum)
        elif how.direction == "IN_DELETE":
            self._write(None, (name, path), datum, "INOUT", None)
            self.files.append(path)
            self.finally_delete.append(path)
        else:
            self._write(None, (name, path), datum, how.direction, None)
            self.files.append(path)
        # Workers stay in the folder where they were started, whatever the program does.
        return os.fspath(value) if os.getcwd() == self._program.folder else path

    def _stream(self, name: str, value: Any, how: Parameter) -> Any:
        from isthmus.tasks.streams import Stream
        from isthmus.tasks.streams.members import members, token

        if not isinstance(value, Stream):
            raise Invalid(
                f"{name!r} of {self._task.name} is a stream: give an ObjectStream or a FileStream, not {value!r}.",
                place=place_of(self._task.function),
            )
        members(self._program)
        held = value.as_member(token())
        self.streams.append((held, how.writes))
        return held

    def _files(self, name: str, value: Any, how: Parameter, depth: int) -> Any:
        if value is None or isinstance(value, str | os.PathLike | Future):
            return self._file(name, value, how)
        return [self._files(f"{name}[{place}]", item, how, depth - 1) for place, item in enumerate(value)]

    # -- accesses ----------------------------------------------------------------------------------------------

    def _read(self, datum: Datum) -> Leaf:
        written = self._written.get(id(datum))
        if written is not None:
            return written
        leaf = Leaf()
        self._reads.append((datum, leaf))
        return leaf

    def _write(self, where: Where, path: Path, datum: Datum, direction: str, value: Any) -> Any:
        leaf = self._written.get(id(datum))
        if leaf is not None:
            return leaf
        leaf = Leaf()
        self._written[id(datum)] = leaf
        if where is None:
            self._paths.add(leaf)
        self._writes.append((datum, leaf, direction))
        self.outs.append((where, path))
        if direction == "OUT" and not datum.in_place:
            # What was there before is not read; but a task may fill the object that it was given.
            return None if type(value) in (Future, object) else value
        return leaf

    def _say_immutable(self, name: str, value: Any) -> None:
        warnings.warn(
            f"{self._task.name} writes {name!r}, but a {type(value).__name__} can't change: the new value is lost. "
            "Return it instead.",
            stacklevel=6,
        )

    # -- to the graph ------------------------------------------------------------------------------------------

    def number(self) -> None:
        """Say which input each leaf is; the order in which `apply` will make the accesses."""
        count = 0
        for _, leaf in self._reads:
            leaf.index = count
            count += 1
        for datum, leaf, direction in self._writes:
            if direction != "OUT" or datum.in_place:
                leaf.index = count
                count += 1

    def encoding(self) -> Encoding | None:
        """How the arguments travel; after `number`."""
        refs: list[tuple[Where, int]] = []
        packed: list[tuple[Where, Any]] = []
        for where, tree in self._trees:
            if type(tree) is Leaf:
                refs.append((where, tree.index))
            else:
                packed.append((where, self._pack(where, tree)))
        if not (refs or packed or self.outs or self.keywords):
            return None
        written = sum(direction != "OUT" or datum.in_place for datum, _, direction in self._writes)
        return Encoding(refs, packed, self.outs, self.keywords or None, written)

    def _pack(self, where: Where, tree: Any) -> Any:
        try:
            packed = self._program.engine.pack(tree)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            names = self._task.shape.names
            name = names[where] if isinstance(where, int) and where < len(names) else str(where)
            inside, kind = culprit(tree, name)
            what = f"The argument {name!r}" if inside == name else f"The {kind} {inside} in the argument {name!r}"
            raise Invalid(
                f"{what} of {self._task.name} can't be sent to a worker: {type(error).__name__}: {error}.",
                place=place_of(self._task.function),
                hint="Give what can be pickled, or make it inside the task.",
            ) from error
        if type(packed) is not tuple and hasattr(packed, "nbytes") and packed is not tree:
            name = next((n for n, v in self.names.items() if v is tree), "")
            if name:
                self._program.advice.copied(self._task, name, tree, packed.name, packed.nbytes)
        return packed

    def apply(self, node: Node) -> None:
        """Make the accesses. The caller holds the program's lock."""
        graph = self._program.graph
        for datum, _ in self._reads:
            graph.read(node, datum)
        for datum, leaf, direction in self._writes:
            if direction == "COMMUTATIVE":
                graph.commute(node, datum)
            elif direction == "CONCURRENT":
                # Where workers have copies of their own, the changes of one of two side by side would be lost.
                shared = datum.in_place and (leaf in self._paths or self._program.engine.in_place)
                graph.commute(node, datum, exclusive=not shared)
            else:
                graph.write(node, datum, reads=direction != "OUT" or datum.in_place)
