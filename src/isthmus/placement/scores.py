"""Scores: where does it run best? Each gives 0 to 1, higher is better; their weighted mean decides."""

from collections.abc import Callable

from isthmus.placement.needs import Need
from isthmus.placement.snapshot import SiteSnapshot

Score = Callable[[Need, SiteSnapshot], float]


def load(need: Need, site: SiteSnapshot) -> float:
    """How much of the scarcer resource would be left: a site with a queue of its own may go below 0 free."""
    wanted = max(
        _share(site.used_cpus + need.cpus * need.nodes, site.total_cpus),
        _share(site.used_gpus + need.gpus * need.nodes, site.total_gpus) if need.gpus else 0.0,
    )
    return 1.0 / (1.0 + wanted)


def locality(need: Need, site: SiteSnapshot) -> float:
    """The share of its bytes that are there already."""
    total = sum(size for _, size in need.digests)
    if not total:
        return 1.0
    return sum(size for digest, size in need.digests if digest in site.cached) / total


def price(need: Need, site: SiteSnapshot) -> float:
    """1 for a free site, falling with the price of an hour."""
    hour = need.nodes * (site.node_hour + need.cpus * site.cpu_hour + need.gpus * site.gpu_hour)
    return 1.0 / (1.0 + hour)


def fit(need: Need, site: SiteSnapshot) -> float:
    """Jobs without GPUs keep off sites that have them."""
    return 1.0 if need.gpus or not site.total_gpus else 0.5


WEIGHTED: tuple[tuple[str, Score, float], ...] = (
    ("load", load, 2.0),
    ("locality", locality, 2.0),
    ("price", price, 1.0),
    ("fit", fit, 0.5),
)
_TOTAL = sum(weight for _, _, weight in WEIGHTED)
_LOAD_WEIGHT = next(weight for _, judge, weight in WEIGHTED if judge is load) / _TOTAL


def score(need: Need, site: SiteSnapshot) -> float:
    """The weighted mean of all scores."""
    return sum(weight * judge(need, site) for _, judge, weight in WEIGHTED) / _TOTAL


def standing(need: Need, site: SiteSnapshot) -> float:
    """The part of the mean that does not change as the site fills."""
    return sum(weight * judge(need, site) for _, judge, weight in WEIGHTED if judge is not load) / _TOTAL


def moving(need: Need, site: SiteSnapshot) -> float:
    """The part that does: ``score`` is both together."""
    return _LOAD_WEIGHT * load(need, site)


def parts(need: Need, site: SiteSnapshot) -> dict[str, float]:
    """Each score by its name, for `explain`."""
    return {name: judge(need, site) for name, judge, _ in WEIGHTED}


def _share(used: int, total: int) -> float:
    return used / total if total else 1.0
