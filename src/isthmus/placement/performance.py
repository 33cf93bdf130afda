"""How long a job takes with how many GPUs: from what was measured, else from a usual curve.

A profile that comes with the job is taken as it is; what it does not reach is no faster than its last entry. Without
one, what other jobs of its kind were seen to take stands in (`isthmus.placement.throughputs`), else the run time that
the job states for the GPUs that it asks for is spread by Amdahl's law with a parallel part of nine tenths. What is seen
while the job runs replaces them all (`isthmus.placement.sizing.learning`).
"""

from collections.abc import Mapping, Sequence

PARALLEL = 0.9
ANY = ""


def run_times(
    profile: Mapping[str, Sequence[float]], gpu_type: str, most: int, *, stated_s: float = 0.0, stated_gpus: int = 1
) -> tuple[float, ...]:
    """Seconds with 1 to ``most`` GPUs of that type; () where nothing is known of it.

    ``profile`` is by GPU type, whatever its case, "" for any; ``stated_s`` the time with ``stated_gpus``.
    """
    known = {kind.casefold(): row for kind, row in profile.items()}
    row = known.get(gpu_type.casefold()) or known.get(ANY)
    if row:
        return tuple(float(row[min(number, len(row) - 1)]) for number in range(most))
    if profile or not stated_s:
        return ()
    alone_s = stated_s / usual_share(stated_gpus)
    return tuple(alone_s * usual_share(gpus) for gpus in range(1, most + 1))


def usual_share(gpus: int) -> float:
    """The time with so many GPUs, as a share of that with one."""
    return 1.0 - PARALLEL + PARALLEL / gpus
