"""Scores: where does it run best? Each gives 0 to 1, higher is better; their weighted mean decides.

A score that has nothing to say (no data to bring, no checkpoint anywhere, a figure that is missing) gives None, and
the mean is that of the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isthmus.domain.units import show_bytes, show_seconds
from isthmus.placement.filters import choose_queue
from isthmus.placement.needs import Need
from isthmus.placement.snapshot import USUAL_BYTES_S, SiteSnapshot

Score = Callable[[Need, SiteSnapshot], float | None]

HALF_MOVE_S = 60.0  # bringing the data takes so long: half the score
HALF_WAIT_S = 600.0  # likewise for the wait in the site's own queue


def load(need: Need, site: SiteSnapshot) -> float | None:
    """How much of the scarcer resource would be left: a site with a queue of its own may go below 0 free."""
    wanted = _share(site.used_cpus + need.cpus * need.nodes, site.total_cpus)
    if need.gpus:
        wanted = max(wanted, _share(site.used_gpus + need.gpus * need.nodes, site.total_gpus))
    return 1.0 / (1.0 + wanted)


def locality(need: Need, site: SiteSnapshot) -> float | None:
    """By how long it takes to bring there what is missing, at the speed seen lately."""
    if not need.digests:
        return None
    return 1.0 / (1.0 + move_s(need, site) / HALF_MOVE_S)


def wait(need: Need, site: SiteSnapshot) -> float | None:
    """By how long jobs waited in that queue lately."""
    expected = site.wait(_queue(need, site))
    return None if expected is None else 1.0 / (1.0 + expected.seconds / HALF_WAIT_S)


def price(need: Need, site: SiteSnapshot) -> float | None:
    """1 for a free site, falling with the price of an hour, energy included."""
    return 1.0 / (1.0 + max(0.0, hourly(need, site)))


def fit(need: Need, site: SiteSnapshot) -> float | None:
    """Jobs without GPUs keep off sites that have them."""
    return 1.0 if need.gpus or not site.total_gpus else 0.5


def stickiness(need: Need, site: SiteSnapshot) -> float | None:
    """Where its checkpoint lies."""
    return None if not need.at else float(need.at == site.name)


BUILT_IN: Mapping[str, Score] = {
    "load": load,
    "locality": locality,
    "wait": wait,
    "price": price,
    "fit": fit,
    "stickiness": stickiness,
}
WEIGHTS: Mapping[str, float] = {
    "load": 2.0,
    "locality": 2.0,
    "wait": 1.0,
    "price": 1.0,
    "fit": 0.5,
    "stickiness": 0.1,
}


@dataclass(frozen=True, slots=True)
class Part:
    """One score as `explain` shows it. ``value`` None: it has nothing to say."""

    name: str
    value: float | None
    weight: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """The part of a site's mean that does not change as the site fills, so that only the load is judged anew."""

    rest: float  # weighted sum of all but the load
    load: float  # its weight
    total: float  # of all weights

    def with_load(self, need: Need, site: SiteSnapshot) -> float:
        """The weighted mean now."""
        if not self.total:
            return 0.0
        moving = self.load * (load(need, site) or 0.0) if self.load else 0.0
        return (self.rest + moving) / self.total


def standing(need: Need, site: SiteSnapshot, weights: Mapping[str, float] = WEIGHTS) -> Standing:
    """What of the mean stays as the site fills."""
    rest = total = 0.0
    for name, judge in BUILT_IN.items():
        weight = weights.get(name, 0.0)
        if not weight:
            continue
        if judge is load:
            total += weight
            continue
        value = judge(need, site)
        if value is not None:
            rest += weight * value
            total += weight
    for reading in site.metrics.values():
        normal = reading.normal if reading.weight else None
        if normal is not None:
            rest += reading.weight * normal
            total += reading.weight
    return Standing(rest, weights.get("load", 0.0), total)


def score(need: Need, site: SiteSnapshot, weights: Mapping[str, float] = WEIGHTS) -> float:
    """The weighted mean of all scores."""
    return standing(need, site, weights).with_load(need, site)


def parts(need: Need, site: SiteSnapshot, weights: Mapping[str, float] = WEIGHTS) -> tuple[Part, ...]:
    """Each score with its weight, for `explain`; metrics by their own names."""
    found = [
        Part(name, judge(need, site), weights.get(name, 0.0), _note(name, need, site))
        for name, judge in BUILT_IN.items()
    ]
    for name, reading in site.metrics.items():
        if reading.weight:
            said = f"{reading.known:g} of {reading.low:g} to {reading.high:g}" if reading.known is not None else ""
            found.append(Part(name, reading.normal, reading.weight, " ".join(filter(None, (said, reading.why)))))
    return tuple(found)


def missing_bytes(need: Need, site: SiteSnapshot) -> int:
    """How much of its data is not there."""
    return sum(size for digest, size in need.digests if digest not in site.cached)


def move_s(need: Need, site: SiteSnapshot) -> float:
    """How many seconds it takes to bring there what is missing."""
    return missing_bytes(need, site) / (site.bytes_per_s or USUAL_BYTES_S)


def hourly(need: Need, site: SiteSnapshot) -> float:
    """What an hour of it costs there, energy included; in the currency of the sites' prices."""
    return need.nodes * (site.node_hour + need.cpus * site.cpu_hour + need.gpus * site.gpu_hour)


def _queue(need: Need, site: SiteSnapshot) -> str:
    if need.queue or len(site.waits) < 2:
        return need.queue
    queue = choose_queue(need, site)
    return queue.name if queue else ""


def _note(name: str, need: Need, site: SiteSnapshot) -> str:
    """What a score is made from, in words."""
    if name == "locality" and need.digests:
        missing = missing_bytes(need, site)
        if not missing:
            return "all of its data is there"
        speed = f"{show_bytes(int(site.bytes_per_s))}/s as seen" if site.bytes_per_s else "a usual speed, none was seen"
        return f"{show_bytes(missing)} to bring, {show_seconds(move_s(need, site))} at {speed}"
    if name == "wait":
        expected = site.wait(_queue(need, site))
        if expected is None:
            return "no job was seen to wait"
        cases = f"{expected.cases:.0f} recent jobs" if expected.cases >= 0.5 else "what is usual elsewhere"
        return f"{show_seconds(expected.seconds)}, from {cases}"
    if name == "price":
        return f"{hourly(need, site):.4g} an hour"
    if name == "load":
        return f"{site.used_cpus} of {site.total_cpus} cores, {site.used_gpus} of {site.total_gpus} GPUs in use"
    if name == "stickiness" and need.at == site.name:
        return "its checkpoint lies there"
    return ""


def _share(used: int, total: int) -> float:
    return used / total if total else 1.0
