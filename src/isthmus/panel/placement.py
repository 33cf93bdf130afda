"""Placement: its rules, metrics with their present figures, prices, policies; what if something changed."""

from datetime import UTC, datetime

from starlette.datastructures import MultiDict
from starlette.responses import Response

from isthmus import codec
from isthmus.client import catalogues
from isthmus.control.governing import Governing
from isthmus.documents import written
from isthmus.domain import when
from isthmus.domain.errors import Invalid, IsthmusError
from isthmus.domain.placement import Rules, WhatIf
from isthmus.panel import fields
from isthmus.panel.visitor import Pages, Visitor
from isthmus.placement.scores import WEIGHTS

pages = Pages()

OFFERS = 100  # of the catalogue that are shown at once
JOBS = 4  # rows of jobs in the form of what if


@pages.get("/placement")
async def show(visitor: Visitor) -> Response:
    """All that placement goes by; `q`: of the prices only those with this in their name."""
    return await _page(visitor)


async def _page(
    visitor: Visitor, *, form: MultiDict | None = None, fault: IsthmusError | None = None, of: str = ""
) -> Response:
    governing: Governing = visitor.services.governing
    caller = visitor.caller
    rules = await governing.rules(caller)
    prices = await governing.catalogue(caller)
    part = visitor.query.get("q", "").strip()[:100]
    offers = sorted((name, one) for name, one in prices.catalogue.offers.items() if part in name)
    typed = form or MultiDict()
    held = codec.changed(rules.rules)
    text = str(typed.get("rules", "")) if of == "rules" else written(held) if held else ""
    return visitor.page(
        "placement.html",
        status=fault.status if fault else 200,
        figures=await governing.figures(caller),
        rules=rules,
        text=text,
        policies=await governing.policies(caller),
        sites=await visitor.services.sites.list(caller),
        prices=prices,
        offers=offers[:OFFERS],
        more=max(0, len(offers) - OFFERS),
        energy=sorted((name, one) for name, one in prices.catalogue.energy.items() if part in name),
        part=part,
        typed=typed,
        fault=fault,
        of=of,
        weights=WEIGHTS,
    )


@pages.post("/placement/rules")
async def set_rules(visitor: Visitor) -> Response:
    """Let other rules hold."""
    form = await visitor.form()
    try:
        rules = codec.read(Rules, fields.document(str(form.get("rules", "")), "rules") or {})
        await visitor.services.governing.set_rules(visitor.caller, rules, _version(form))
    except IsthmusError as error:
        return await _page(visitor, form=form, fault=error, of="rules")
    return visitor.go("/placement#rules", said="These rules hold from now on.")


@pages.post("/placement/catalogue")
async def set_catalogue(visitor: Visitor) -> Response:
    """Let other prices hold: those of a text in our own form, or a table of offers in CSV."""
    form = await visitor.form()
    source = str(form.get("source", "")).strip()
    try:
        if not source:
            raise Invalid("Say where they are from.", place="source", hint="Such as prices.yaml, or aws.csv.")
        found = catalogues.parse(str(form.get("text", "")), source, prefix=str(form.get("prefix", "")).strip())
        view = await visitor.services.governing.set_catalogue(visitor.caller, found, _version(form))
    except IsthmusError as error:
        return await _page(visitor, form=form, fault=error, of="catalogue")
    count = len(view.catalogue.offers)
    return visitor.go("/placement#prices", said=f"{count} offers and {len(view.catalogue.energy)} tariffs hold.")


@pages.get("/placement/whatif")
async def ask(visitor: Visitor) -> Response:
    """The form of what if, with the queue as it is."""
    return await _whatif(visitor, MultiDict([("job[0].id", visitor.query.get("job", "")[:15])]))


@pages.post("/placement/whatif")
async def whatif(visitor: Visitor) -> Response:
    """What would become of the queue. Nothing is changed."""
    return await _whatif(visitor, await visitor.form(), asked=True)


async def _whatif(visitor: Visitor, typed: MultiDict, *, asked: bool = False) -> Response:
    sites = await visitor.services.sites.list(visitor.caller)
    fault: IsthmusError | None = None
    answer = None
    try:
        change = _change(typed, [site.name for site in sites]) if asked else WhatIf()
        answer = await visitor.services.unless_stopping(visitor.services.forecasting.whatif(visitor.caller, change))
    except IsthmusError as error:
        fault = error
    before = {one.job: one for one in answer.now.shown} if answer else {}
    return visitor.page(
        "whatif.html",
        status=fault.status if fault else 200,
        sites=sites,
        policies=await visitor.services.governing.policies(visitor.caller),
        weights=WEIGHTS,
        typed=typed,
        rows=range(JOBS),
        weighed=any(_text(typed, f"weight:{name}") for name in WEIGHTS),
        fault=fault,
        place=_field(fault.place, typed) if fault else "",
        asked=asked and fault is None,
        answer=answer,
        shown=[(before.get(one.job), one) for one in answer.then.shown] if answer else [],
    )


def _change(typed: MultiDict, sites: list[str]) -> WhatIf:
    """Raises Invalid with the field's name as its place."""
    now = datetime.now(UTC)
    jobs = {row: str(typed.get(f"job[{row}].id", "")).strip() for row in range(JOBS)}

    def of_jobs(name: str) -> list[tuple[str, str, str]]:
        found = [(row, job, str(typed.get(f"job[{row}].{name}", "")).strip()) for row, job in jobs.items()]
        for row, job, text in found:
            if text and not job:
                raise Invalid("Of which job?", place=f"job[{row}].id")
        return [(job, text, f"job[{row}].{name}") for row, job, text in found if text]

    constraints: dict[str, tuple[str, ...]] = {}
    for job, text, _ in of_jobs("constraint"):
        constraints[job] = (*constraints.get(job, ()), text)
    return WhatIf(
        nodes={name: fields.whole(text, f"nodes:{name}") for name in sites if (text := _text(typed, f"nodes:{name}"))},
        without=tuple(name for name in sites if typed.get(f"without:{name}")),
        policies={name: text for name in sites if (text := _text(typed, f"policy:{name}"))},
        weights={
            name: fields.number(text, f"weight:{name}") for name in WEIGHTS if (text := _text(typed, f"weight:{name}"))
        },
        deadlines={job: when.parse(text, place, now) for job, text, place in of_jobs("deadline")},
        priorities={job: fields.whole(text, place) for job, text, place in of_jobs("priority")},
        constraints=constraints,
        show=tuple(fields.whole(job, f"job[{row}].id") for row, job in jobs.items() if job),
    )


def _field(place: str, typed: MultiDict) -> str:
    """The field that a place of the request's body is: ``deadlines.7`` is the row of job 7."""
    what, _, name = place.removeprefix("body.").partition(".")
    name = name.partition("[")[0]
    by_site = {"nodes": "nodes", "policies": "policy", "weights": "weight"}
    if what in by_site:
        return f"{by_site[what]}:{name}"
    by_job = {"deadlines": "deadline", "priorities": "priority", "constraints": "constraint"}
    for row in range(JOBS):
        if what in by_job and _text(typed, f"job[{row}].id") == name:
            return f"job[{row}].{by_job[what]}"
    return place


def _text(typed: MultiDict, name: str) -> str:
    return str(typed.get(name, "")).strip()


def _version(form: MultiDict) -> int | None:
    """That of what was on the page: what somebody else put in place meanwhile is not lost."""
    text = str(form.get("version", ""))
    return int(text) if text.isdecimal() and len(text) < 10 else None
