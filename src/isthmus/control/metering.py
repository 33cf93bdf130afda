"""Metering: the figures of sites, asked of their providers now and then, and kept in the database.

Each provider is asked on its own: one that hangs holds nobody up. What can't be had is noted with the reason, and the
last figure holds until it is too old. Run by the leading supervisor alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from isthmus.control.knowledge import Knowledge
from isthmus.db.figures import Figure
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Unavailable
from isthmus.domain.placement import Metric, Provider
from isthmus.monitoring.providers import EVERYWHERE, ask, filled, is_per_site

log = logging.getLogger(__name__)

AT_ONCE = 8  # questions to one provider


@dataclass(frozen=True, slots=True)
class Metered:
    """A site as metering sees it."""

    id: int
    name: str
    labels: Mapping[str, object]
    queries: Mapping[str, object]  # metric -> its query for this site; figures that it gives itself are none


Keep = Callable[[Sequence[Figure]], Awaitable[None]]


class Metering:
    """Asks when a metric's time has come. ``round`` is called again and again."""

    def __init__(self, clock: Clock, http: httpx.AsyncClient | None = None) -> None:
        self._clock = clock
        self._http = http
        self._asked: dict[str, float] = {}
        self._trouble: dict[str, str] = {}

    async def close(self) -> None:
        """Close connections to providers."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def soonest(self, knowledge: Knowledge) -> float:
        """In how many seconds the next question is due, a second at least."""
        now = self._clock.monotonic()
        due = (self._asked.get(name, now) + metric.every - now for name, metric in knowledge.rules.metrics.items())
        return max(1.0, min(due, default=3600.0))

    async def round(self, knowledge: Knowledge, sites: Sequence[Metered], *, now: bool = False) -> list[Figure]:
        """The figures whose time has come, with ``now`` all of them; each with a value or why there is none."""
        due = {
            name: metric
            for name, metric in knowledge.rules.metrics.items()
            if knowledge.provider(metric).kind in ("prometheus", "influx") and (now or self._is_due(name, metric))
        }
        if not due or not sites:
            return []
        if self._http is None:
            self._http = httpx.AsyncClient(follow_redirects=True)
        gates: dict[str, asyncio.Semaphore] = {}
        async with asyncio.TaskGroup() as group:
            tasks = []
            for name, metric in due.items():
                self._asked[name] = self._clock.monotonic()
                gate = gates.setdefault(metric.provider, asyncio.Semaphore(AT_ONCE))
                work = self._metric(name, metric, knowledge.provider(metric), sites, gate)
                tasks.append(group.create_task(work))
        return [figure for task in tasks for figure in task.result()]

    def _is_due(self, name: str, metric: Metric) -> bool:
        asked = self._asked.get(name)
        return asked is None or self._clock.monotonic() - asked >= metric.every

    async def _metric(
        self, name: str, metric: Metric, provider: Provider, sites: Sequence[Metered], gate: asyncio.Semaphore
    ) -> list[Figure]:
        """One metric at all sites: one question for all, and one for each site that the query names."""
        whole: dict[str, asyncio.Task[dict[str, float]]] = {}
        found: list[Figure] = []

        async def question(query: str) -> dict[str, float]:
            assert self._http is not None
            async with gate:
                return await ask(self._http, provider, query, metric.by)

        async def one(site: Metered) -> Figure | None:
            said = site.queries.get(name)
            if isinstance(said, int | float):
                return None
            query = str(said or metric.query or name)
            try:
                if is_per_site(query) or said:
                    answer = await question(filled(query, site.labels))
                    value = next(iter(answer.values()), None) if len(answer) < 2 else answer.get(site.name)
                else:
                    if query not in whole:
                        whole[query] = asyncio.create_task(question(query))
                    answer = await whole[query]
                    value = answer.get(site.name, answer.get(EVERYWHERE))
            except Unavailable as error:
                return Figure(site.id, name, None, 0.0, f"{metric.provider}: {error}")
            if value is None:
                return Figure(site.id, name, None, 0.0, f"{metric.provider} has no figure for {site.name}")
            return Figure(site.id, name, value, self._clock.now().timestamp())

        found = [figure for figure in await asyncio.gather(*(one(site) for site in sites)) if figure is not None]
        self._tell(name, next((figure.error for figure in found if figure.error), ""))
        return found

    def _tell(self, name: str, trouble: str) -> None:
        """Log what is news: a provider that is down is not told of twice a minute."""
        if self._trouble.get(name, "") != trouble:
            self._trouble[name] = trouble
            if trouble:
                log.warning("the metric %s can't be read: %s", name, trouble)
            else:
                log.info("the metric %s is read again", name)
