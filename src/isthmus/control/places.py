"""Sites as placement sees them: snapshots kept up to date as attempts come and go."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection

from isthmus.control.knowledge import Knowledge
from isthmus.control.knowledge import read as read_knowledge
from isthmus.db import attempts as attempt_rows
from isthmus.db import credentials, index
from isthmus.db import sites as site_rows
from isthmus.domain.sites import Health, Inventory, SiteSpec, SiteState
from isthmus.domain.states import AttemptState
from isthmus.placement.gpus import Part
from isthmus.placement.needs import Need
from isthmus.placement.snapshot import SiteSnapshot
from isthmus.sites.kinds import find_kind

_SPEC: TypeAdapter[SiteSpec] = TypeAdapter(SiteSpec)
_INVENTORY: TypeAdapter[Inventory] = TypeAdapter(Inventory)


@lru_cache(maxsize=1024)
def read_site(text: str) -> SiteSpec:
    """A site's spec as the database keeps it."""
    return _SPEC.validate_json(text)


def write_site(spec: SiteSpec) -> str:
    return _SPEC.dump_json(spec, exclude_defaults=True).decode()


@lru_cache(maxsize=1024)
def read_inventory(text: str) -> Inventory:
    return _INVENTORY.validate_json(text or "{}")


def write_inventory(inventory: Inventory) -> str:
    return _INVENTORY.dump_json(inventory, exclude_defaults=True).decode()


def snapshot(
    row: Any,
    *,
    users: frozenset[str] | None = None,
    cached: Iterable[str] = (),
    knowledge: Knowledge | None = None,
) -> SiteSnapshot:
    """An empty site as placement sees it, from its row. ``users``: who has a credential there; None: everybody."""
    spec = read_site(row.spec)
    inventory = read_inventory(row.inventory)
    kind = find_kind(spec.kind)
    engines = frozenset([spec.engine] if spec.engine and spec.engine != "none" else inventory.engines)
    built_in: dict[str, str | int | float | bool] = {"site": spec.name, "kind": spec.kind}
    if spec.zone:
        built_in["zone"] = spec.zone
    if inventory.architecture:
        built_in["architecture"] = inventory.architecture
    found = SiteSnapshot(
        name=spec.name,
        state=SiteState(row.state),
        health=Health(row.health),
        health_message=row.health_message,
        own_queue=kind.own_queue,
        backlog=kind.backlog,
        multi_node=kind.multi_node,
        queues=inventory.queues,
        labels={**built_in, **spec.labels},
        zone=spec.zone,
        engines=engines,
        engines_known=bool(engines) or not kind.own_queue,
        max_jobs=spec.limits.jobs,
        max_jobs_per_user=spec.limits.jobs_per_user,
        max_queued=spec.limits.queued,
        max_cpus=spec.limits.cpus,
        max_gpus=spec.limits.gpus,
        remote_gpus=tuple(int(one.mem) for one in spec.remote_gpus),
        divides_gpus=not kind.own_queue or bool(spec.options.get("shards_per_gpu")),
        restart_s=float(spec.restart),
        users=users,
        used_jobs=inventory.others,
        cached=frozenset(cached),
        architecture=inventory.architecture,
    )
    (knowledge or Knowledge()).furnish(found, row.id, spec)
    return found


def every(conn: Connection, knowledge: Knowledge) -> dict[str, SiteSnapshot]:
    """Every site as placement sees it now, with what our live attempts use, in the light of what is known."""
    found: dict[str, SiteSnapshot] = {}
    rows = site_rows.every(conn)
    for row in rows:
        users = credentials.at_site(conn, row.id)
        names = None if any(user.shared for user in users) else frozenset(user.user_name for user in users)
        found[row.name] = snapshot(row, users=names)
    for load in attempt_rows.load_of_sites(conn):
        if load.site in found:
            waiting = AttemptState(load.state).rank < AttemptState.RUNNING.rank
            count(found[load.site], json.loads(load.plan), load.user, waiting)
    for row in rows:
        knowledge.furnish(found[row.name], row.id, read_site(row.spec))
    return found


def seen(conn: Connection, now: float) -> tuple[dict[str, SiteSnapshot], Knowledge]:
    """Every site with all that was learned of it and the data that lies there; and what is known beside."""
    rows = site_rows.every(conn)
    knowledge = read_knowledge(conn, now, [read_site(row.spec) for row in rows])
    found = every(conn, knowledge)
    for row in rows:
        found[row.name].cached = frozenset(index.present_at(conn, row.id))
    return found, knowledge


def plan_of(need: Need, queue: str, node: str, **more: float) -> dict[str, Any]:
    """What an attempt's row keeps of its placement; `count` adds it up again. ``more``: see `isthmus.control.live`."""
    said: dict[str, Any] = dict(more)
    if need.gpu_type:
        said["gpu_type"] = need.gpu_type
    if need.part is not None:
        said.update(gpu_part=need.gpu_part, gpu_part_mem=need.gpu_part_mem)
    return {
        **said,
        "queue": queue,
        "node": node,
        "cpus": need.cpus,
        "mem": need.mem,
        "gpus": need.gpus,
        "nodes": need.nodes,
    }


def count(site: SiteSnapshot, plan: Mapping[str, Any], user: str, waiting: bool, sign: int = 1) -> None:
    """Add an attempt to what its site has in use, or with ``sign`` -1 take it off."""
    nodes = int(plan.get("nodes", 1)) * sign
    site.used_cpus += int(plan.get("cpus", 1)) * nodes
    site.used_mem += int(plan.get("mem", 0)) * nodes
    part = part_of(plan)
    if part is None or sign > 0:
        site.hold_gpus(str(plan.get("gpu_type", "")), int(plan.get("gpus", 0)) * nodes, part)
    else:
        site.free_part(part)
    site.used_jobs += sign
    site.queued_jobs += sign if waiting else 0
    site.jobs_of[user] = max(0, site.jobs_of.get(user, 0) + sign)


def gpu_kinds(inventory: Inventory) -> dict[str, str]:
    """By kind of node, the type of its GPUs, of several the first."""
    return {node.name: node.gpus[0].type for queue in inventory.queues for node in queue.nodes if node.gpus}


def part_of(plan: Mapping[str, Any]) -> Part | None:
    """The part of a GPU that an attempt was placed with, if it asked for one."""
    part, mem = float(plan.get("gpu_part", 0.0)), int(plan.get("gpu_part_mem", 0))
    return Part(str(plan.get("gpu_type", "")), part, mem) if part or mem else None


def gpus_of(plan: Mapping[str, Any], site: SiteSnapshot) -> float:
    """How many GPUs an attempt holds on each of its nodes, a part of one as that part."""
    part = part_of(plan)
    return float(plan.get("gpus", 0)) if part is None else site.gpus.share(part)
