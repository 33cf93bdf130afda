"""Random data in fragments, each made by a task."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.declaration import task
from isthmus.tasks.pycompss.api.api import compss_wait_on

Fragment = list[list[float]]


def _fragment(size: int, frag_size: int, draw: Callable[[], float]) -> Fragment:
    return [[draw() for _ in range(size)] for _ in range(frag_size)]


@task(returns=list)  # type: ignore[untyped-decorator]
def gen_random(size: int, frag_size: int, seed: int) -> Fragment:
    """`frag_size` rows of `size` numbers from 0 to 1."""
    return _fragment(size, frag_size, random.Random(seed).random)


@task(returns=list)  # type: ignore[untyped-decorator]
def gen_normal(size: int, frag_size: int, seed: int) -> Fragment:
    """`frag_size` rows of `size` numbers of the standard normal distribution."""
    rng = random.Random(seed)
    return _fragment(size, frag_size, lambda: rng.gauss(0.0, 1.0))


@task(returns=list)  # type: ignore[untyped-decorator]
def gen_uniform(size: int, frag_size: int, seed: int) -> Fragment:
    """`frag_size` rows of `size` numbers from -1 to 1."""
    rng = random.Random(seed)
    return _fragment(size, frag_size, lambda: rng.uniform(-1.0, 1.0))


_KINDS = {"random": gen_random, "normal": gen_normal, "uniform": gen_uniform}


def generator(
    size: tuple[int, int], num_frag: int, seed: int = 0, distribution: str = "random", wait: bool = False
) -> Any:
    """`size[0]` rows of `size[1]` numbers in `num_frag` fragments, each a future; with `wait`, its value.

    All fragments are drawn from the same seed, as PyCOMPSs does.
    """
    if distribution not in _KINDS:
        raise Invalid(f"{distribution!r} is no distribution.", hint=nearest(distribution, _KINDS))
    rows = size[0] // num_frag
    data = [_KINDS[distribution](size[1], rows, seed) for _ in range(num_frag)]
    return compss_wait_on(data) if wait else data


def chunks(lst: list[Any], number: int, balanced: bool = False) -> Iterator[list[Any]]:
    """Slices of `number` items; `balanced`: what is left over goes to the first slices, one item each."""
    rest = len(lst) % number if balanced else 0
    begin = 0
    while begin < len(lst):
        end = begin + number + (1 if rest else 0)
        rest = max(0, rest - 1)
        yield lst[begin:end]
        begin = end
