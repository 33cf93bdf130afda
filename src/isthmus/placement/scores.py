"""Scores: where does it run best? Each gives 0 to 1, higher is better; their weighted mean decides.

A score that has nothing to say (no data to bring, no checkpoint anywhere, a figure that is missing) gives None, and
the mean is that of the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isthmus.domain.units import show_bytes, show_seconds
from isthmus.placement.filters import choose_queue, gpu_kind
from isthmus.placement.needs import Need
from isthmus.placement.snapshot import USUAL_BYTES_S, SiteSnapshot

Score = Callable[[Need, SiteSnapshot], float | None]

HALF_MOVE_S = 60.0  # bringing the data takes so long: half the score
HALF_WAIT_S = 600.0  # likewise for the wait in the site's own queue


def load(need: Need, site: SiteSnapshot) -> float | None:
    """How much of the scarcer resource would be left: a site with a queue of its own may go below 0 free."""
    gpus = need.gpus_of(site.gpus) * need.nodes
    return Standing(site, need.cpus * need.nodes, gpus, rest=0.0, load=1.0, total=1.0).mean()


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
    return 1.0 if need.gpus or need.part or not site.total_gpus else 0.5


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


@dataclass(slots=True)
class Standing:
    """How a need stands at a site: all of its mean that does not change as the site fills is summed up already."""

    site: SiteSnapshot
    cpus: int  # that a job takes of the site
    gpus: float  # a part of one counts as that part
    rest: float  # weighted sum of all scores but the load
    load: float  # its weight
    total: float  # of all weights

    def mean(self) -> float:
        """The weighted mean now. Asked several times for each job of a plan, so all is in one place."""
        site = self.site
        wanted = (site.used_cpus + self.cpus) / site.total_cpus if site.total_cpus else 1.0
        if self.gpus:
            also = (site.used_gpus + self.gpus) / site.total_gpus if site.total_gpus else 1.0
            if also > wanted:
                wanted = also
        return (self.rest + self.load * (1.0 / (1.0 + wanted))) / self.total


def standing(need: Need, site: SiteSnapshot, weights: Mapping[str, float] = WEIGHTS) -> Standing:
    """Sum up what of the mean stays as the site fills."""
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
    share = weights.get("load", 0.0)
    gpus = need.gpus_of(site.gpus) * need.nodes
    return Standing(site, need.cpus * need.nodes, gpus, rest, share, total or 1.0)


def score(need: Need, site: SiteSnapshot, weights: Mapping[str, float] = WEIGHTS) -> float:
    """The weighted mean of all scores."""
    return standing(need, site, weights).mean()


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
    gpus = need.gpus_of(site.gpus)
    gpu_hour = site.gpu_price(gpu_kind(need, site)) if gpus and site.gpu_hours else site.gpu_hour
    return need.nodes * (site.node_hour + need.cpus * site.cpu_hour + gpus * gpu_hour)


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
        return f"{hourly(need, site):.4g} an hour" + (f"; {site.price_note}" if site.price_note else "")
    if name == "load":
        return f"{site.used_cpus} of {site.total_cpus} cores, {site.used_gpus} of {site.total_gpus} GPUs in use"
    if name == "stickiness" and need.at == site.name:
        return "its checkpoint lies there"
    return ""
