"""Filters: can this job run at that site? Each answers with why not, for `explain`, or an empty text.

Lasting filters judge what the site is; passing ones how it stands just now. A job that no lasting filter lets
through anywhere will never start.
"""

from collections.abc import Callable
from dataclasses import replace

from isthmus.domain.sites import GpuKind, Health, NodeType, Queue, SiteState
from isthmus.domain.units import show_bytes, show_seconds
from isthmus.placement.needs import Need
from isthmus.placement.snapshot import SiteSnapshot, gpus_of

Filter = Callable[[Need, SiteSnapshot], str]


def named(need: Need, site: SiteSnapshot) -> str:
    if need.sites and site.name not in need.sites:
        return f"the job asks for {' or '.join(need.sites)}"
    return ""


def enabled(need: Need, site: SiteSnapshot) -> str:
    if site.state is not SiteState.ENABLED:
        return f"the site is {site.state.value.lower()}"
    return ""


def access(need: Need, site: SiteSnapshot) -> str:
    if site.users is not None and need.user not in site.users:
        return f"{need.user} has no credential there (`isthmus site key {site.name}` makes one)"
    return ""


def residency(need: Need, site: SiteSnapshot) -> str:
    if need.zones is not None and site.zone not in need.zones:
        where = f"zone {site.zone}" if site.zone else "no declared zone"
        allowed = ", ".join(sorted(need.zones)) or "no zone at all (its data sets share none)"
        return f"its data may only be in {allowed}, the site is in {where}"
    return ""


def labels(need: Need, site: SiteSnapshot) -> str:
    for constraint in need.constraints:
        if constraint.key in site.metrics:
            continue  # what changes is for `metrics` to judge
        why = constraint.rejects(site.labels, site.metrics)
        if why:
            return why
    return ""


def architecture(need: Need, site: SiteSnapshot) -> str:
    if need.architecture and site.architecture and _usual(need.architecture) != _usual(site.architecture):
        return f"its image is made for {need.architecture}, the site's machines are {site.architecture}"
    return ""


def engine(need: Need, site: SiteSnapshot) -> str:
    if not need.image:
        return ""
    if site.engines_known and not site.engines:
        return "it needs an image, and the site has no container engine"
    if need.image_formats and site.engines_known and not site.engines & set(need.image_formats):
        return f"its image runs with {', '.join(need.image_formats)}; the site has {', '.join(sorted(site.engines))}"
    return ""


def nodes(need: Need, site: SiteSnapshot) -> str:
    if need.nodes > 1 and not site.multi_node:
        return f"it needs {need.nodes} nodes, the site runs jobs on one"
    if not site.queues:
        return "the site was not probed yet"
    if (need.gpu_part or need.gpu_part_mem) and any(mem >= need.gpu_part_mem for mem in site.remote_gpus):
        need = replace(need, gpu_part=0.0, gpu_part_mem=0)  # one elsewhere will do
    why = ""
    for queue in site.queues:
        reason = _queue_rejects(need, queue)
        if not reason:
            return ""
        why = why or reason
    return why


LASTING: tuple[Filter, ...] = (named, enabled, access, residency, labels, architecture, engine, nodes)


def healthy(need: Need, site: SiteSnapshot) -> str:
    if site.health is Health.UNREACHABLE:
        return f"the site can't be reached: {site.health_message}" if site.health_message else "it is unreachable"
    return ""


def limits(need: Need, site: SiteSnapshot) -> str:
    if site.max_jobs and site.used_jobs >= site.max_jobs:
        return f"its limit of {site.max_jobs} jobs is reached"
    if site.max_jobs_per_user and site.jobs_of.get(need.user, 0) >= site.max_jobs_per_user:
        return f"{need.user} has {site.jobs_of.get(need.user, 0)} jobs there; the limit is {site.max_jobs_per_user}"
    if site.max_queued and site.queued_jobs >= site.max_queued:
        return f"its limit of {site.max_queued} waiting jobs is reached"
    if site.max_cpus and site.used_cpus + need.cpus * need.nodes > site.max_cpus:
        return f"its limit of {site.max_cpus} cores is reached"
    more = need.gpus * need.nodes
    if site.max_gpus and (part := need.part) is not None:
        more = site.gpus.opens(part)
    if site.max_gpus and site.used_gpus + more > site.max_gpus:
        return f"its limit of {site.max_gpus} GPUs is reached"
    return ""


def limited(site: SiteSnapshot) -> bool:
    """Whether there is any limit that `limits` could find reached."""
    return bool(site.max_jobs or site.max_jobs_per_user or site.max_queued or site.max_cpus or site.max_gpus)


def capacity(need: Need, site: SiteSnapshot) -> str:
    if site.own_queue or site.queued_jobs < site.backlog:
        return ""
    return shortage(need, site)


def shortage(need: Need, site: SiteSnapshot) -> str:
    """What it lacks to start there at once."""
    if site.used_cpus + need.cpus > site.total_cpus:
        return f"{max(0, site.total_cpus - site.used_cpus)} of {site.total_cpus} cores are free, it needs {need.cpus}"
    if site.total_mem and site.used_mem + need.mem > site.total_mem:
        return (
            f"{show_bytes(max(0, site.total_mem - site.used_mem))} of memory are free, it needs {show_bytes(need.mem)}"
        )
    if need.gpus:
        if site.used_gpus + need.gpus > site.total_gpus:
            free = max(0, site.total_gpus - site.used_gpus)
            return f"{free} of {site.total_gpus} GPUs are free, it needs {need.gpus}"
        if need.gpu_type:
            return site.gpus.lacks(need.gpu_type, need.gpus)
    elif need.gpu_part or need.gpu_part_mem:
        part = need.part
        assert part is not None
        return site.gpus.lacks_part(part)
    return ""


def metrics(need: Need, site: SiteSnapshot) -> str:
    for constraint in need.constraints:
        reading = site.metrics.get(constraint.key)
        if reading is None:
            continue
        if reading.known is None:
            return f"its {constraint.key} is not known: {reading.why or 'nothing was read yet'} ({constraint})"
        why = constraint.rejects({constraint.key: reading.known})
        if why:
            return why
    return ""


# Those that a plan's own assignments don't change, and those that they do.
STEADY: tuple[Filter, ...] = (healthy, metrics)
FILLING: tuple[Filter, ...] = (limits, capacity)
PASSING: tuple[Filter, ...] = (*STEADY, *FILLING)


def blind(need: Need, site: SiteSnapshot) -> bool:
    """Whether the job waits for a figure that can't be had."""
    readings = (site.metrics.get(constraint.key) for constraint in need.constraints)
    return any(reading is not None and reading.known is None for reading in readings)


def name_of(judge: Filter) -> str:
    """What `explain` calls a filter."""
    return judge.__name__


def first(filters: tuple[Filter, ...], need: Need, site: SiteSnapshot) -> str:
    """The first filter's objection, or an empty text."""
    for judge in filters:
        why = judge(need, site)
        if why:
            return why
    return ""


def choose_queue(need: Need, site: SiteSnapshot) -> Queue | None:
    """The queue to use: the one asked for, else the default if it fits, else the first that fits."""
    fitting = [queue for queue in site.queues if not _queue_rejects(need, queue)]
    return next((queue for queue in fitting if queue.default), fitting[0] if fitting else None)


def choose_node(need: Need, queue: Queue) -> NodeType | None:
    """The smallest node type of the queue that the job fits on."""
    fitting = [node for node in queue.nodes if not _node_rejects(need, node)]
    return min(fitting, key=lambda node: (gpus_of(node), node.cpus, int(node.mem)), default=None)


def _usual(architecture: str) -> str:
    """The name that the kernel has for it, of those that image formats use."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(architecture.lower(), architecture.lower())


def gpu_kind(need: Need, site: SiteSnapshot) -> str:
    """The type of GPU that the job would have there; "" where it asks for none, or the site does not say."""
    if need.gpu_type or not (need.gpus or need.part):
        return need.gpu_type
    queue = choose_queue(need, site)
    node = choose_node(need, queue) if queue else None
    kinds = [] if node is None else [kind.type for kind in node.gpus if kind.count >= need.gpus]
    return kinds[0] if kinds else ""


def _queue_rejects(need: Need, queue: Queue) -> str:
    if need.queue and queue.name != need.queue:
        return f"the job asks for queue {need.queue}"
    if not queue.up:
        return f"queue {queue.name} is down"
    if queue.max_time and need.time > queue.max_time:
        return f"{show_seconds(need.time)} is over the limit of queue {queue.name}, {show_seconds(queue.max_time)}"
    if queue.max_nodes and need.nodes > queue.max_nodes:
        return f"{need.nodes} nodes are over the limit of queue {queue.name}, {queue.max_nodes}"
    if not queue.nodes:
        return f"queue {queue.name} has no nodes"
    fitting = 0
    why = ""
    for node in queue.nodes:
        reason = _node_rejects(need, node)
        if reason:
            why = why or reason
        else:
            fitting += node.count
    if fitting >= need.nodes:
        return ""
    if fitting:
        return f"{fitting} nodes of queue {queue.name} fit, it needs {need.nodes}"
    best = _largest(queue)
    return f"{why} (the largest node of {queue.name} has {best})"


def _node_rejects(need: Need, node: NodeType) -> str:
    if need.cpus > node.cpus:
        return f"it needs {need.cpus} cores on a node, there are {node.cpus}"
    if node.mem and need.mem > node.mem:
        return f"it needs {show_bytes(need.mem)} of memory on a node, there are {show_bytes(node.mem)}"
    if need.gpu_part or need.gpu_part_mem:
        kinds = [kind for kind in node.gpus if not need.gpu_type or kind.type.casefold() == need.gpu_type.casefold()]
        if not kinds:
            return f"it needs a part of a GPU{f' of type {need.gpu_type}' if need.gpu_type else ''}, there is none"
        if not any(not kind.mem or kind.mem >= need.gpu_part_mem for kind in kinds):
            return f"it needs {show_bytes(need.gpu_part_mem)} of a GPU's memory, the largest has {_most(kinds)}"
    if need.gpus:
        suitable = sum(
            kind.count
            for kind in node.gpus
            if (not need.gpu_type or kind.type.casefold() == need.gpu_type.casefold())
            and (not need.gpu_mem or not kind.mem or kind.mem >= need.gpu_mem)
        )
        if suitable < need.gpus:
            what = f" of type {need.gpu_type}" if need.gpu_type else ""
            return f"it needs {need.gpus} GPUs{what} on a node, there are {suitable}"
    return ""


def _most(kinds: list[GpuKind]) -> str:
    return show_bytes(max(int(kind.mem) for kind in kinds))


def _largest(queue: Queue) -> str:
    node = max(queue.nodes, key=lambda one: (one.cpus, gpus_of(one)))
    parts = [f"{node.cpus} cores"]
    if node.mem:
        parts.append(show_bytes(node.mem))
    if gpus_of(node):
        parts.append(f"{gpus_of(node)} GPUs")
    return ", ".join(parts)
