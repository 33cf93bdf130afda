"""Problems made up, from measured run times or from a distribution: for tests, benches and what-if questions.

As in the published simulations: arrivals are a Poisson process, a deadline is the release plus one to three times the
fastest run time, a weight is twice 0.0015 to 0.0075 per second.
"""

import math
from collections.abc import Sequence
from random import Random

from isthmus.placement.sizing.problem import Problem, SizedJob, Vm

# Speeds of one GPU, relative, and their prices: round figures of no provider in particular.
TYPES = (("small", 1.0, 0.5), ("large", 2.2, 1.4))
SIZES = (1, 2, 4, 8)


def generate(
    *, nodes: int, jobs: int, gap_s: float, seed: int, runtimes_s: Sequence[float] = (), types: Sequence[str] = ()
) -> Problem:
    """A problem with as many nodes and jobs. ``gap_s``: mean time between arrivals; 0: all at once.

    ``runtimes_s`` are run times on one small GPU to draw from, such as a trace's; else log-normal around a day.
    """
    dice = Random(seed)
    known = [one for one in TYPES if not types or one[0] in types]
    vms = tuple(Vm(f"{name}-{size}", name, size, price * size) for name, _, price in known for size in SIZES)
    made: list[SizedJob] = []
    at = 0.0
    usable = [one for one in runtimes_s if one >= 60.0]
    for number in range(jobs):
        if number and gap_s:
            at += dice.expovariate(1.0 / gap_s)
        alone_s = dice.choice(usable) if usable else 86400.0 * math.exp(dice.gauss(0.0, 0.6))
        parallel = dice.uniform(0.4, 0.95)  # Amdahl's law
        times = {
            name: tuple(
                round(alone_s / speed * (1 - parallel + parallel / gpus), 3) for gpus in range(1, max(SIZES) + 1)
            )
            for name, speed, _ in known
        }
        fastest = min(min(row) for row in times.values())
        made.append(
            SizedJob(
                id=number,
                release_s=round(at, 3),
                deadline_s=round(at + dice.uniform(1.0, 3.0) * fastest, 3),
                weight_per_s=2 * dice.uniform(0.0015, 0.0075),
                times=times,
            )
        )
    return Problem(nodes, vms, tuple(made))
