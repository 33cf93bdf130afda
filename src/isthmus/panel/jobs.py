"""The table of jobs: filters in the URL, pages by key, saved views, and what is done to many at once."""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import MultiDict, QueryParams
from starlette.responses import Response

from isthmus.api.jobs import label_of, states_of
from isthmus.control.jobs import JobFilter
from isthmus.domain.errors import Invalid, IsthmusError
from isthmus.domain.units import Seconds
from isthmus.domain.views import JobView
from isthmus.panel import words
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

PAGE = 50
FILTERS = ("q", "state", "user", "site", "label", "array", "since", "metric", "order")
MAX_BULK = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the URL asks of the table."""

    q: str = ""
    state: tuple[str, ...] = ()
    user: str = ""
    site: str = ""
    label: str = ""
    array: int = 0
    since: str = ""  # submitted in the last 2h, 3d, …
    metric: str = ""
    order: str = ""  # "": the newest first; queue: as they will be placed
    before: int = 0

    @classmethod
    def of(cls, query: QueryParams) -> "Asked":
        """Raises Invalid."""
        numbers: dict[str, Any] = {}
        for name in ("array", "before"):
            text = query.get(name, "")
            if text and (not text.isdecimal() or len(text) > 15):
                raise Invalid(f"{text[:40]!r} is not a job's number.", place=name)
            numbers[name] = int(text or 0)
        states = tuple(dict.fromkeys(word for word in query.getlist("state") if word))
        texts: dict[str, Any] = {
            name: query.get(name, "").strip()[:200]
            for name in ("q", "user", "site", "label", "since", "metric", "order")
        }
        if any("\0" in text for text in texts.values()):
            raise Invalid("There is a null character in it, which no database takes.")
        return cls(state=states, **texts, **numbers)

    @property
    def filter(self) -> JobFilter:
        """Raises Invalid."""
        labels = (label_of(self.label),) if self.label else ()
        since = datetime.now(UTC) - timedelta(seconds=_span(self.since)) if self.since else None
        return JobFilter(
            states=states_of(self.state),
            user=self.user,
            site=self.site,
            name=self.q,
            label=labels,
            array=self.array,
            since=since,
            queue=self.order == "queue",
            before=self.before,
            limit=PAGE,
        )

    @property
    def query(self) -> dict[str, Any]:
        """What stands in the URL, without the page."""
        found = {name: getattr(self, name) for name in FILTERS}
        return {name: value for name, value in found.items() if value}


@pages.get("/jobs")
async def table(visitor: Visitor) -> Response:
    """A page of the table. A number in the search field leads to that job."""
    if visitor.partial == "rows":
        # The rows say nothing of who looks but whether they may submit.
        key = ("jobs", str(visitor.query), visitor.may("member"))
        return await visitor.panel.shared.of(key, lambda: _table(visitor))
    return await _table(visitor)


async def _table(visitor: Visitor) -> Response:
    asked, wrong = Asked(), None
    try:
        asked = Asked.of(visitor.query)
        number = asked.q.removeprefix("#")
        if number.isdecimal() and len(number) < 16 and not visitor.partial and visitor.query.get("go"):
            return visitor.go(f"/jobs/{number}")
        page = await visitor.services.jobs.list(visitor.caller, asked.filter)
    except Invalid as error:
        wrong = error
        page = await visitor.services.jobs.list(visitor.caller, JobFilter(limit=PAGE))
    values: dict[int, Any] = {}
    if asked.metric and page.jobs:
        ids = [job.id for job in page.jobs]
        values = await visitor.services.measurements.ends(visitor.caller, ids, asked.metric)
    if visitor.partial == "rows":
        return visitor.page("jobs.html", asked=asked, page=page, values=values)
    sites = await visitor.services.sites.list(visitor.caller)
    people = await visitor.services.identity.users(visitor.caller)
    views = await visitor.panel.signing.saved_views(visitor.caller)
    here = urlencode(sorted(_pairs(asked.query)))
    return visitor.page(
        "jobs.html",
        asked=asked,
        wrong=wrong,
        page=page,
        values=values,
        sites=[site.name for site in sites],
        people=[user.name for user in people],
        views=[(view, urlencode(sorted(_pairs(parse_qs(view.query)))) == here) for view in views],
        groups=("live", "waiting", "running", "ended"),
    )


def _span(text: str) -> int:
    try:
        return Seconds.parse(text)
    except Invalid as error:
        error.place = "since"
        raise


def _pairs(query: Any) -> list[tuple[str, str]]:
    return [
        (name, str(one))
        for name, value in query.items()
        for one in (value if isinstance(value, list | tuple) else [value])
    ]


@pages.post("/jobs/act")
async def act(visitor: Visitor) -> Response:
    """Kill, retry or order the jobs that are marked, or all that the filters leave."""
    form = await visitor.form()
    back = form.get("back", "/jobs")
    try:
        verb = form.get("verb", "")
        ids = await _marked(visitor, form, verb)
        if not ids:
            raise Invalid("No job is marked.", hint="Mark some in the table first.")
        said = await done_to(visitor, verb, ids, form)
    except IsthmusError as error:
        return visitor.go(back, error=error)
    return visitor.go(back, said=said)


async def _marked(visitor: Visitor, form: MultiDict, verb: str) -> list[int]:
    if form.get("all"):
        return await _all_of(visitor, form.get("query", ""), verb)
    return [int(text) for text in form.getlist("job") if text.isdecimal() and len(text) < 16]


async def _all_of(visitor: Visitor, query: str, verb: str) -> list[int]:
    """Every job that the filters leave and that the verb can be said to."""
    asked = Asked.of(QueryParams(query))
    useful = {"kill": words.can_end, "retry": words.can_retry, "priority": words.can_end}.get(verb, words.can_end)
    found: list[int] = []
    before = 0
    while len(found) < MAX_BULK:
        page = await visitor.services.jobs.list(
            visitor.caller, dataclasses.replace(asked.filter, before=before, limit=1000)
        )
        found.extend(job.id for job in page.jobs if useful(job))
        if page.next is None:
            break
        before = page.next
    return found


async def done_to(visitor: Visitor, verb: str, ids: list[int], form: MultiDict) -> str:
    """Do it to these jobs, and say so in a sentence."""
    jobs = visitor.services.jobs
    which = f"Job {ids[0]}" if len(ids) == 1 else words.plural(len(ids), "job")
    if verb == "kill":
        ended = [job for job in await jobs.kill(visitor.caller, ids) if job.kill_by]
        return f"{which}: asked to end." if ended or len(ids) > 1 else f"{which} had ended already."
    if verb == "retry":
        await jobs.retry(visitor.caller, ids)
        return f"{which}: queued again."
    if verb == "priority":
        text = form.get("priority", "").strip()
        try:
            priority = int(text)
        except ValueError:
            raise Invalid(f"{text[:40]!r} is not a whole number.", place="priority") from None
        await jobs.set_priority(visitor.caller, ids, priority)
        return f"{which}: priority {priority}."
    raise Invalid(f"{verb[:40]!r} can't be done to jobs.", hint="There is: kill, retry, priority.")


@pages.post("/jobs/order")
async def order(visitor: Visitor) -> Response:
    """A job was dragged before another in the queue: it gets the priority that puts it there."""
    form = await visitor.form()
    job = await _job(visitor, form.get("job", ""))
    ahead = await _job(visitor, form.get("ahead_of", ""))
    # Of one priority the older goes first: the younger must be raised by one to stand before the other.
    priority = ahead.priority if job.id < ahead.id else ahead.priority + 1
    await visitor.services.jobs.set_priority(visitor.caller, [job.id], priority)
    return visitor.go("/jobs?order=queue", said=f"Job {job.id}: priority {priority}.")


async def _job(visitor: Visitor, text: str) -> JobView:
    if not text.isdecimal() or len(text) > 15:
        raise Invalid(f"{text[:40]!r} is not a job's number.")
    return await visitor.services.jobs.get(visitor.caller, int(text))


@pages.post("/views")
async def save_view(visitor: Visitor) -> Response:
    """Give the filters of the table a name, or take it away."""
    form = await visitor.form()
    query = form.get("query", "")
    back = f"/jobs?{query}" if query else "/jobs"
    try:
        if form.get("remove"):
            await visitor.panel.signing.remove_view(visitor.caller, form["remove"])
            return visitor.go(back, said="The view is gone.")
        await visitor.panel.signing.save_view(visitor.caller, form.get("name", ""), query)
    except IsthmusError as error:
        return visitor.go(back, error=error)
    return visitor.go(back, said=f"Saved as {form.get('name', '').strip()}.")
