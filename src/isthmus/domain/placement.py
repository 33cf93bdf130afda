"""What an admin says of placement: metrics and where their figures come from, weights, policies, and prices.

Two documents, each kept whole: `Rules` (``isthmus placement rules``) and `Catalogue` (``isthmus placement catalogue``).
"""

import fnmatch
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from isthmus.domain.errors import Invalid, nearest
from isthmus.domain.units import Seconds

STRICT = {"extra": "forbid"}
MAX_WEIGHT = 1e6
_KEY = re.compile(r"^[A-Za-z_][\w.\-/]*$")
_STATIC = "static"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where figures come from.

    ``prometheus`` speaks its HTTP API (VictoriaMetrics too), ``influx`` that of InfluxDB 1 (InfluxQL on ``/query``),
    ``static`` has its ``values`` here, by metric and site, and ``measured`` is what this control plane saw itself: see
    `MEASURED`.
    """

    __pydantic_config__ = STRICT

    kind: Literal["prometheus", "influx", "static", "measured"]
    url: str = ""
    database: str = ""  # of InfluxDB
    token_variable: str = ""  # environment variable of the control plane that holds a bearer token for it
    timeout: Seconds = Seconds(5)
    values: dict[str, dict[str, float]] = field(default_factory=dict)  # metric -> site, "*" for all -> figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of each site, to constrain jobs by (``latency_ms < 20``) and to score sites with.

    Scored as (value - min) / (max - min), held to 0 to 1, and turned round where lower is better.
    """

    __pydantic_config__ = STRICT

    provider: str = _STATIC  # "static": what sites say themselves under `metrics`
    query: str = ""  # in the provider's language; "$site" and "$LABEL" stand for the site's; "": the metric's name
    by: str = "site"  # the label of a result's series that names the site, where the query does not
    min: float = 0.0
    max: float = 1.0
    better: Literal["higher", "lower"] = "higher"
    weight: float = 0.0  # in the mean of all scores; 0: for constraints only
    missing: Literal["wait"] | float = "wait"
    # Where a figure can't be had, jobs that are constrained by it wait, or this number is taken for it. The score
    # leaves it out, or takes the number.
    every: Seconds = Seconds(30)  # between questions
    max_age: Seconds = Seconds(300)  # an older figure is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which policy orders the jobs of some sites or of some of their queues. The first that matches holds."""

    __pydantic_config__ = STRICT

    policy: str
    sites: tuple[str, ...] = ()  # names, with * and ?; none: all
    queues: tuple[str, ...] = ()  # likewise
    constraints: tuple[str, ...] = ()  # on the sites' labels, such as "location is DE"

    def matches(self, site: str, queue: str) -> bool:
        """Whether its names do; what its constraints say is not looked at."""
        return _among(site, self.sites) and _among(queue, self.queues)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this control plane places jobs."""

    __pydantic_config__ = STRICT

    providers: dict[str, Provider] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)  # of the built-in scores; what is not named keeps its own
    policies: tuple[Choice, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)  # user -> part for fair-share; others have 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a cloud asks for one machine."""

    __pydantic_config__ = STRICT

    hour: float
    spot_hour: float | None = None
    cpus: float = 0.0
    mem_gib: float = 0.0
    gpus: float = 0.0
    gpu_type: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What a kWh costs somewhere."""

    __pydantic_config__ = STRICT

    kwh: float
    by_hour: tuple[float, ...] = ()  # 24 prices from midnight UTC on, instead
    pue: float = 1.0  # power usage effectiveness of the data centre: what it draws for each watt of its machines

    def at(self, hour: int) -> float:
        """The price of a kWh of the machines in that hour of the day, UTC."""
        return (self.by_hour[hour % 24] if self.by_hour else self.kwh) * self.pue


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Prices of clouds and of energy, as they were somewhere at some time; in one currency."""

    __pydantic_config__ = STRICT

    currency: str = ""
    offers: dict[str, Offer] = field(default_factory=dict)  # by name, such as aws/p3.2xlarge@eu-central-1
    energy: dict[str, Tariff] = field(default_factory=dict)
    source: str = ""  # the file or URL that it was read from
    read_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesView:
    """The rules as they hold, with their version: 0 where nobody wrote any."""

    rules: Rules
    version: int = 0
    changed_at: datetime | None = None
    changed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueView:
    """The prices as they hold."""

    catalogue: Catalogue
    version: int = 0
    changed_at: datetime | None = None
    changed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureView:
    """One metric at one site. ``value`` None: none is known, and ``why`` says so; ``score`` from 0 to 1."""

    metric: str
    site: str
    value: float | None
    score: float | None
    weight: float
    provider: str
    why: str = ""
    at: datetime | None = None  # of a figure from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """A policy that a site or queue may choose."""

    name: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of one job in a forecast: seconds from now on. ``site`` empty: it never starts."""

    job: int
    name: str = ""
    site: str = ""
    start_s: float | None = None
    end_s: float | None = None
    late_s: float = 0.0  # after its deadline
    cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What becomes of the queue, if nothing comes in and every job takes its time limit."""

    jobs: int = 0
    never: int = 0  # of these, those that never start
    late: int = 0  # those that miss their deadline
    mean_wait_s: float = 0.0
    last_end_s: float = 0.0
    cost: float = 0.0
    shown: tuple[Outcome, ...] = ()  # the jobs asked for, else the first in line


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """A change to try on paper."""

    __pydantic_config__ = STRICT

    nodes: dict[str, int] = field(default_factory=dict)  # site -> so many more (or fewer) of its nodes
    without: tuple[str, ...] = ()  # sites that take nothing
    policies: dict[str, str] = field(default_factory=dict)  # site -> policy
    weights: dict[str, float] = field(default_factory=dict)  # of scores
    deadlines: dict[str, datetime] = field(default_factory=dict)  # job -> another
    priorities: dict[str, int] = field(default_factory=dict)  # job -> another
    constraints: dict[str, tuple[str, ...]] = field(default_factory=dict)  # job -> others
    show: tuple[int, ...] = ()  # jobs to tell of, besides those that are changed


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfView:
    """The queue's forecast as things are, and with the change. ``left_out``: jobs too far behind to be looked at."""

    now: Forecast
    then: Forecast
    left_out: int = 0
    notes: tuple[str, ...] = ()


MEASURED: Mapping[str, str] = {
    "wait_s": "how long jobs wait in the site's own queue, learned from the last ones",
    "bytes_per_s": "how fast data was brought there lately",
    "load": "the part of its cores that is in use",
    "failures": "the part of the last attempts there that failed through the site's own fault",
}


def check_rules(rules: Rules, scores: Mapping[str, float], policies: tuple[str, ...]) -> None:
    """Raise Invalid, with the place, where the rules name what is not there. ``scores``: the built-in ones."""
    for name, provider in rules.providers.items():
        _check_provider(name, provider)
    for name, metric in rules.metrics.items():
        _check_metric(name, metric, rules)
    for name, weight in rules.weights.items():
        if name not in scores:
            hint = nearest(name, scores)
            if name in rules.metrics:
                hint = f"A metric's weight stands with it: metrics.{name}.weight."
            raise Invalid(f"There is no score {name!r}.", place=f"weights.{name}", hint=hint)
        _check_number(weight, f"weights.{name}", 0.0)
    for number, choice in enumerate(rules.policies):
        if choice.policy not in policies:
            hint = nearest(choice.policy, policies)
            raise Invalid(f"There is no policy {choice.policy!r}.", place=f"policies[{number}].policy", hint=hint)
    for name, part in rules.shares.items():
        _check_number(part, f"shares.{name}", 1e-6)


def _check_provider(name: str, provider: Provider) -> None:
    place = f"providers.{name}"
    if name == _STATIC and provider.kind != "static":
        raise Invalid("The name 'static' is taken: it stands for what sites say themselves.", place=place)
    if provider.kind in ("prometheus", "influx"):
        if not provider.url.startswith(("http://", "https://")):
            raise Invalid(
                f"{provider.url!r} is not a URL." if provider.url else "It needs a URL.",
                place=f"{place}.url",
                hint="Such as http://127.0.0.1:9090.",
            )
        if provider.kind == "influx" and not provider.database:
            raise Invalid("InfluxDB needs the name of a database.", place=f"{place}.database")
    elif provider.url:
        raise Invalid(f"A provider of kind {provider.kind} has no URL.", place=f"{place}.url")
    if provider.values and provider.kind != "static":
        raise Invalid("Only a static provider has values.", place=f"{place}.values")
    if not 0 < provider.timeout <= 60:
        raise Invalid("It must be more than 0 and 60 s at most.", place=f"{place}.timeout")
    for metric, by_site in provider.values.items():
        for site, value in by_site.items():
            _check_number(value, f"{place}.values.{metric}.{site}", -math.inf)


def _check_metric(name: str, metric: Metric, rules: Rules) -> None:
    place = f"metrics.{name}"
    if not _KEY.fullmatch(name):
        raise Invalid(f"{name!r} is not a name that a constraint could use.", place=place)
    for bound in ("min", "max"):
        _check_number(getattr(metric, bound), f"{place}.{bound}", -math.inf)
    if not metric.max > metric.min:
        raise Invalid(f"The max, {metric.max:g}, is not above the min, {metric.min:g}.", place=f"{place}.max")
    _check_number(metric.weight, f"{place}.weight", 0.0)
    if isinstance(metric.missing, float):
        _check_number(metric.missing, f"{place}.missing", -math.inf)
    if metric.every < 1:
        raise Invalid("It must be a second or more.", place=f"{place}.every")
    if metric.provider == _STATIC and metric.provider not in rules.providers:
        return
    provider = rules.providers.get(metric.provider)
    if provider is None:
        raise Invalid(
            f"There is no provider {metric.provider!r}.",
            place=f"{place}.provider",
            hint=nearest(metric.provider, {*rules.providers, _STATIC}),
        )
    wanted = metric.query or name
    if provider.kind == "measured" and wanted not in MEASURED:
        raise Invalid(f"{wanted!r} is not measured here.", place=f"{place}.query", hint=nearest(wanted, MEASURED))
    if provider.kind == "static" and wanted not in provider.values:
        raise Invalid(
            f"The provider {metric.provider} has no values of {wanted!r}.",
            place=f"{place}.query" if metric.query else place,
            hint=nearest(wanted, provider.values),
        )
    if provider.kind == "influx" and not metric.query:
        raise Invalid(
            "InfluxDB needs a query.",
            place=f"{place}.query",
            hint="""Such as SELECT last("value") FROM "latency" WHERE time > now() - 5m GROUP BY "site".""",
        )


def check_catalogue(catalogue: Catalogue) -> None:
    """Raise Invalid, with the place, where a price can't be one."""
    for name, offer in catalogue.offers.items():
        _check_number(offer.hour, f"offers.{name}.hour", 0.0)
        if offer.spot_hour is not None:
            _check_number(offer.spot_hour, f"offers.{name}.spot_hour", 0.0)
    for name, tariff in catalogue.energy.items():
        # A kWh may cost less than nothing for an hour.
        for number, price in enumerate((tariff.kwh, *tariff.by_hour)):
            _check_number(
                price, f"energy.{name}.by_hour[{number - 1}]" if number else f"energy.{name}.kwh", -MAX_WEIGHT
            )
        if tariff.by_hour and len(tariff.by_hour) != 24:
            raise Invalid(
                f"{len(tariff.by_hour)} prices are not one for each of the 24 hours.", place=f"energy.{name}.by_hour"
            )
        _check_number(tariff.pue, f"energy.{name}.pue", 1.0)


def _check_number(value: float, place: str, least: float) -> None:
    if not math.isfinite(value) or not least <= value <= max(MAX_WEIGHT, abs(value) if least == -math.inf else 0.0):
        words = f"from {least:g} to {MAX_WEIGHT:g}" if math.isfinite(least) else "a number"
        raise Invalid(f"{value:g} can't be: it must be {words}.", place=place)


def _among(name: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
