"""Fleets: a site's GPU nodes by kind, and which jobs go to which kind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isthmus.placement.needs import Need
from isthmus.placement.sizing.pool import Member
from isthmus.placement.snapshot import SiteSnapshot, gpus_of

STAYS = 0.9  # of another kind of node's GPU-seconds, for which a job that ran on one changes to it


@dataclass(frozen=True, slots=True)
class Fleet:
    """The GPU nodes of a site that are alike."""

    queue: str
    node: str
    kind: str
    gpus: int
    nodes: int


def fleets_of(site: SiteSnapshot) -> list[Fleet]:
    """The site's kinds of GPU nodes, the one with the most GPUs first; in several queues: the default."""
    found: dict[tuple[str, str, int], tuple[str, int]] = {}
    for queue in sorted(site.queues, key=lambda one: not one.default):
        for node in queue.nodes:
            key = (node.name, node.gpus[0].type if node.gpus else "", gpus_of(node))
            if queue.up and gpus_of(node) and key not in found:
                found[key] = (queue.name, node.count)
    fleets = [Fleet(queue, name, kind or "gpu", gpus, count) for (name, kind, gpus), (queue, count) in found.items()]
    return sorted(fleets, key=lambda one: (-one.gpus * one.nodes, one.node))


def fleet_of(fleets: Sequence[Fleet], plan: str) -> Fleet | None:
    """The nodes that an attempt was placed on."""
    node = json.loads(plan or "{}").get("node")
    return next((one for one in fleets if one.node == node), None)


def hour_of(site: SiteSnapshot, fleet: Fleet) -> float:
    """What an hour of one of its GPUs costs, its part of the node's price included."""
    return site.gpu_price(fleet.kind) + site.node_hour / fleet.gpus


def suits(need: Need, fleet: Fleet) -> bool:
    return not need.gpu_type or need.gpu_type.casefold() == fleet.kind.casefold()


def spread(
    members: dict[Fleet, list[Member]],
    undecided: list[tuple[dict[Fleet, Member], Fleet | None]],
    now: float,
    prices: Mapping[Fleet, float],
) -> None:
    """Give each waiting job the kind of nodes on which it is in time at the least price, else where it ends soonest.

    ``prices``: of a GPU there; where none has one, GPU-seconds count.
    """
    free = not any(prices.values())
    load = {fleet: sum(_least_work(one) for one in there) for fleet, there in members.items()}
    undecided.sort(key=lambda one: min(member.job.deadline_s for member in one[0].values()))
    for could, ran_on in undecided:
        best: tuple[tuple[bool, float, float], Fleet] | None = None
        for fleet, member in could.items():
            work = _least_work(member)
            wait_s = load[fleet] / (fleet.gpus * fleet.nodes)
            end_s = wait_s + member.left * min(member.job.times[fleet.kind])
            late = now + end_s > member.job.deadline_s
            stays = STAYS if fleet == ran_on else 1.0
            key = (late, (end_s if late else work * (1.0 if free else prices[fleet])) * stays, work)
            if best is None or key < best[0]:
                best = (key, fleet)
        assert best is not None
        members[best[1]].append(could[best[1]])
        load[best[1]] += _least_work(could[best[1]])


def _least_work(member: Member) -> float:
    """The GPU-seconds that what is left of a job takes at least."""
    (times,) = member.job.times.values()
    return member.left * min(seconds * gpus for gpus, seconds in enumerate(times, 1))
