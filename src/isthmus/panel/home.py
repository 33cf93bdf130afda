"""The first page: what needs me, what runs, what ended, what the week took."""

import asyncio
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import HTMLResponse, Response

from isthmus.control.overview import Overviews
from isthmus.domain.sites import Health, SiteState
from isthmus.domain.views import Overview, UsageOf
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

FRESH_S = 1.5  # an overview is told again for so long: a hundred open pages ask for it at the same news

MOST_KEPT = 500  # people, whose own overviews are kept for that moment


@pages.get("/")
async def home(visitor: Visitor) -> Response:
    """What a person wants to know first; `?mine=1` of one's own jobs only."""
    mine = visitor.query.get("mine", "") == "1"
    user = visitor.caller.user.name if mine else ""
    overview = await _fresh(visitor, user)
    # The region says nothing of who looks but whether they may submit: it is rendered once for all who ask for it now.
    drawn: dict[tuple[str, bool], tuple[Overview, Response]] = visitor.panel.parts.setdefault("home drawn", {})
    key = (user, visitor.may("member"))
    if visitor.partial and key in drawn and drawn[key][0] is overview:
        return HTMLResponse(drawn[key][1].body)
    troubled = [
        site for site in overview.sites if site.health is Health.UNREACHABLE or site.state is SiteState.DRAINING
    ]
    page = visitor.page(
        "home.html",
        mine=mine,
        overview=overview,
        troubled=troubled,
        calm=not (troubled or overview.failed or overview.waiting or overview.silent),
        week=_week(overview.week),
    )
    if visitor.partial:
        if len(drawn) > MOST_KEPT:
            drawn.clear()
        drawn[key] = (overview, page)
    return page


async def _fresh(visitor: Visitor, user: str) -> Overview:
    kept: dict[str, tuple[float, asyncio.Task[Overview]]] = visitor.panel.parts.setdefault("home", {})
    began, task = kept.get(user, (0.0, None))
    if task is None or time.monotonic() - began > FRESH_S or (task.done() and task.exception() is not None):
        if len(kept) > MOST_KEPT:
            kept.clear()
        overviews: Overviews = visitor.panel.parts["overviews"]
        task = asyncio.create_task(overviews.of(visitor.caller, user))
        kept[user] = (time.monotonic(), task)
    return await asyncio.shield(task)


def _week(usage: tuple[UsageOf, ...]) -> dict[str, Any]:
    """Totals, a bar for each day, and shares of sites and users."""
    days: dict[Any, float] = defaultdict(float)
    sites: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    people: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    gpu = sum(one.gpu_h for one in usage)
    for one in usage:
        days[one.day] += one.gpu_h if gpu else one.cpu_h
        for shares, name in ((sites, one.site), (people, one.user)):
            for number, value in enumerate((one.cpu_h, one.gpu_h, one.cost)):
                shares[name][number] += value
    top = max(days.values(), default=0.0)
    today = datetime.now(UTC).date()
    week = [today - timedelta(days=6 - number) for number in range(7)]
    return {
        "cpu_h": sum(one.cpu_h for one in usage),
        "gpu_h": gpu,
        "cost": sum(one.cost for one in usage),
        "unit": "GPU hours" if gpu else "core hours",
        "days": [(day, days[day], days[day] / top if top else 0.0) for day in week],
        "empty": not usage,
        "sites": sorted(sites.items(), key=lambda pair: -pair[1][1 if gpu else 0])[:5],
        "people": sorted(people.items(), key=lambda pair: -pair[1][1 if gpu else 0])[:5],
    }
