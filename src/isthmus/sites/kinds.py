"""Kinds of site: what the control plane must know of each, and how a job becomes what its batch system is given.

A kind declares facts; the core decides by them. How a kind's batch system is spoken to stands on the other side, in
`isthmus.proxy.batch`. Built-in kinds are import strings, resolved on first use; others are entry points of the group
``isthmus.sites`` that name a `Kind`. See docs/write-a-batch-system.md.
"""

import functools
import importlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.domain.jobs import JobSpec
from isthmus.domain.sites import Inventory, NodeType, Queue, SiteSpec
from isthmus.sites.archive import archive
from isthmus.sites.options import EXTRA, Option, check_options, merge
from isthmus.sites.template import check_template, fill

GROUP = "isthmus.sites"

_BUILT_IN = {
    "local": "isthmus.sites.local",
    "ssh": "isthmus.sites.ssh",
    "slurm": "isthmus.sites.slurm",
    "gridengine": "isthmus.sites.gridengine",
}

# Between the runner's own limit on time and the batch system's: to write the last report, and because batch systems
# count by the minute and send their warning up to a minute early.
SLACK_S = 60


# Clusters define `module` in the files of login shells. A login shell for every job would read the user's own files
# too, which are written for people who sit there, and may take seconds.
_MODULES = "type module >/dev/null 2>&1 || . /etc/profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where an attempt goes: its key, the queue and node type that placement chose, and its memory if not the job's."""

    key: str
    queue: str = ""
    node: str = ""
    mem_bytes: int = 0  # bytes per node; 0: as the job says


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that a kind's directives are made from. Sizes in bytes and per node, times in seconds."""

    name: str  # of the batch job
    job: JobSpec
    options: Mapping[str, Any]  # checked and merged
    queue: Queue | None
    queue_name: str
    cpus: int  # of one task
    tasks: int  # on each node
    nodes: int
    mem_bytes: int  # 0: the site's default
    gpus: int  # on each node; 1 for a part of one, where the kind can't ask for parts
    gpu_type: str  # as the site spells it; "": any
    limit_s: int  # after which the batch system may end it; 0: the site's default
    grace_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a kind makes of a Request: lines for the batch script, and words for the submit command."""

    directives: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of site.

    ``own_queue``: its batch system queues by itself, and is asked for the state of jobs. ``backlog``: else, how many
    jobs may wait there for a free place. ``enforces_memory``: whether the runner must hold jobs to their memory,
    because nobody else does. ``template`` is that of batch.sh; a kind without one needs no script.
    """

    name: str
    summary: str
    batch: str  # the module of `isthmus.proxy.batch` that speaks to it
    module: str = ""  # of a plug-in: the import path of that module, which travels in the archive
    command: str = ""  # a command that a machine with this batch system has on its path
    by_ssh: bool | None = None  # whether its site must name a way by SSH; None: it may
    own_queue: bool = False
    backlog: int = 0
    multi_node: bool = False
    enforces_memory: bool = True
    template: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)  # option names that are said in another way, and how
    words: Callable[[Request], Words] = lambda request: Words()

    @property
    def modules(self) -> dict[str, str]:
        """What `isthmus.sites.archive.archive` must pack for it."""
        return {self.batch: self.module} if self.module else {}

    def check_options(self, given: Mapping[str, Any], place: str) -> dict[str, Any]:
        """The options in their proper form. Raises Invalid with the nearest right word."""
        known = {**self.options, "extra": EXTRA} if self.own_queue else self.options
        return check_options(given, known, self.elsewhere, place)

    def options_for(self, site: SiteSpec, job: JobSpec) -> dict[str, Any]:
        """What the site says, over it what the job says to this kind, over it what the job says to this very site."""
        layers = [self.check_options(site.options, "options")]
        for name in dict.fromkeys((self.name, site.name)):
            if name in job.site_options:
                layers.append(self.check_options(job.site_options[name], f"site_options.{name}"))
        return merge(*layers)

    def render(self, site: SiteSpec, inventory: Inventory, job: JobSpec, where: Where) -> tuple[str, tuple[str, ...]]:
        """The text of batch.sh and further words for the submit command; nothing for a kind without scripts.

        Pure. Raises Invalid where the job, or the site, says what this kind can't express.
        """
        if not self.template:
            return "", ()
        request = self._request(site, inventory, job, where)
        words = self.words(request)
        values = self._values(site, inventory, request, words, where)
        return fill(site.template or self.template, values), (*words.argv, *request.options.get("extra", ()))

    def _request(self, site: SiteSpec, inventory: Inventory, job: JobSpec, where: Where) -> Request:
        want = job.resources
        options = self.options_for(site, job)
        queue = next((one for one in inventory.queues if one.name == where.queue), None)
        limit_s = int(want.time) + int(job.grace) + SLACK_S if want.time else 0
        if queue is not None and queue.max_time and limit_s > queue.max_time:
            limit_s = max(int(queue.max_time), int(want.time))
        return Request(
            name=f"isthmus-{where.key}",
            job=job,
            options=options,
            queue=queue,
            queue_name=where.queue or str(options.get("partition") or options.get("queue") or ""),
            cpus=want.cpus,
            tasks=want.tasks_per_node,
            nodes=want.nodes,
            mem_bytes=max(where.mem_bytes, int(want.mem)),
            gpus=want.gpus or int(want.gpu is not None),
            gpu_type=_gpu_type(job, queue, where.node),
            limit_s=limit_s,
            grace_s=int(job.grace),
        )

    def _values(
        self, site: SiteSpec, inventory: Inventory, request: Request, words: Words, where: Where
    ) -> dict[str, object]:
        workdir = inventory.workdir
        if not workdir:
            raise Invalid(
                f"The site {site.name} was not probed yet: where its work folder lies is not known.",
                place="workdir",
                hint=f"Run `isthmus site probe {site.name}`.",
            )
        folder = f"{workdir}/jobs/{where.key}"
        program = f"{workdir}/bin/{archive(self.modules).name}"
        run = ["exec", _path(site.python), "-I", "-S", shlex.quote(program), "run", shlex.quote(folder)]
        return {
            "directives": "\n".join(words.directives),
            "setup": "\n".join([_MODULES, *site.setup] if site.setup else []),
            "run": " ".join(run),
            "name": request.name,
            "key": where.key,
            "folder": folder,
            "archive": program,
            "python": site.python,
            "queue": request.queue_name,
            "cpus": request.cpus,
            "tasks": request.tasks,
            "nodes": request.nodes,
            "mem_mb": -(-request.mem_bytes // 2**20),
            "gpus": request.gpus,
            "gpu_type": request.gpu_type,
            "limit_s": request.limit_s,
            "limit_min": -(-request.limit_s // 60),
            "grace_s": request.grace_s,
        }


PLACEHOLDERS = (
    "directives", "setup", "run", "name", "key", "folder", "archive", "python", "queue", "cpus", "tasks", "nodes",
    "mem_mb", "gpus", "gpu_type", "limit_s", "limit_min", "grace_s",
)  # fmt: skip


@functools.cache
def _found() -> dict[str, Any]:
    """Where each kind is defined: an import string, or an entry point."""
    return {**{point.name: point for point in entry_points(group=GROUP)}, **_BUILT_IN}


def kind_names() -> tuple[str, ...]:
    """Every kind of site that there is, built-in or from a plug-in."""
    return tuple(sorted(_found()))


@functools.cache
def find_kind(name: str) -> Kind:
    """The kind of that name. Raises Invalid with the nearest right word."""
    where = _found().get(name)
    if where is None:
        raise Invalid(f"There is no kind of site {name!r}.", place="kind", hint=nearest(name, kind_names()))
    try:
        kind = importlib.import_module(where).KIND if isinstance(where, str) else where.load()
    except ImportError as error:
        raise Invalid(
            f"The kind of site {name!r} can't be loaded: {error}.",
            place="kind",
            hint="The package that brings it is broken, or made for another version of Isthmus.",
        ) from error
    if not isinstance(kind, Kind):
        raise Invalid(
            f"The kind of site {name!r} is broken: its entry point names {kind!r}.",
            place="kind",
            hint="An entry point of the group isthmus.sites names an isthmus.sites.kinds.Kind.",
        )
    return kind


def check_site(spec: SiteSpec) -> None:
    """Raise Invalid where a site's spec says what its kind does not know, naming the place."""
    kind = find_kind(spec.kind)
    hops = spec.reach.hops if spec.reach else ()
    if kind.by_ssh is True and not hops:
        raise Invalid(
            f"A site of kind {kind.name} is reached by SSH: name its host.",
            place="reach.hops",
            hint="Such as `isthmus site add NAME ssh://user@host`.",
        )
    if kind.by_ssh is False and spec.reach is not None:
        raise Invalid(f"A site of kind {kind.name} is this machine itself: it has no reach.", place="reach")
    kind.check_options(spec.options, "options")
    if spec.template:
        if not kind.template:
            raise Invalid(f"A site of kind {kind.name} has no batch script.", place="template")
        check_template(spec.template, PLACEHOLDERS)


def check_site_options(site_options: Mapping[str, Mapping[str, Any]], sites: Mapping[str, str]) -> None:
    """Raise Invalid where a job's options for kinds and sites name what is not there. ``sites``: name -> its kind."""
    for name, options in site_options.items():
        kind = sites.get(name) or (name if name in _found() else None)
        if kind is None:
            raise Invalid(
                f"{name!r} is neither a site nor a kind of site.",
                place=f"site_options.{name}",
                hint=nearest(name, {*sites, *_found()}),
            )
        find_kind(kind).check_options(options, f"site_options.{name}")


def _gpu_type(job: JobSpec, queue: Queue | None, node: str) -> str:
    """The GPU type to ask for, as the site spells it; "" where any type there will do, or none has a name."""
    want = job.resources
    if not want.gpus and want.gpu is None:
        return ""
    nodes: tuple[NodeType, ...] = queue.nodes if queue else ()
    nodes = tuple(one for one in nodes if one.name == node) or nodes
    kinds = {gpu.type: gpu for one in nodes for gpu in one.gpus if gpu.count >= want.gpus}
    if want.gpu_type:
        return next((name for name in kinds if name.casefold() == want.gpu_type.casefold()), want.gpu_type)
    enough = [name for name, gpu in kinds.items() if not want.gpu_mem or not gpu.mem or gpu.mem >= want.gpu_mem]
    # Only where a type is too small must one be named: the more a request leaves open, the sooner it starts.
    return enough[0] if want.gpu_mem and enough and len(enough) < len(kinds) else ""


def _path(python: str) -> str:
    """A word for the shell, in which a leading ``~/`` still means the home folder."""
    return f'"$HOME"/{shlex.quote(python[2:])}' if python.startswith("~/") else shlex.quote(python)
