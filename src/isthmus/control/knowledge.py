"""What is known beside the sites' own rows: rules, prices, figures, waits, who used how much.

    documents, figures, past attempts ─► Knowledge ─► furnished snapshots, and the terms of a plan

Read whole from the database by the supervisor now and then, and by whoever explains: both see the same.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar

from sqlalchemy import Connection

from isthmus import codec
from isthmus.db import attempts as attempt_rows
from isthmus.db import documents, figures
from isthmus.db.figures import BYTES_PER_S, Figure
from isthmus.domain.errors import Invalid, nearest
from isthmus.domain.placement import Catalogue, Metric, Offer, Provider, Rules, Tariff
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Price, SiteSpec
from isthmus.placement import constraints
from isthmus.placement.backfill import Release
from isthmus.placement.plan import Terms
from isthmus.placement.policies import Usage, by_priority, find_policy
from isthmus.placement.scores import WEIGHTS
from isthmus.placement.snapshot import Expected, Reading, SiteSnapshot
from isthmus.placement.waits import Case, learn

log = logging.getLogger(__name__)

T = TypeVar("T")

DAY_S = 86400.0
DAYS = 28
HALF_LIFE_DAYS = 7.0  # use that long ago counts half in fair shares


@dataclass(frozen=True, slots=True)
class Rates:
    """What an hour costs at a site, energy included, in the currency of all sites."""

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0
    node_hour: float = 0.0
    gpu_hours: Mapping[str, float] = field(default_factory=dict)  # of some types, in small letters, instead
    note: str = ""  # what is not known

    def gpu(self, kind: str) -> float:
        """Of a GPU of that type."""
        return self.gpu_hours.get(kind.casefold(), self.gpu_hour)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """See the module. An empty one knows nothing, and plans as if nothing was ever said."""

    rules: Rules = Rules()
    catalogue: Catalogue = Catalogue()
    figures: Mapping[int, Mapping[str, Figure]] = field(default_factory=dict)
    waits: Mapping[str, Mapping[str, Expected]] = field(default_factory=dict)  # site -> queue
    failures: Mapping[str, float] = field(default_factory=dict)  # site -> part of its last attempts
    usage: Mapping[str, Usage] = field(default_factory=dict)
    at: float = 0.0

    def furnish(self, site: SiteSnapshot, site_id: int, spec: SiteSpec) -> None:
        """Put into a snapshot what is known of its site. May be called again as things change."""
        here = self.figures.get(site_id, {})
        speed = here.get(BYTES_PER_S)
        site.bytes_per_s = speed.value or 0.0 if speed else 0.0
        site.waits = self.waits.get(spec.name, {})
        site.metrics = {
            name: self._reading(name, metric, site, spec, here) for name, metric in self.rules.metrics.items()
        }
        rates = self.rates(spec.price)
        site.cpu_hour, site.gpu_hour, site.node_hour = rates.cpu_hour, rates.gpu_hour, rates.node_hour
        site.gpu_hours, site.price_note = rates.gpu_hours, rates.note
        site.policy = _installed(spec.policy or self._policy(site, ""))
        chosen = {queue.name: self._policy(site, queue.name) for queue in site.queues} if not spec.policy else {}
        chosen.update(spec.queue_policies)
        names = {queue: _installed(policy) for queue, policy in chosen.items()}
        site.queue_policies = {queue: policy for queue, policy in names.items() if policy != site.policy}

    def terms(self, releases: Callable[[str], Sequence[Release]] | None = None) -> Terms:
        """By what to plan now."""
        terms = Terms(weights={**WEIGHTS, **self.rules.weights}, usage=self.usage, parts=self.rules.shares)
        return replace(terms, releases=releases) if releases is not None else terms

    def provider(self, metric: Metric) -> Provider:
        """Where a metric's figures come from; where no provider is named "static", what sites say themselves."""
        return self.rules.providers.get(metric.provider) or Provider(kind="static")

    def _policy(self, site: SiteSnapshot, queue: str) -> str:
        for choice in self.rules.policies:
            if choice.queues and not queue:
                continue
            if choice.matches(site.name, queue) and not any(
                constraints.parse(text).rejects(site.labels) for text in choice.constraints
            ):
                return choice.policy
        return ""

    def _reading(
        self, name: str, metric: Metric, site: SiteSnapshot, spec: SiteSpec, here: Mapping[str, Figure]
    ) -> Reading:
        value, why = self._value(name, metric, site, spec, here)
        return Reading(
            value=value,
            why=why,
            missing=metric.missing,
            low=metric.min,
            high=metric.max,
            lower_is_better=metric.better == "lower",
            weight=metric.weight,
        )

    def _value(
        self, name: str, metric: Metric, site: SiteSnapshot, spec: SiteSpec, here: Mapping[str, Figure]
    ) -> tuple[float | None, str]:
        said = spec.metrics.get(name)
        if isinstance(said, int | float):
            return float(said), ""
        provider = self.provider(metric)
        if provider.kind == "static":
            values = provider.values.get(metric.query or name, {})
            value = values.get(spec.name, values.get("*"))
            return value, "" if value is not None else f"neither the site nor the provider {metric.provider} gives one"
        if provider.kind == "measured":
            return self._measured(metric.query or name, site)
        figure = here.get(name)
        if figure is None:
            return None, ""
        old = self.at - figure.at
        if figure.value is None or old > metric.max_age:
            return None, figure.error or f"the last figure is {old:.0f} s old"
        return figure.value, figure.error

    def _measured(self, what: str, site: SiteSnapshot) -> tuple[float | None, str]:
        if what == "load":
            return (site.used_cpus / site.total_cpus, "") if site.total_cpus else (None, "it has no cores")
        if what == "wait_s":
            expected = site.wait("")
            return (expected.seconds, "") if expected else (None, "no job was seen to wait there")
        if what == "bytes_per_s":
            return (site.bytes_per_s, "") if site.bytes_per_s else (None, "no transfer was seen")
        part = self.failures.get(site.name)
        return part, "" if part is not None else "no attempt ended there yet"

    def rates(self, price: Price) -> Rates:
        """What the site says, its offers in the catalogue, and energy."""
        notes: list[str] = []
        kwh = self._known("tariff", price.energy, self.catalogue.energy, Tariff(kwh=0.0), notes).at(
            int(self.at // 3600) % 24
        )
        node = price.node_hour + self._asked(price.offer, price.spot, notes)
        gpus: dict[str, float] = {}
        for kind, one in price.gpus.items():
            watts = price.gpu_watts if one.watts is None else one.watts
            hour = price.gpu_hour if one.hour is None else one.hour
            if one.offer:
                machine = self.catalogue.offers.get(one.offer)
                hour = self._asked(one.offer, price.spot, notes) / max(1.0, machine.gpus if machine else 1.0)
            gpus[kind.casefold()] = hour + watts / 1000.0 * kwh
        return Rates(
            cpu_hour=price.cpu_hour + price.cpu_watts / 1000.0 * kwh,
            gpu_hour=price.gpu_hour + price.gpu_watts / 1000.0 * kwh,
            node_hour=node + price.node_watts / 1000.0 * kwh,
            gpu_hours=gpus,
            note="; ".join(dict.fromkeys(notes)),
        )

    def _asked(self, name: str, spot: bool, notes: list[str]) -> float:
        """What the catalogue asks for an hour of a machine."""
        offer = self._known("offer", name, self.catalogue.offers, Offer(hour=0.0), notes)
        return offer.spot_hour if spot and offer.spot_hour is not None else offer.hour

    @staticmethod
    def _known(what: str, name: str, among: Mapping[str, T], free: T, notes: list[str]) -> T:
        if name and name not in among:
            notes.append(f"the catalogue has no {what} {name!r}, which counts nothing. {nearest(name, among)}".strip())
        return among.get(name, free)


def read_rules(conn: Connection, now: float) -> Knowledge:
    """What decides where jobs fit at all: cheap enough for every submission."""
    rules = rules_of(conn)
    return Knowledge(rules=rules, figures=figures.every(conn) if rules.metrics else {}, at=now)


def read(conn: Connection, now: float, specs: Iterable[SiteSpec] = ()) -> Knowledge:
    """All that is known now. ``specs``: the sites', which may choose policies themselves."""
    rules = rules_of(conn)
    cases, failures = _past(conn, now)
    return Knowledge(
        rules=rules,
        catalogue=catalogue_of(conn),
        figures=figures.every(conn),
        waits=learn(cases),
        failures=failures,
        usage=_usage(conn, now) if _weighs_use(rules, specs) else {},
        at=now,
    )


def rules_of(conn: Connection) -> Rules:
    """The rules, as an admin wrote them last."""
    row = documents.get(conn, documents.RULES)
    return _rules(row.body) if row is not None else Rules()


def catalogue_of(conn: Connection) -> Catalogue:
    """The catalogue of prices, as it was read last."""
    row = documents.get(conn, documents.CATALOGUE)
    return _catalogue(row.body) if row is not None else Catalogue()


@lru_cache(maxsize=4)
def _rules(text: str) -> Rules:
    return codec.read_json(Rules, text)


@lru_cache(maxsize=4)
def _catalogue(text: str) -> Catalogue:
    return codec.read_json(Catalogue, text)


def _past(conn: Connection, now: float) -> tuple[list[Case], dict[str, float]]:
    """How long the last attempts waited at each site, and which part of those that ended failed by its fault."""
    cases: list[Case] = []
    ended: dict[str, list[bool]] = {}
    for row in attempt_rows.queued(conn):
        queue = str(json.loads(row.plan).get("queue", ""))
        if row.started_at is not None:
            waited = row.started_at - row.submitted_at
            cases.append(Case(row.site, queue, max(0.0, waited), max(0.0, now - row.started_at)))
        elif row.ended_at is None:
            cases.append(Case(row.site, queue, max(0.0, now - row.submitted_at), over=False))
        if row.ended_at is not None:
            reason = Reason(row.reason) if row.reason in Reason.__members__ else Reason.NONE
            ended.setdefault(row.site, []).append(reason.infrastructure and reason is not Reason.PREEMPTED)
    return cases, {site: sum(failed) / len(failed) for site, failed in ended.items()}


def _weighs_use(rules: Rules, specs: Iterable[SiteSpec]) -> bool:
    """Whether any policy that is chosen somewhere may ask who used how much."""
    names = {choice.policy for choice in rules.policies}
    for spec in specs:
        names.update((spec.policy, *spec.queue_policies.values()))
    return any(find_policy(_installed(name)).order is not by_priority for name in names)


@lru_cache(maxsize=64)
def _installed(policy: str) -> str:
    """The policy, or that by priority where its plug-in is gone: jobs must not wait for a package."""
    try:
        find_policy(policy)
    except Invalid as error:
        log.warning("%s Jobs go by priority instead.", error)
        return ""
    return policy


def _usage(conn: Connection, now: float) -> dict[str, Usage]:
    """What each user had reserved in the last weeks, a day's use counting half after a week."""
    days = [now - DAY_S * (DAYS - number) for number in range(DAYS)]
    weights = [0.5 ** ((DAYS - number - 0.5) / HALF_LIFE_DAYS) for number in range(DAYS)]
    found: dict[str, Usage] = {}
    for row in attempt_rows.usage(conn, days, now):
        values = row._mapping
        cpu_s = sum(weight * float(values[f"cpu{number}"] or 0.0) for number, weight in enumerate(weights))
        gpu_s = sum(weight * float(values[f"gpu{number}"] or 0.0) for number, weight in enumerate(weights))
        before = found.get(row.user, Usage())
        found[row.user] = Usage(before.cpu_s + cpu_s, before.gpu_s + gpu_s)
    return found
