"""How the arguments of a call are put together where it runs, and its results taken apart.

`Encoding` travels with a call. A `Leaf` stands in an argument for the value of one of the call's inputs; `fill` puts
the values in. `outs` says, for each datum that the task writes, in which argument it is found afterwards, and where in
it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

# Values of these types can't change: they travel as they are, and need no look.
PLAIN = frozenset({int, float, str, bytes, bool, type(None), complex, type(Ellipsis)})

Where = int | str | None  # a place among the positional arguments, a keyword, or nowhere (a file)
Path = tuple[Any, ...]  # keys into a collection; for a file, its parameter and its absolute path


class Leaf:
    """In an argument: the value of input `index`."""

    __slots__ = ("index",)

    def __init__(self, index: int = -1) -> None:
        self.index = index

    def __reduce__(self) -> Any:
        return Leaf, (self.index,)


class Nth(NamedTuple):
    """In a path: the dictionary's value at this place, where its key is an object that no copy is equal to."""

    place: int


class Encoding(NamedTuple):
    """What is not plain about the arguments of a call."""

    refs: Sequence[tuple[Where, int]] = ()  # the argument at `where` is input number i
    packed: Sequence[tuple[Where, Any]] = ()  # the argument at `where`, packed by the engine
    outs: Sequence[tuple[Where, Path]] = ()
    keywords: Mapping[str, Any] | None = None
    written: int = 0  # of the inputs, so many at the end are changed


def is_object_array(value: Any) -> bool:
    """Whether it is a numpy array of Python objects: its elements may be futures or placeholders."""
    return type(value).__module__ == "numpy" and getattr(getattr(value, "dtype", None), "hasobject", False) is True


def fill(tree: Any, inputs: Sequence[Any]) -> Any:
    """A copy of the containers of `tree` with the values of inputs in the place of leaves."""
    kind = type(tree)
    if kind is Leaf:
        return inputs[tree.index]
    if kind is list:
        return [fill(item, inputs) for item in tree]
    if kind is tuple:
        return tuple(fill(item, inputs) for item in tree)
    if kind is dict:
        return {key: fill(item, inputs) for key, item in tree.items()}
    return tree


def arguments(
    args: Sequence[Any], encoding: Encoding | None, inputs: Sequence[Any], unpack: Callable[[Any], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that the function is called with."""
    filled: list[Any] = list(args)
    keywords: dict[str, Any] = {}
    if encoding is not None:
        if encoding.keywords:
            keywords = dict(encoding.keywords)
        for where, index in encoding.refs:
            _set(filled, keywords, where, inputs[index])
        for where, packed in encoding.packed:
            _set(filled, keywords, where, unpack(packed))
    return filled, keywords


def _set(args: list[Any], keywords: dict[str, Any], where: Where, value: Any) -> None:
    if isinstance(where, int):
        args[where] = value
    else:
        assert where is not None
        keywords[where] = value


def results(
    value: Any, returns: int, encoding: Encoding | None, args: Sequence[Any], keywords: Mapping[str, Any], name: str
) -> list[Any]:
    """One value for each output of the task: what it returned, then what it wrote."""
    if returns == 0:
        values: list[Any] = []
    elif returns == 1:
        values = [value]
    else:
        try:
            values = list(value)
        except TypeError:
            values = [value]
        if len(values) != returns:
            raise TypeError(f"{name} declares {returns} returned values, and returned {len(values)}.")
    if encoding is not None:
        for where, path in encoding.outs:
            if where is None:
                values.append(None)
                continue
            found = args[where] if isinstance(where, int) else keywords[where]
            for key in path:
                found = list(found.values())[key.place] if type(key) is Nth else found[key]
            if getattr(type(found), "has_persistent_state", False):
                found.save()
            values.append(found)
    return values
