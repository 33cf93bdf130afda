"""The partitions of a data set: where their elements come from, and the tasks that work on them."""

import functools
import io
import os
import pickle
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.tasks.declaration import task

Step = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a part of a text file, from one byte up to another; both are where lines begin."""

    path: str
    begin: int
    end: int
    strip: bool = True

    def __call__(self) -> Iterator[Any]:
        """Read them."""
        with open(self.path, "rb") as file:
            file.seek(self.begin)
            text = file.read(self.end - self.begin).decode()
        for line in io.StringIO(text):
            yield line.rstrip("\r\n") if self.strip else line


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a text file, as one element."""

    path: str
    begin: int
    size: int

    def __call__(self) -> Iterator[Any]:
        """Read it."""
        with open(self.path, "rb") as file:
            file.seek(self.begin)
            yield file.read(self.size).decode()


@dataclass(frozen=True, slots=True)
class Whole:
    """Whole text files: pairs of a path and what stands there."""

    paths: Sequence[str]

    def __call__(self) -> Iterator[Any]:
        """Read them."""
        for path in self.paths:
            with open(path) as file:
                yield path, file.read()


@dataclass(frozen=True, slots=True)
class Pickled:
    """The elements that `save_as_pickle` has written into one file."""

    path: str

    def __call__(self) -> Any:
        """Read them. As with any pickle: only what you trust."""
        with open(self.path, "rb") as file:
            return pickle.load(file)


def elements(part: Any, steps: Sequence[Step]) -> Iterable[Any]:
    """What a partition holds after its steps."""
    items = part() if isinstance(part, Lines | Chunk | Whole | Pickled) else part
    for step in steps:
        items = step(items)
    return items


def place(key: Any) -> int:
    """A number for a key, the same in every process: Python's own hash of a text is not."""
    if isinstance(key, str | bytes):
        return zlib.crc32(key.encode() if isinstance(key, str) else key)
    if isinstance(key, tuple):
        return functools.reduce(lambda sofar, item: (sofar * 31 + place(item)) & 0xFFFFFFFF, key, len(key))
    return 0 if key is None else hash(key)


@task(returns=1)  # type: ignore[untyped-decorator]
def computed(part: Any, steps: Any) -> Any:
    """The elements of a partition, as a list."""
    return list(elements(part, steps))


@task(returns="count")  # type: ignore[untyped-decorator]
def dealt(part: Any, steps: Any, count: int, where: Any) -> Any:
    """The elements of a partition, in as many lists as there will be partitions; `where` says in which each goes."""
    lists: list[list[Any]] = [[] for _ in range(count)]
    for item in elements(part, steps):
        lists[where(item) % count].append(item)
    return lists if count > 1 else lists[0]


@task(returns=1)  # type: ignore[untyped-decorator]
def merged(lists: Any, merge: Any) -> Any:
    """Lists of elements made one: `merge` takes an iterator of all."""
    return list(merge(item for part in lists for item in part))


@task(returns=1)  # type: ignore[untyped-decorator]
def folded(function: Any, values: Any) -> Any:
    """One value of a list of lists with at most one value each; a list with it."""
    given = [value for one in values for value in one]
    return [functools.reduce(function, given)] if given else []


@task(returns=1)  # type: ignore[untyped-decorator]
def written(part: Any, steps: Any, path: str, pickled: bool) -> Any:
    """Write a partition into a file, whole or not at all."""
    items = list(elements(part, steps))
    if pickled:
        data = pickle.dumps(items, 5)
    else:
        data = "".join(f"{item}\n" for item in items).encode()
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)


@dataclass(frozen=True, slots=True)
class Between:
    """Which of several ranges of keys an element is in."""

    borders: Sequence[Any]
    key: Any

    def __call__(self, pair: Any) -> int:
        """Its number."""
        return bisect_right(self.borders, self.key(pair[0]))
