"""The use cases of placement's own documents: its rules, the catalogue of prices, and the figures that it goes by."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from isthmus import codec
from isthmus.control import knowledge, places
from isthmus.control.recording import Record
from isthmus.control.resizing import check_policy
from isthmus.control.rights import require
from isthmus.db import documents
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.db.times import moment
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Conflict, Invalid, nearest
from isthmus.domain.placement import (
    Catalogue,
    CatalogueView,
    FigureView,
    PolicyView,
    Rules,
    RulesView,
    check_catalogue,
    check_rules,
)
from isthmus.domain.users import Caller, Role, Scope
from isthmus.placement import constraints
from isthmus.placement.policies import DEADLINE_COST, find_policy, policy_names
from isthmus.placement.scores import WEIGHTS


class Governing:
    """What admins say of placement. Changes hold from the supervisor's next look, which they wake."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def rules(self, caller: Caller) -> RulesView:
        """The rules."""
        require(caller, Role.VIEWER, Scope.READ)
        return await self._db.read(_rules)

    async def set_rules(self, caller: Caller, rules: Rules, version: int | None = None) -> RulesView:
        """Put other rules in place of all that hold. Raises Invalid with the place of what is wrong in them.

        ``version``: that of the rules which these are made from; raises Conflict where others came in between.
        """
        require(caller, Role.ADMIN, Scope.ADMIN)
        check_rules(rules, WEIGHTS, policy_names())
        for number, choice in enumerate(rules.policies):
            place = f"policies[{number}]"
            constraints.check(choice.constraints, place=f"{place}.constraints")
            find_policy(choice.policy)
            if choice.policy == DEADLINE_COST:
                check_policy()
                if choice.queues:
                    raise Invalid(
                        f"The policy {choice.policy!r} rules a whole site, not a queue.", place=f"{place}.queues"
                    )
        return await self._db.write(self._put, caller, documents.RULES, rules, version, _rules)

    async def catalogue(self, caller: Caller) -> CatalogueView:
        """The catalogue of prices."""
        require(caller, Role.VIEWER, Scope.READ)
        return await self._db.read(_catalogue)

    async def set_catalogue(self, caller: Caller, catalogue: Catalogue, version: int | None = None) -> CatalogueView:
        """Put other prices in place of all. Raises Invalid with the place, Conflict as `set_rules` does."""
        require(caller, Role.ADMIN, Scope.ADMIN)
        check_catalogue(catalogue)
        catalogue = replace(catalogue, read_at=catalogue.read_at or self._clock.now())
        return await self._db.write(self._put, caller, documents.CATALOGUE, catalogue, version, _catalogue)

    async def figures(self, caller: Caller) -> list[FigureView]:
        """Each metric at each site, as placement sees it now."""
        require(caller, Role.VIEWER, Scope.READ)
        return await self._db.read(_figures, self._now())

    async def policies(self, caller: Caller) -> list[PolicyView]:
        """The policies that sites and queues may choose."""
        require(caller, Role.VIEWER, Scope.READ)
        return [PolicyView(name=name, summary=find_policy(name).summary) for name in policy_names()]

    def _put(self, conn: Connection, caller: Caller, name: str, body: Any, version: int | None, view: Any) -> Any:
        before = documents.get(conn, name)
        held = before.version if before is not None else 0
        if version is not None and version != held:
            who = f", by {before.changed_by}" if before is not None else ""
            raise Conflict(
                f"The {name} are at version {held} by now{who}, not {version}.",
                place="version",
                hint="Read them again, and make your change on those.",
            )
        now = self._now()
        text = codec.write_json(body).decode()
        new = documents.put(conn, name, text, now=now, by=caller.user.name)
        unit = Record(conn, now, caller.user.name)
        unit.event("placement", name, "changed", before=str(held), after=str(new))
        unit.flush()
        return view(conn)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _rules(conn: Connection) -> RulesView:
    return RulesView(rules=knowledge.rules_of(conn), **_stamp(conn, documents.RULES))


def _catalogue(conn: Connection) -> CatalogueView:
    return CatalogueView(catalogue=knowledge.catalogue_of(conn), **_stamp(conn, documents.CATALOGUE))


def _stamp(conn: Connection, name: str) -> dict[str, Any]:
    row = documents.get(conn, name)
    if row is None:
        return {}
    return {"version": row.version, "changed_at": moment(row.changed_at), "changed_by": row.changed_by}


def _figures(conn: Connection, now: float) -> list[FigureView]:
    sites, known = places.seen(conn, now)
    found = []
    for row in site_rows.every(conn):
        for name in sorted(places.read_site(row.spec).metrics.keys() - known.rules.metrics.keys()):
            why = f"the site says it, and no rule does, so nobody asks for it. {nearest(name, known.rules.metrics)}"
            found.append(
                FigureView(
                    metric=name, site=row.name, value=None, score=None, weight=0.0, provider="", why=why.rstrip()
                )
            )
        for name, reading in sites[row.name].metrics.items():
            figure = known.figures.get(row.id, {}).get(name)
            found.append(
                FigureView(
                    metric=name,
                    site=row.name,
                    value=reading.value,
                    score=reading.normal,
                    weight=reading.weight,
                    provider=known.rules.metrics[name].provider,
                    why=reading.why,
                    at=moment(figure.at) if figure is not None and figure.at else None,
                )
            )
    return sorted(found, key=lambda one: (one.metric, one.site))
