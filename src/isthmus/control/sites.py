"""The use cases of sites: adding, testing, draining.

add: spec ─► host keys shown and pinned ─► key authorised ─► probe ─► kept, with its inventory
"""

import builtins
import dataclasses
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from isthmus.control import places
from isthmus.control.live import SHARE, read_spec
from isthmus.control.recording import Record
from isthmus.control.resizing import check_policy
from isthmus.control.rights import require
from isthmus.control.sessions import Sessions
from isthmus.control.vault import Vault
from isthmus.control.views import site_view
from isthmus.db import attempts as attempt_rows
from isthmus.db import credentials
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Conflict, Invalid, NotFound, SiteError
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, Inventory, Price, SiteSpec, SiteState
from isthmus.domain.states import AttemptState
from isthmus.domain.users import Caller, Role, Scope
from isthmus.domain.views import SiteLoad, SiteView
from isthmus.placement.constraints import Constraint
from isthmus.placement.policies import DEADLINE_COST, find_policy
from isthmus.sites import keys, open_site
from isthmus.sites.base import Identity, Site
from isthmus.sites.kinds import check_site

_NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,62}$")


class Sites:
    """Sites as people ask about them."""

    def __init__(self, db: Database, sessions: Sessions, vault: Vault, clock: Clock) -> None:
        self._db = db
        self._sessions = sessions
        self._vault = vault
        self._clock = clock

    async def add(self, caller: Caller, spec: SiteSpec, *, trust_host_keys: bool = False) -> SiteView:
        """Reach the place, probe it, keep it.

        Where a host key is not pinned yet and ``trust_host_keys`` is False, raises Conflict with code
        ``host-key-unknown``, the fingerprints in its message and the keys in its hint; where a key pair made here
        is not authorised there yet, raises Conflict with code ``key-not-authorised`` and the public key in its hint.
        """
        require(caller, Role.ADMIN, Scope.ADMIN)
        _check(spec)
        if any(row.name == spec.name for row in await self._db.read(site_rows.every)):
            raise Conflict(f"There is a site {spec.name!r} already.", place="name", code="site-exists")
        identity = await self._identity(caller, spec)
        try:
            spec = await self._pinned(spec, identity, trust_host_keys)
            inventory = await self._probe(spec, identity)
        except SiteError as error:
            raise _explained(error, spec, identity, caller) from error
        return await self._keep(caller, spec, inventory)

    async def test(self, caller: Caller, name: str) -> SiteView:
        """Probe again and keep what was found. Raises what stands in the way."""
        require(caller, Role.MEMBER, Scope.JOBS)
        row = await self._db.read(site_rows.get, name)
        site = await self._sessions.of(row.id, caller.user.id)
        try:
            await site.hello(now=True)
            inventory = await site.probe()
        except SiteError as error:
            if error.transient:
                await self._db.write(_failed, row.id, str(error))
            raise
        now = self._now()

        def write(conn: Connection) -> SiteView:
            site_rows.change(
                conn,
                row.id,
                inventory=places.write_inventory(inventory),
                probed_at=now,
                seen_at=now,
                health=Health.UP.value,
                health_message="",
                attention=True,
            )
            self._note(conn, caller, name, "probed")
            return self._view(conn, name)

        return await self._db.write(write)

    async def list(self, caller: Caller) -> builtins.list[SiteView]:
        """All sites by name."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[SiteView]:
            counts = _counts(conn)
            return [site_view(row, **counts.get(row.name, {})) for row in site_rows.every(conn)]

        return await self._db.read(read)

    async def get(self, caller: Caller, name: str) -> SiteView:
        """One site. Raises NotFound with the nearest name."""
        require(caller, Role.VIEWER, Scope.READ)
        return await self._db.read(self._view, name)

    async def loads(self, caller: Caller) -> dict[str, SiteLoad]:
        """What our live attempts have reserved at each site where there are some."""
        require(caller, Role.VIEWER, Scope.READ)
        return await self._db.read(_loads)

    async def update(self, caller: Caller, spec: SiteSpec) -> SiteView:
        """Change what was said of a site; its name stays. Attempts that are there go on, host keys stay pinned.

        Raises Conflict where its kind would change under jobs, Invalid where a new machine on the way has no host key.
        """
        require(caller, Role.ADMIN, Scope.ADMIN)
        _check(spec)
        row = await self._db.read(site_rows.get, spec.name)
        before = places.read_site(row.spec)
        spec = _with_keys_of(before, spec)
        here = await self._db.read(attempt_rows.live_at, row.id)
        if here and before.kind != spec.kind:
            raise Conflict(f"Jobs are at {spec.name}: its kind can't change now.", place="kind", hint="Drain it first.")
        await self._sessions.forget(row.id)
        return await self._change(caller, spec.name, "updated", spec=places.write_site(spec))

    async def drain(self, caller: Caller, name: str) -> SiteView:
        """Start nothing new there; what is there ends."""
        require(caller, Role.ADMIN, Scope.ADMIN)
        return await self._change(caller, name, "drained", state=SiteState.DRAINING.value)

    async def resume(self, caller: Caller, name: str) -> SiteView:
        """Take jobs again."""
        require(caller, Role.ADMIN, Scope.ADMIN)
        return await self._change(caller, name, "resumed", state=SiteState.ENABLED.value)

    async def remove(self, caller: Caller, name: str, *, force: bool = False) -> SiteView:
        """Take the site out. Raises Conflict while live attempts are there, unless forced (they become LOST)."""
        require(caller, Role.ADMIN, Scope.ADMIN)
        now = self._now()

        def write(conn: Connection) -> SiteView:
            row = site_rows.get(conn, name)
            live = [one for one in attempt_rows.live(conn) if one.site_id == row.id]
            if live and not force:
                raise Conflict(
                    f"{len(live)} jobs are at {name}.",
                    hint=f"`isthmus site drain {name}` and wait, or remove it with --force: they become LOST.",
                    code="site-busy",
                )
            self._lose(conn, caller, name, live, now)
            site_rows.change(conn, row.id, state=SiteState.REMOVED.value, attention=True)
            self._note(conn, caller, name, "removed", before=row.state, after=SiteState.REMOVED.value)
            return site_view(site_rows.by_id(conn, row.id))

        return await self._db.write(write)

    async def public_key(self, caller: Caller, name: str, *, login: str = "") -> str:
        """The caller's public key for the site, made on first use: to be put into authorized_keys there."""
        require(caller, Role.MEMBER, Scope.JOBS)
        row = await self._db.read(site_rows.get, name)
        public = await self._db.write(self._own_key, caller, row.id, name, login)
        await self._sessions.forget(row.id)
        return public

    # ---- the steps of adding

    async def _pinned(self, spec: SiteSpec, identity: Identity | None, trust: bool) -> SiteSpec:
        """The spec with a host key for every hop."""
        if spec.reach is None or all(hop.host_key for hop in spec.reach.hops):
            return spec
        from isthmus.sites.transport.hops import host_keys

        shown = await host_keys(spec.reach, identity or Identity())
        if not trust:
            lines = "; ".join(f"{key.host}:{key.port} {key.fingerprint}" for key in shown)
            raise Conflict(
                f"The host keys are not known yet: {lines}.",
                place="reach.hops",
                hint="Compare them with what the site's administrators publish, then add it again and trust them: "
                + "; ".join(key.key for key in shown),
                code="host-key-unknown",
            )
        found = {(key.host, key.port): key.key for key in shown}
        hops = tuple(
            dataclasses.replace(hop, host_key=hop.host_key or found.get((hop.host, hop.port), ""))
            for hop in spec.reach.hops
        )
        return dataclasses.replace(spec, reach=dataclasses.replace(spec.reach, hops=hops))

    async def _identity(self, caller: Caller, spec: SiteSpec) -> Identity | None:
        if spec.reach is None:
            return None
        if spec.reach.key_file or spec.reach.agent:
            return Identity()
        site_id = await self._db.write(_reserve, spec, self._now())
        await self._db.write(self._own_key, caller, site_id, spec.name, "")
        row = await self._db.read(credentials.own, caller.user.id, site_id)
        if row is None or row.ciphertext is None:
            raise NotFound(f"The key pair for {spec.name} is gone.", hint="Add the site again.")
        return Identity(user=row.login, private_key=self._vault.decrypt(row.ciphertext))

    async def _probe(self, spec: SiteSpec, identity: Identity | None) -> Inventory:
        site: Site = open_site(spec, instance=self._sessions.instance, data_dir=self._sessions.data, identity=identity)
        try:
            await site.hello(now=True)
            return await site.probe()
        finally:
            await site.close()

    async def _keep(self, caller: Caller, spec: SiteSpec, inventory: Inventory) -> SiteView:
        now = self._now()
        # An account that the control plane's operator reaches is the team's; a user's own key opens it to them alone.
        shared = spec.reach is None or bool(spec.reach.key_file) or spec.reach.agent

        def write(conn: Connection) -> SiteView:
            reserved = next((row for row in site_rows.every(conn, removed=True) if row.name == spec.name), None)
            own = credentials.own(conn, caller.user.id, reserved.id) if reserved is not None else None
            site_id = site_rows.add(
                conn,
                spec.name,
                places.write_site(spec),
                now=now,
                inventory=places.write_inventory(inventory),
                probed_at=now,
                health=Health.UP,
            )
            keep = own is not None and not shared
            credentials.put(
                conn,
                caller.user.id,
                site_id,
                now=now,
                login=own.login if keep and own is not None else "",
                public_key=own.public_key if keep and own is not None else "",
                ciphertext=own.ciphertext if keep and own is not None else None,
                shared=shared,
            )
            self._note(conn, caller, spec.name, "added", message=spec.kind)
            return self._view(conn, spec.name)

        return await self._db.write(write)

    def _own_key(self, conn: Connection, caller: Caller, site_id: int, name: str, login: str) -> str:
        """The public half of the caller's pair at a site; both are made here if there is none."""
        row = credentials.own(conn, caller.user.id, site_id)
        if row is not None and row.public_key:
            if login and login != row.login:
                credentials.change(conn, row.id, login=login)
            return str(row.public_key)
        pair = keys.generate(f"isthmus-{caller.user.name}")
        credentials.put(
            conn,
            caller.user.id,
            site_id,
            now=self._now(),
            login=login,
            public_key=pair.public,
            ciphertext=self._vault.encrypt(pair.private),
        )
        site_rows.change(conn, site_id, attention=True)
        self._note(conn, caller, name, "key")
        return pair.public

    # ---- the rest

    async def _change(self, caller: Caller, name: str, verb: str, **columns: str) -> SiteView:
        def write(conn: Connection) -> SiteView:
            row = site_rows.get(conn, name)
            site_rows.change(conn, row.id, attention=True, **columns)
            self._note(conn, caller, name, verb, before=row.state, after=columns.get("state", row.state))
            return self._view(conn, name)

        return await self._db.write(write)

    def _lose(self, conn: Connection, caller: Caller, name: str, live: builtins.list[Any], now: float) -> None:
        unit = Record(conn, now, caller.user.name)
        for row in live:
            retry = read_spec(row.job_spec).retry
            unit.give_up(row, AttemptState.LOST, Reason.LOST, f"site {name} was removed", retry)
        unit.flush()

    def _note(self, conn: Connection, caller: Caller, name: str, verb: str, **fields: str) -> None:
        unit = Record(conn, self._now(), caller.user.name)
        unit.event("site", name, verb, job_id=None, at=None, **fields)
        unit.flush()

    def _view(self, conn: Connection, name: str) -> SiteView:
        row = site_rows.get(conn, name)
        return site_view(row, **_counts(conn).get(name, {}))

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _with_keys_of(before: SiteSpec, spec: SiteSpec) -> SiteSpec:
    """The spec with the host keys that are pinned already, for machines that stay. Raises Invalid for others."""
    if spec.reach is None:
        return spec
    pinned = {(hop.host, hop.port): hop.host_key for hop in (before.reach.hops if before.reach else ())}
    hops = tuple(
        dataclasses.replace(hop, host_key=hop.host_key or pinned.get((hop.host, hop.port), ""))
        for hop in spec.reach.hops
    )
    for number, hop in enumerate(hops):
        if not hop.host_key:
            raise Invalid(
                f"The host key of {hop.host}:{hop.port} is not known.",
                place=f"reach.hops[{number}].host_key",
                hint="Say it, or remove the site and add it again, which shows and pins it.",
            )
    return dataclasses.replace(spec, reach=dataclasses.replace(spec.reach, hops=hops))


def _explained(error: SiteError, spec: SiteSpec, identity: Identity | None, caller: Caller) -> Exception:
    """The error, and for a key that is not authorised yet, the line to put there."""
    if error.code != "key-not-authorised" or identity is None or identity.private_key is None:
        return error
    public = keys.public_line(identity.private_key, f"isthmus-{caller.user.name}")
    return Conflict(
        f"{spec.name} does not know this key yet: {error.message}",
        place="reach",
        hint=f"Put this line into ~/.ssh/authorized_keys there, then add the site again: {public}",
        code="key-not-authorised",
    )


def _check(spec: SiteSpec) -> None:
    if not _NAME.fullmatch(spec.name):
        raise Invalid(
            f"{spec.name!r} is not a name for a site.",
            place="name",
            hint="Use small letters, digits and - _ . and begin with a letter or digit.",
        )
    for label in spec.labels:
        if not re.fullmatch(r"[A-Za-z_][\w.\-/]*", label):
            example = Constraint(label, "is", ("x",))
            raise Invalid(f"{label!r} can't stand in a constraint such as '{example}'.", place=f"labels.{label}")
    check_site(spec)
    for place, value in _priced(spec.price):
        if not 0 <= value <= 1e9:
            raise Invalid(f"{value:g} is no price: it must be from 0 to 1e9.", place=f"price.{place}")
    for place, policy in _policies(spec):
        try:
            find_policy(policy)
        except Invalid as error:
            error.place = place
            raise
        if policy == DEADLINE_COST:
            if place != "policy":
                raise Invalid(f"The policy {policy!r} rules a whole site, not a queue.", place=place)
            check_policy()


def _priced(price: Price) -> Iterator[tuple[str, float]]:
    """Every number of a price, with its place."""
    for name in ("cpu_hour", "gpu_hour", "node_hour", "cpu_watts", "gpu_watts", "node_watts"):
        yield name, getattr(price, name)
    for kind, one in price.gpus.items():
        yield from ((f"gpus.{kind}.{name}", value) for name in ("hour", "watts") if (value := getattr(one, name)))


def _policies(spec: SiteSpec) -> builtins.list[tuple[str, str]]:
    """The policies that a site chooses itself, each with its place in the spec."""
    return [("policy", spec.policy), *((f"queue_policies.{queue}", one) for queue, one in spec.queue_policies.items())]


def _counts(conn: Connection) -> dict[str, dict[str, int]]:
    """Our running and waiting jobs at each site."""
    found: dict[str, dict[str, int]] = {}
    for load in attempt_rows.load_of_sites(conn):
        one = found.setdefault(load.site, {"running": 0, "waiting": 0})
        running = AttemptState(load.state).rank >= AttemptState.RUNNING.rank
        one["running" if running else "waiting"] += 1
    return found


def _loads(conn: Connection) -> dict[str, SiteLoad]:
    found: dict[str, SiteLoad] = {}
    parts: dict[tuple[str, bool], float] = {}  # of GPUs: together they make up whole ones
    for load in attempt_rows.load_of_sites(conn):
        plan = json.loads(load.plan)
        nodes = int(plan.get("nodes", 1))
        before = found.get(load.site, SiteLoad())
        running = AttemptState(load.state).rank >= AttemptState.RUNNING.rank
        took = (int(plan.get("cpus", 1)) * nodes, int(plan.get("mem", 0)) * nodes, int(plan.get("gpus", 0)) * nodes)
        parts[load.site, running] = parts.get((load.site, running), 0.0) + float(plan.get(SHARE, 0.0))
        if running:
            found[load.site] = dataclasses.replace(
                before, cpus=before.cpus + took[0], mem_bytes=before.mem_bytes + took[1], gpus=before.gpus + took[2]
            )
        else:
            found[load.site] = dataclasses.replace(
                before, waiting_cpus=before.waiting_cpus + took[0], waiting_gpus=before.waiting_gpus + took[2]
            )
    for (name, running), share in parts.items():
        one, more = found[name], math.ceil(share - 1e-6)
        also = {"gpus": one.gpus + more} if running else {"waiting_gpus": one.waiting_gpus + more}
        found[name] = dataclasses.replace(one, **also)
    return found


def _reserve(conn: Connection, spec: SiteSpec, now: float) -> int:
    """The id of a row for a site that is not added yet, so that a key pair for it can be kept."""
    known = next((row for row in site_rows.every(conn, removed=True) if row.name == spec.name), None)
    if known is not None:
        return int(known.id)
    site_id = site_rows.add(conn, spec.name, places.write_site(spec), now=now)
    site_rows.change(conn, site_id, state=SiteState.REMOVED.value, attention=False)
    return site_id


def _failed(conn: Connection, site_id: int, message: str) -> None:
    site_rows.change(conn, site_id, health=Health.UNREACHABLE.value, health_message=message, attention=True)
