"""StreamFlow's deployments as sites, engines and images.

local                  here
docker, singularity    an image, here or at the site that they wrap
ssh                    a site for each node
slurm                  a site behind the SSH host that it wraps
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.documents import Map, place_of
from isthmus.domain.errors import Invalid, nearest
from isthmus.domain.sites import Hop, Limits, Reach, SiteSpec
from isthmus.workflows.placing import Target
from isthmus.workflows.work import Image

DEPLOYMENT = frozenset({"type", "config", "external", "lazy", "workdir", "wraps", "scheduling_policy"})
KINDS = ("local", "docker", "singularity", "ssh", "slurm")
REFUSED = {
    "docker-compose": "There is no kind of site for it.",
    "kubernetes": "There is no kind of site for it yet.",
    "helm": "There is no kind of site for it yet.",
    "helm3": "There is no kind of site for it yet.",
    "helm4": "There is no kind of site for it yet.",
    "pbs": "PBS is no batch system that is known here; docs/write-a-batch-system.md says how one is added.",
    "flux": "Flux is no batch system that is known here; docs/write-a-batch-system.md says how one is added.",
    "occam": "There is no kind of site for it.",
    "unicore": "There is no kind of site for it.",
}
SSH = frozenset(
    {
        *("nodes", "username", "sshKey", "checkHostKey", "maxConnections", "maxConcurrentSessions", "connectTimeout"),
        *("retries", "retryDelay", "transferBufferSize", "tunnel"),
    }
)
SLURM = frozenset(
    {
        *("services", "hostname", "username", "sshKey", "checkHostKey", "maxConcurrentJobs", "pollingInterval"),
        *("maxConnections", "maxConcurrentSessions", "transferBufferSize", "tunnel"),
    }
)
CONTAINER = {
    "docker": frozenset({"image", "transferBufferSize"}),
    "singularity": frozenset({"image", "transferBufferSize"}),
}


class Deployments:
    """All deployments of a file, read when a binding asks for them."""

    def __init__(self, node: Map, folder: Path) -> None:
        self._node = node
        self._folder = folder
        self._sites: dict[str, SiteSpec] = {}
        self.notes: list[str] = []

    def sites(self) -> Mapping[str, SiteSpec]:
        """The sites that bindings need."""
        return self._sites

    def target(self, name: str, service: str, count: int, place: str) -> Target:
        """Where a step that is bound to this deployment goes. Raises Invalid."""
        node = self._one(name, place)
        kind = str(node.get("type"))
        if kind == "local":
            return Target(place=place)
        if kind in CONTAINER:
            return self._contained(name, node, place)
        if kind == "ssh":
            return Target(sites=self._ssh(name, node), place=place)
        return self._slurm(name, node, service, count, place)

    def _one(self, name: str, place: str) -> Map:
        if name not in self._node:
            raise Invalid(f"There is no deployment {name!r}.", place=place, hint=nearest(name, self._node))
        node: Map = self._node[name]
        _known(node, DEPLOYMENT)
        kind = str(node.get("type"))
        if kind in REFUSED:
            raise Invalid(
                f"The deployment {name!r} of type {kind} can't be done. {REFUSED[kind]}", place=place_of(node, "type")
            )
        if kind not in KINDS:
            raise Invalid(
                f"The deployment {name!r} is of an unknown type, {kind!r}.",
                place=place_of(node, "type"),
                hint=nearest(kind, [*KINDS, *REFUSED]),
            )
        policy = node.get("scheduling_policy", "data_locality")
        if policy != "data_locality":
            raise Invalid(f"The scheduling policy {policy!r} can't be done.", place=place_of(node, "scheduling_policy"))
        return node

    def _contained(self, name: str, node: Map, place: str) -> Target:
        config = node.get("config") or Map()
        for each in config:
            if each not in CONTAINER[str(node["type"])]:
                raise Invalid(
                    f"The option {each!r} of the deployment {name!r} can't be done here.",
                    place=place_of(config, each),
                    hint="A container gets the step's files and network, and nothing else.",
                )
        image = str(config.get("image") or "")
        if not image:
            raise Invalid(f"The deployment {name!r} names no image.", place=place_of(node, "config"))
        wraps = _wraps(node)
        around = self.target(wraps[0], wraps[1], 1, place_of(node, "wraps")) if wraps[0] else Target(place=place)
        return Target(
            sites=around.sites,
            options=around.options,
            resources=around.resources,
            image=Image(reference=image.removeprefix("docker://")),
            place=place,
        )

    def _ssh(self, name: str, node: Map) -> tuple[str, ...]:
        config = node.get("config") or Map()
        _done(config, SSH, name)
        nodes = config.get("nodes") or []
        names = []
        for number, each in enumerate(nodes):
            site = name if len(nodes) == 1 else f"{name}-{number}"
            self._sites[site] = SiteSpec(
                name=site,
                kind="ssh",
                reach=self._reach(config, each),
                workdir=str(node.get("workdir") or ""),
            )
            names.append(site)
        if not names:
            raise Invalid(f"The deployment {name!r} names no nodes.", place=place_of(node, "config"))
        return tuple(names)

    def _reach(self, config: Map, node: Any) -> Reach:
        spec = node if isinstance(node, Map) else {"hostname": node}
        hops = []
        tunnel = spec.get("tunnel") or config.get("tunnel")
        if isinstance(tunnel, Map):
            hops.append(_hop(tunnel, config))
        hops.append(_hop(spec, config))
        key = spec.get("sshKey") or config.get("sshKey")
        return Reach(
            hops=tuple(hops),
            key_file=str((self._folder / Path(str(key)).expanduser()).absolute()) if key else "",
            agent=not key,
        )

    def _slurm(self, name: str, node: Map, service: str, count: int, place: str) -> Target:
        config = node.get("config") or Map()
        _done(config, SLURM, name)
        wraps, _ = _wraps(node)
        reach = None
        if wraps:
            outer = self._one(wraps, place_of(node, "wraps"))
            if outer.get("type") == "ssh":
                nodes = (outer.get("config") or {}).get("nodes") or []
                reach = self._reach(outer["config"], nodes[0])
            elif outer.get("type") != "local":
                raise Invalid(
                    f"The deployment {name!r} wraps one of type {outer.get('type')}: ssh or local can be wrapped.",
                    place=place_of(node, "wraps"),
                )
        elif config.get("hostname"):
            reach = self._reach(config, config["hostname"])
        self._sites[name] = SiteSpec(
            name=name,
            kind="slurm",
            reach=reach,
            workdir=str(node.get("workdir") or ""),
            limits=Limits(jobs=int(config.get("maxConcurrentJobs") or 0)),
        )
        services = config.get("services") or Map()
        if service and service not in services:
            raise Invalid(
                f"The deployment {name!r} has no service {service!r}.", place=place, hint=nearest(service, services)
            )
        options = dict(services.get(service) or {})
        if options.pop("file", None):
            raise Invalid(
                "A template of one's own for the batch script is a site's here (docs/add-a-site.md).",
                place=place_of(services, service),
            )
        resources: dict[str, Any] = {}
        if "time" in options:
            resources["time"] = _time(str(options.pop("time")))
        if "mem" in options:
            resources["mem"] = str(options.pop("mem"))
        nodes_wanted = max(count, int(options.pop("nodes", 1) or 1))
        if nodes_wanted > 1:
            resources["nodes"] = nodes_wanted
        native = {_dashed(key): value for key, value in options.items()}
        return Target(sites=(name,), options={"slurm": native} if native else {}, resources=resources, place=place)


def _wraps(node: Map) -> tuple[str, str]:
    wraps = node.get("wraps")
    if isinstance(wraps, Mapping):
        return str(wraps.get("deployment") or ""), str(wraps.get("service") or "")
    return str(wraps or ""), ""


def _hop(spec: Any, config: Map) -> Hop:
    host = str(spec.get("hostname") or "")
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name, port = host, "22"
    return Hop(host=name, port=int(port), user=str(spec.get("username") or config.get("username") or ""))


def _time(text: str) -> str:
    """A SLURM time (minutes, HH:MM:SS, D-HH:MM:SS) as ours."""
    days, dash, rest = text.partition("-")
    if not dash:
        days, rest = "0", text
    parts = [int(part) for part in rest.split(":")]
    if len(parts) == 1:
        seconds = parts[0] * (3600 if dash else 60)
    elif len(parts) == 2:
        seconds = parts[0] * 3600 + parts[1] * 60 if dash else parts[0] * 60 + parts[1]
    else:
        seconds = parts[0] * 3600 + parts[1] * 60 + parts[2]
    return f"{int(days) * 86400 + seconds}s"


def _dashed(name: str) -> str:
    """``ntasksPerNode`` as SLURM writes it: ``ntasks-per-node``."""
    return "".join("-" + char.lower() if char.isupper() else char for char in name)


def _done(config: Map, known: frozenset[str], name: str) -> None:
    for each in config:
        if each not in known:
            raise Invalid(
                f"The option {each!r} of the deployment {name!r} can't be done here.",
                place=place_of(config, each),
                hint=nearest(each, known) if nearest(each, known).startswith("Did") else "",
            )


def _known(node: Map, names: frozenset[str]) -> None:
    for name in node:
        if name not in names:
            raise Invalid(f"There is no {name!r} here.", place=place_of(node, name), hint=nearest(name, names))
