"""Where a task would be done soonest. Pure: what is known in, a place out; times in seconds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

# Going elsewhere must be worth it: estimates are rough, and a task that stays costs no trip.
_BETTER = 0.9
_UNKNOWN_S = 0.1  # what a call of a function takes that nobody has run yet


@dataclass(frozen=True)
class Place:
    """An agent, as another knows it."""

    id: str
    workers: int
    load_s: float = 0.0  # the work that it has, run one by one: running, waiting, and sent there since it was asked
    seconds: Mapping[str, float] = field(default_factory=dict)  # what a call of each function takes there
    trip_s: float = 0.0  # there and back, for a small task
    bytes_per_s: float = 0.0  # 0: not known
    beyond: Sequence["Place"] = ()  # its neighbours: it may give the task on


def expected_s(place: Place, function: str, units: int, size: int, usual_s: float | None) -> float | None:
    """When a task that is given to the place now would be done; None where it can't run. `usual_s`: what it takes
    here."""
    if units > place.workers:
        return None
    seconds = place.seconds.get(function, usual_s if usual_s is not None else _UNKNOWN_S)
    carry = place.trip_s + (size / place.bytes_per_s if place.bytes_per_s else 0.0)
    return place.load_s / place.workers + seconds + carry


def best(
    here: Place, neighbours: Sequence[Place], function: str, units: int, size: int, been: Collection[str] = ()
) -> Place | None:
    """The place to give a task to: `here`, a neighbour (for itself or what is beyond it), or None where none can.

    `been`: agents that have had the task; it never goes back to one.
    """
    usual = here.seconds.get(function)
    found: tuple[float, Place] | None = None
    own = expected_s(here, function, units, size, usual)
    if own is not None:
        found = (own * _BETTER, here)
    for neighbour in neighbours:
        if neighbour.id in been or neighbour.id == here.id:
            continue
        times = [expected_s(neighbour, function, units, size, usual)]
        for further in neighbour.beyond:
            if further.id not in been and further.id not in (here.id, neighbour.id):
                there = expected_s(further, function, units, size, usual)
                times.append(None if there is None else there + neighbour.trip_s)
        soonest = min((time for time in times if time is not None), default=None)
        if soonest is not None and (found is None or soonest < found[0]):
            found = (soonest, neighbour)
    return None if found is None else found[1]
