"""`isthmus placement rules`, `catalogue`, `metrics` and `whatif`: what the server places by, seen and changed."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from isthmus.cli import output
from isthmus.cli.calling import client, command
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.domain.placement import Catalogue, CatalogueView, Rules, RulesView, WhatIf, WhatIfView

T = TypeVar("T")


@command
async def rules(
    file: Annotated[
        Path | None, typer.Argument(help="Let these rules hold: a YAML file. None: show those that hold.")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", help="Only if the rules that hold are of this version.", min=0)
    ] = None,
    form: Output = Format.TABLE,
) -> None:
    """Show or change metrics and where their figures come from, weights of scores, policies of sites and queues."""
    from isthmus.domain.placement import RulesView

    async with client() as isthmus:
        if file is None:
            found = await isthmus.placement.rules()
        else:
            found = await isthmus.placement.set_rules(_read_rules(file), version=version)
    output.show(found, RulesView, form, lambda: _rules(found))


@command
async def catalogue(
    what: Annotated[str, typer.Argument(help="`show`, or `refresh`.", metavar="[show|refresh]")] = "show",
    source: Annotated[
        str, typer.Argument(help="Where to refresh it from: a file or a URL. None: as the last time.")
    ] = "",
    prefix: Annotated[str, typer.Option("--prefix", help="What offers' names begin with, of a CSV table.")] = "",
    name: Annotated[str, typer.Option("--name", help="Show only what has this in its name.")] = "",
    form: Output = Format.TABLE,
) -> None:
    """Show the prices of clouds and of energy, or read them anew from a file or a URL."""
    from isthmus.domain.errors import Invalid, nearest
    from isthmus.domain.placement import CatalogueView

    if what not in ("show", "refresh"):
        hint = nearest(what, ("show", "refresh"))
        raise Invalid(f"{what!r} is not what can be done with it.", place="catalogue", hint=hint)
    async with client() as isthmus:
        found = await isthmus.placement.catalogue()
        if what == "refresh":
            found = await isthmus.placement.set_catalogue(_read_catalogue(found, source, prefix))
            prices = found.catalogue
            output.note(f"{len(prices.offers)} offers and {len(prices.energy)} tariffs of {prices.source} hold.")
    output.show(found, CatalogueView, form, lambda: _prices(found, name) if what == "show" else None)


@command
async def metrics(form: Output = Format.TABLE) -> None:
    """Show each metric at each site, as placement sees it now, or why there is no figure."""
    from isthmus.domain.placement import FigureView

    async with client() as isthmus:
        found = await isthmus.placement.metrics()
    rows = [
        [
            one.metric,
            one.site,
            "" if one.value is None else f"{one.value:g}",
            "" if one.score is None else f"{one.score:.2f}",
            f"{one.weight:g}",
            one.provider,
            output.when(one.at),
            one.why,
        ]
        for one in found
    ]
    head = ("METRIC", "SITE", "VALUE", "SCORE", "WEIGHT", "FROM", "AT", "WHY")
    empty = "There are no metrics: isthmus placement rules FILE"
    output.show(found, list[FigureView], form, lambda: output.table(head, rows, empty=empty))


@command
async def whatif(
    nodes: Annotated[list[str] | None, typer.Option("--nodes", help="SITE=+N: more nodes, or SITE=-N: fewer.")] = None,
    without: Annotated[list[str] | None, typer.Option("--without", help="SITE that takes nothing.")] = None,
    policy: Annotated[list[str] | None, typer.Option("--policy", help="SITE=POLICY.")] = None,
    weight: Annotated[list[str] | None, typer.Option("--weight", help="SCORE=NUMBER.")] = None,
    deadline: Annotated[list[str] | None, typer.Option("--deadline", help="JOB=TIME, or JOB=+3h: from now on.")] = None,
    priority: Annotated[list[str] | None, typer.Option("--priority", help="JOB=NUMBER.")] = None,
    constraint: Annotated[
        list[str] | None, typer.Option("--constraint", help="JOB=CONSTRAINT; may be given again.")
    ] = None,
    job: Annotated[list[int] | None, typer.Option("--job", help="A job to tell of; may be given again.")] = None,
    form: Output = Format.TABLE,
) -> None:
    """Tell what would become of the queue with other nodes, deadlines, priorities, policies or weights.

    On paper: nothing is changed. Jobs are taken to run as long as they may.
    """
    from isthmus.domain import when
    from isthmus.domain.placement import WhatIf, WhatIfView

    now = datetime.now(UTC)
    constraints: dict[str, tuple[str, ...]] = {}
    for name, text in _pairs(constraint, "--constraint"):
        constraints[name] = (*constraints.get(name, ()), text)
    change = WhatIf(
        nodes={name: _whole(text, f"--nodes {name}") for name, text in _pairs(nodes, "--nodes")},
        without=tuple(without or ()),
        policies=dict(_pairs(policy, "--policy")),
        weights={name: _number(text, f"--weight {name}") for name, text in _pairs(weight, "--weight")},
        deadlines={name: when.parse(text, f"--deadline {name}", now) for name, text in _pairs(deadline, "--deadline")},
        priorities={name: _whole(text, f"--priority {name}") for name, text in _pairs(priority, "--priority")},
        constraints=constraints,
        show=tuple(job or ()),
    )
    async with client() as isthmus:
        found = await isthmus.placement.whatif(change)
    output.show(found, WhatIfView, form, lambda: _compared(found, change))


def _read_rules(file: Path) -> "Rules":
    from isthmus import codec, documents
    from isthmus.domain.placement import Rules

    return _placed(str(file), lambda: codec.read(Rules, documents.read(file) or {}))


def _read_catalogue(before: "CatalogueView", source: str, prefix: str) -> "Catalogue":
    from isthmus.client import catalogues
    from isthmus.domain.errors import Invalid

    chosen = source or before.catalogue.source
    if not chosen:
        raise Invalid("It was never read from anywhere.", place="catalogue refresh", hint="Name a file or a URL.")
    if not source and not prefix and chosen.lower().partition("?")[0].endswith(".csv"):
        prefix = next(iter(before.catalogue.offers), "").partition("/")[0]
    return _placed(chosen, lambda: catalogues.read(chosen, prefix=prefix))


def _placed(file: str, read: Callable[[], T]) -> T:
    """What `read` gives; what it finds wrong is said with the file's name."""
    from isthmus.domain.errors import Invalid

    try:
        return read()
    except Invalid as error:
        if not error.place.startswith(file):
            error.place = f"{file}: {error.place}" if error.place else file
        raise


def _rules(found: "RulesView") -> None:
    from isthmus import codec
    from isthmus.documents import written

    by = f"version {found.version}, by {found.changed_by} at {output.when(found.changed_at)}"
    print(f"# {by}" if found.version else "# nobody wrote any: every site by priority, the usual weights")
    text = codec.changed(found.rules)
    if text:
        print(written(text), end="")


def _prices(found: "CatalogueView", name: str) -> None:
    prices = found.catalogue
    if prices.source:
        print(f"{prices.source}, read {output.when(prices.read_at)}\n")
    head = ("OFFER", "AN HOUR", "SPOT", "CPUS", "MEMORY", "GPUS")
    rows = [
        [
            key,
            f"{one.hour:g} {prices.currency}".strip(),
            "" if one.spot_hour is None else f"{one.spot_hour:g}",
            f"{one.cpus:g}" if one.cpus else "",
            f"{one.mem_gib:g} GiB" if one.mem_gib else "",
            f"{one.gpus:g}×{one.gpu_type or 'GPU'}" if one.gpus else "",
        ]
        for key, one in sorted(prices.offers.items())
        if name in key
    ]
    output.table(head, rows, empty="There is no such offer: isthmus placement catalogue refresh FILE|URL")
    energy = [
        [key, f"{one.kwh:g} {prices.currency}".strip(), "by the hour" if one.by_hour else "", f"{one.pue:g}"]
        for key, one in sorted(prices.energy.items())
        if name in key
    ]
    if energy:
        print()
        output.table(("ENERGY", "A KWH", "", "PUE"), energy)


def _compared(found: "WhatIfView", change: "WhatIf") -> None:
    from isthmus.domain.placement import WhatIf
    from isthmus.domain.units import show_seconds

    def line(what: str, value: Any) -> list[str]:
        return [what, value(found.now), value(found.then)]

    both: list[tuple[str, Any]] = [
        ("jobs in line", lambda one: str(one.jobs)),
        ("never start", lambda one: str(one.never)),
        ("miss their deadline", lambda one: str(one.late)),
        ("mean wait", lambda one: show_seconds(one.mean_wait_s)),
        ("last one ends in", lambda one: show_seconds(one.last_end_s)),
        ("cost", lambda one: f"{one.cost:.2f}"),
    ]
    output.table(("", "AS IT IS", "THEN"), [line(*one) for one in both])
    before = {one.job: one for one in found.now.shown}
    rows = [[str(one.job), one.name, *_told(before.get(one.job)), *_told(one)] for one in found.then.shown]
    if rows:
        print()
        output.table(("JOB", "NAME", "SITE", "STARTS IN", "LATE BY", "THEN SITE", "STARTS IN", "LATE BY"), rows)
    if change == WhatIf(show=change.show):
        output.note("Nothing is changed: --nodes, --deadline, --policy and the like do.")
    for text in found.notes:
        output.note(text)
    if found.left_out:
        output.note(f"{found.left_out} jobs further back were left out.")


def _told(one: Any) -> tuple[str, str, str]:
    from isthmus.domain.units import show_seconds

    if one is None:
        return ("", "", "")
    late = show_seconds(one.late_s) if one.late_s else ""
    return (one.site or "never", show_seconds(one.start_s), late)


def _pairs(texts: list[str] | None, place: str) -> list[tuple[str, str]]:
    from isthmus.domain.errors import Invalid

    found = []
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise Invalid(f"{text!r} is not NAME=VALUE.", place=place)
        found.append((name.strip(), value.strip()))
    return found


def _whole(text: str, place: str) -> int:
    from isthmus.domain.errors import Invalid

    try:
        return int(text)
    except ValueError:
        raise Invalid(f"{text!r} is not a whole number.", place=place, hint="Such as +2.") from None


def _number(text: str, place: str) -> float:
    from isthmus.domain.errors import Invalid

    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{text!r} is not a number.", place=place) from None
