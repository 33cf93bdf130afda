"""The methods by name. Built-ins are import strings; others come by entry points of the group ``isthmus.sizing``.

A method is made by ``factory(seed, iterations)`` and has ``decide(view) -> Decision``.
"""

import importlib
from collections.abc import Callable, Mapping
from importlib import metadata

from isthmus.domain.errors import Invalid, NotFound, nearest
from isthmus.placement.sizing.simulate import Method

Factory = Callable[[int, int], Method]

GROUP = "isthmus.sizing"
OURS = "deadline-cost"
BUILT_IN: Mapping[str, tuple[str, str]] = {
    OURS: ("isthmus.placement.sizing.methods:mixing", "two configurations for each job, prices while nodes are short"),
    "path-relinking": ("isthmus.placement.sizing.methods:path_relinking", "as published, between elite solutions"),
    "random-greedy": ("isthmus.placement.sizing.methods:random_greedy", "as published, many constructions with chance"),
    "greedy": ("isthmus.placement.sizing.methods:greedy", "as published, one construction by pressure"),
    "edf": ("isthmus.placement.sizing.methods:edf", "earliest deadline first, shared nodes, preemption"),
    "edf-whole-nodes": ("isthmus.placement.sizing.methods:edf_whole_nodes", "the same, a node each, no preemption"),
    "fifo": ("isthmus.placement.sizing.methods:fifo", "first come first served, a node each, no preemption"),
    "priority": ("isthmus.placement.sizing.methods:priority", "heaviest first, a node each, no preemption"),
}


def names() -> list[str]:
    """All that can be asked for."""
    return [*BUILT_IN, *(point.name for point in metadata.entry_points(group=GROUP) if point.name not in BUILT_IN)]


def make(name: str, *, seed: int = 0, iterations: int = 100) -> Method:
    """The method of that name. Raises NotFound with the nearest, Invalid where a library is missing for it."""
    try:
        return _factory(name)(seed, iterations)
    except ModuleNotFoundError as error:
        raise Invalid(
            f"The method {name!r} needs {error.name}, which is not installed.",
            place="policy",
            hint="pip install 'isthmus[placement]'",
        ) from error


def _factory(name: str) -> Factory:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name][0].partition(":")
        found: Factory = getattr(importlib.import_module(module), attribute)
        return found
    for point in metadata.entry_points(group=GROUP):
        if point.name == name:
            loaded: Factory = point.load()
            return loaded
    raise NotFound(f"There is no method {name!r}.", place="policy", hint=nearest(name, names()))


def mixing(seed: int, iterations: int) -> Method:
    from isthmus.placement.sizing.mixing import Mixing

    return Mixing()


def path_relinking(seed: int, iterations: int) -> Method:
    from isthmus.placement.sizing.path_relinking import PathRelinking

    return PathRelinking(seed, iterations)


def random_greedy(seed: int, iterations: int) -> Method:
    from isthmus.placement.sizing.greedy import RandomGreedy

    return RandomGreedy(seed, iterations)


def greedy(seed: int, iterations: int) -> Method:
    from isthmus.placement.sizing.greedy import Greedy

    return Greedy()


def edf(seed: int, iterations: int) -> Method:
    from isthmus.placement.sizing.lists import FairEdf

    return FairEdf()


def edf_whole_nodes(seed: int, iterations: int) -> Method:
    from isthmus.placement.sizing.lists import WholeNodes, by_deadline

    return WholeNodes(by_deadline)


def fifo(seed: int, iterations: int) -> Method:
    from isthmus.placement.sizing.lists import WholeNodes, by_release

    return WholeNodes(by_release)


def priority(seed: int, iterations: int) -> Method:
    from isthmus.placement.sizing.lists import WholeNodes, by_weight

    return WholeNodes(by_weight)
