"""`DDS`: a data set in partitions. Steps are put off until somebody wants a result; then each partition is a task.

DDS().load(words).map(lambda word: (word, 1)).reduce_by_key(operator.add).collect_as_dict()
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from isthmus.domain.errors import Invalid, NotFound
from isthmus.tasks.pycompss.dds import partitions
from isthmus.tasks.pycompss.dds.partitions import Between, Chunk, Lines, Pickled, Step, Whole
from isthmus.tasks.verbs import wait_on

MARKER = object()  # where None may be a value
_SAMPLES = 20  # of each partition, to find the borders between sorted ones


class DDS:
    """See the module. Methods give a new data set; those that give a value block."""

    def __init__(self, parts: Sequence[Any] = (), steps: Sequence[Step] = ()) -> None:
        self.partitions = list(parts)
        self._steps = tuple(steps)

    # -- where the data come from ------------------------------------------------------------------------------

    def load(self, iterator: Any, num_of_parts: int = 10, paac: bool = False) -> "DDS":
        """The items in so many partitions; -1: each item is one, a list or what a task will leave."""
        if num_of_parts == -1:
            return DDS(iterator)
        if num_of_parts < 1:
            raise Invalid(f"{num_of_parts} is no number of partitions.", hint="1 or more; -1: one for each item.")
        items = list(iterator)
        each, more = divmod(len(items), num_of_parts)
        sizes = [each + (number < more) for number in range(num_of_parts)]
        ends = list(itertools.accumulate(sizes))
        return DDS([items[end - size : end] for size, end in zip(sizes, ends, strict=True)] if items else [])

    def load_file(self, file_path: str, chunk_size: int = 1024, worker_read: bool = False) -> "DDS":
        """A file in pieces of so many bytes, each an element of its own partition. Tasks read them."""
        size = os.path.getsize(_there(file_path))
        return DDS([Chunk(os.path.abspath(file_path), begin, chunk_size) for begin in range(0, size, chunk_size)])

    def load_text_file(
        self, file_name: str, chunk_size: int = 1024, in_bytes: bool = True, strip: bool = True
    ) -> "DDS":
        """The lines of a file, in partitions of about so many bytes, or of so many lines. Tasks read them."""
        path = os.path.abspath(_there(file_name))
        parts, begin, end, lines = [], 0, 0, 0
        with open(path, "rb") as file:
            for line in file:
                end, lines = end + len(line), lines + 1
                if (end - begin if in_bytes else lines) >= chunk_size:
                    parts.append(Lines(path, begin, end, strip))
                    begin, lines = end, 0
        if end > begin:
            parts.append(Lines(path, begin, end, strip))
        return DDS(parts)

    def load_files_from_dir(self, dir_path: str, num_of_parts: int = -1) -> "DDS":
        """Pairs of a path and its text for each file of a folder. Tasks read them."""
        paths = _files(dir_path)
        count = min(len(paths), num_of_parts) if num_of_parts > 0 else len(paths)
        return DDS([Whole(paths[number::count]) for number in range(count)])

    def load_pickle_files(self, dir_path: str) -> "DDS":
        """What `save_as_pickle` has written, a partition each file."""
        return DDS([Pickled(path) for path in _files(dir_path)])

    def union(self, *others: "DDS") -> "DDS":
        """The elements of all."""
        return DDS([part for one in (self, *others) for part in one._parts()])

    def num_of_partitions(self) -> int:
        """How many partitions."""
        return len(self.partitions)

    # -- steps -------------------------------------------------------------------------------------------------

    def map_partitions(self, func: Step) -> "DDS":
        """The function of each partition's elements, which gives elements."""
        return DDS(self.partitions, (*self._steps, func))

    def map(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> "DDS":
        """The function of each element."""
        return self.map_partitions(lambda items: (func(item, *args, **kwargs) for item in items))

    def flat_map(self, func: Callable[..., Iterable[Any]], *args: Any, **kwargs: Any) -> "DDS":
        """All that the function gives of each element."""
        return self.map_partitions(lambda items: (made for item in items for made in func(item, *args, **kwargs)))

    def filter(self, func: Callable[[Any], Any]) -> "DDS":
        """The elements for which the function is true."""
        return self.map_partitions(lambda items: (item for item in items if func(item)))

    def key_by(self, func: Callable[[Any], Any]) -> "DDS":
        """Pairs of what the function gives, and the element."""
        return self.map(lambda item: (func(item), item))

    def keys(self) -> "DDS":
        """The first of each pair."""
        return self.map(lambda pair: pair[0])

    def values(self) -> "DDS":
        """The second of each pair."""
        return self.map(lambda pair: pair[1])

    def map_values(self, func: Callable[[Any], Any]) -> "DDS":
        """Each pair with the function of its second."""
        return self.map(lambda pair: (pair[0], func(pair[1])))

    def flatten_by_key(self, func: Callable[[Any], Iterable[Any]]) -> "DDS":
        """A pair for each value that the function gives of a pair's second."""
        return self.flat_map(lambda pair: [(pair[0], value) for value in func(pair[1])])

    # -- across partitions -------------------------------------------------------------------------------------

    def partition_by(
        self, partitioner_func: Callable[[Any], int] = partitions.place, num_of_partitions: int = -1
    ) -> "DDS":
        """Pairs with the same key in one partition: the number that the function gives of it."""
        return self._shuffled(lambda pair: partitioner_func(pair[0]), num_of_partitions, lambda items: items)

    def distinct(self) -> "DDS":
        """Each element once."""
        return self.map_partitions(dict.fromkeys)._shuffled(partitions.place, -1, dict.fromkeys)

    def combine_by_key(
        self,
        creator_func: Callable[[Any], Any],
        combiner_func: Callable[[Any, Any], Any],
        merger_function: Callable[[Any, Any], Any],
        total_parts: int = -1,
    ) -> "DDS":
        """One pair for each key: values combined within partitions, then merged across them."""

        def combined(items: Iterable[Any]) -> Iterable[Any]:
            return _by_key(items, creator_func, combiner_func)

        def merge(items: Iterable[Any]) -> Iterable[Any]:
            return _by_key(items, lambda value: value, merger_function)

        return self.map_partitions(combined)._shuffled(lambda pair: partitions.place(pair[0]), total_parts, merge)

    def reduce_by_key(self, func: Callable[[Any, Any], Any]) -> "DDS":
        """One pair for each key, with the function of its values."""
        return self.combine_by_key(lambda value: value, func, func)

    def group_by_key(self, num_of_parts: int = -1) -> "DDS":
        """One pair for each key, with the list of its values."""
        return self.combine_by_key(
            lambda value: [value], lambda some, value: [*some, value], lambda some, more: some + more, num_of_parts
        )

    def join(self, other: "DDS", num_of_partitions: int = -1) -> "DDS":
        """For each key that both have, pairs of their values."""

        def sided(data: "DDS", side: int) -> "DDS":
            return data.map_values(lambda value: (side, value))

        def pairs(items: Iterable[Any]) -> Iterator[Any]:
            for key, values in items:
                left = [value for side, value in values if side == 0]
                right = [value for side, value in values if side == 1]
                for both in itertools.product(left, right):
                    yield key, both

        return sided(self, 0).union(sided(other, 1)).group_by_key(num_of_partitions).map_partitions(pairs)

    def sort_by_key(
        self,
        ascending: bool = True,
        num_of_parts: int | None = None,
        key_func: Callable[[Any], Any] = lambda key: key,
    ) -> "DDS":
        """Pairs in the order of their keys, from partition to partition too."""
        count = num_of_parts or max(1, len(self.partitions))
        data = DDS(self._futures())  # they are looked at twice

        def samples(items: Iterable[Any]) -> list[Any]:
            known = list(items)
            return [key_func(pair[0]) for pair in known[:: max(1, len(known) // _SAMPLES)]]

        found = sorted(data.map_partitions(samples).collect())
        borders = [found[len(found) * number // count] for number in range(1, count)] if found else []

        def in_order(items: Iterable[Any]) -> list[Any]:
            return sorted(items, key=lambda pair: key_func(pair[0]), reverse=not ascending)

        made = data._shuffled(Between(borders, key_func), count, in_order)
        return made if ascending else DDS(made.partitions[::-1])

    def _shuffled(self, where: Callable[[Any], int], count: int, merge: Step) -> "DDS":
        """As many partitions as `count` (-1: as now), each of the elements that `where` puts there, merged."""
        count = count if count > 0 else max(1, len(self.partitions))
        lists = [partitions.dealt(part, self._steps, count, where) for part in self.partitions]
        if count == 1:
            lists = [[one] for one in lists]
        return DDS([partitions.merged([one[number] for one in lists], merge) for number in range(count)])

    # -- results -----------------------------------------------------------------------------------------------

    def _futures(self) -> list[Any]:
        return [partitions.computed(part, self._steps) for part in self.partitions]

    def _parts(self) -> list[Any]:
        return self._futures() if self._steps else self.partitions

    def collect(self, keep_partitions: bool = False, future_objects: bool = False) -> Any:
        """All elements; by partition; or the futures of partitions."""
        futures = self._futures()
        if future_objects:
            return futures
        lists = wait_on(futures)
        return lists if keep_partitions else [item for part in lists for item in part]

    def collect_as_dict(self) -> dict[Any, Any]:
        """The pairs as a dict."""
        return dict(self.collect())

    def take(self, num: int) -> list[Any]:
        """The first elements. Partitions beyond those that have them are not looked at."""
        found: list[Any] = []
        for part in self.partitions:
            if len(found) >= num:
                break
            found += wait_on(partitions.computed(part, self._steps))
        return found[:num]

    def reduce(self, func: Callable[[Any, Any], Any], initial: Any = MARKER, arity: int = -1) -> Any:
        """One value of all elements; with `arity`, as a tree of so many at a time. None of none."""
        first = [] if initial is MARKER else [initial]
        values = [partitions.folded(func, [part]) for part in self._futures()]
        while 1 < arity < len(values):
            values = [partitions.folded(func, values[place : place + arity]) for place in range(0, len(values), arity)]
        found = wait_on(partitions.folded(func, [first, *values]))
        return found[0] if found else None

    def count(self) -> int:
        """How many elements."""
        return sum(self.map_partitions(lambda items: [sum(1 for _ in items)]).collect())

    def sum(self) -> Any:
        """Their sum."""
        return sum(self.map_partitions(lambda items: [sum(items)]).collect())

    def count_by_value(self, arity: int = 2, as_dict: bool = True, as_fo: bool = False) -> Any:
        """How often each element is there: a dict, or pairs; or the future of a list with the dict."""
        counted = self.map_partitions(lambda items: [Counter(items)])._futures()
        together = partitions.folded(lambda some, more: some + more, counted)
        if as_fo:
            return together
        found = dict(sum(wait_on(together), Counter()))
        return found if as_dict else list(found.items())

    def count_by_key(self, as_dict: bool = False) -> Any:
        """How many pairs each key has."""
        found = self.map_values(lambda value: 1).reduce_by_key(lambda some, more: some + more)
        return found.collect_as_dict() if as_dict else found

    def foreach(self, func: Callable[[Any], Any]) -> None:
        """Call the function with each element."""

        def called(items: Iterable[Any]) -> list[Any]:
            for item in items:
                func(item)
            return []

        self.map_partitions(called).collect()

    def save_as_text_file(self, path: str) -> None:
        """A file for each partition in the folder, a line for each element."""
        self._save(path, pickled=False)

    def save_as_pickle(self, path: str) -> None:
        """A file for each partition in the folder, for `load_pickle_files`."""
        self._save(path, pickled=True)

    def _save(self, path: str, *, pickled: bool) -> None:
        folder = os.path.abspath(path)
        os.makedirs(folder, exist_ok=True)
        wait_on(
            [
                partitions.written(part, self._steps, os.path.join(folder, f"{number:05d}"), pickled)
                for number, part in enumerate(self.partitions)
            ]
        )


def _by_key(
    pairs: Iterable[Any], create: Callable[[Any], Any], combine: Callable[[Any, Any], Any]
) -> Iterable[tuple[Any, Any]]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        found[key] = combine(found[key], value) if key in found else create(value)
    return found.items()


def _there(path: str) -> str:
    if not os.path.isfile(path):
        raise NotFound(f"{path} is no file that is there.")
    return path


def _files(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        raise NotFound(f"{folder} is no folder that is there.")
    paths = (os.path.join(os.path.abspath(folder), name) for name in sorted(os.listdir(folder)))
    return [path for path in paths if os.path.isfile(path)]
