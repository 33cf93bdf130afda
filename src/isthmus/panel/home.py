"""The first page: what needs me, what runs, what ended, what the week took."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from isthmus.domain.sites import Health, SiteState
from isthmus.domain.views import UsageOf
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()


@pages.get("/")
async def home(visitor: Visitor) -> Response:
    """What a person wants to know first; `?mine=1` of one's own jobs only."""
    mine = visitor.query.get("mine", "") == "1"
    user = visitor.caller.user.name if mine else ""
    if visitor.partial:
        # It says nothing of who looks but whether they may submit.
        return await visitor.panel.shared.of(
            ("home", user, visitor.may("member")), lambda: _page(visitor, user, mine=mine)
        )
    return await _page(visitor, user, mine=mine)


async def _page(visitor: Visitor, user: str, *, mine: bool) -> Response:
    overview = await visitor.services.overviews.of(visitor.caller, user)
    troubled = [
        site for site in overview.sites if site.health is Health.UNREACHABLE or site.state is SiteState.DRAINING
    ]
    return visitor.page(
        "home.html",
        mine=mine,
        overview=overview,
        troubled=troubled,
        calm=not (troubled or overview.failed or overview.waiting or overview.silent),
        week=_week(overview.week),
    )


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
