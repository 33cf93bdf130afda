"""The history: who did what, filterable, the newest first."""

import dataclasses
from typing import Any

from starlette.responses import Response

from isthmus.control.history import EventFilter
from isthmus.domain.errors import Invalid
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

PAGE = 100
NOUNS = ("job", "attempt", "site", "placement", "dataset", "image", "token", "user", "secret")


@pages.get("/events")
async def events(visitor: Visitor) -> Response:
    """A page of the history."""
    texts: dict[str, Any] = {name: visitor.query.get(name, "").strip()[:200] for name in ("noun", "noun_id", "actor")}
    if any("\0" in text for text in texts.values()):
        raise Invalid("There is a null character in it, which no database takes.")
    which = EventFilter(
        **texts, job=visitor.number("job"), before=visitor.number("before"), newest=True, limit=PAGE + 1
    )
    found = (await visitor.services.identity.events(visitor.caller, which)).events
    shown = list(reversed(found))[:PAGE]
    asked = {name: getattr(which, name) for name in ("noun", "noun_id", "actor", "job")}
    return visitor.page(
        "events.html",
        events=shown,
        asked={name: value for name, value in asked.items() if value},
        which=dataclasses.asdict(which),
        next=shown[-1].id if len(found) > PAGE else 0,
        nouns=NOUNS,
    )
