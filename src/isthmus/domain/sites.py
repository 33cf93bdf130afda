"""Sites: the places that run jobs, what a person says of one, and what a probe found there."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from isthmus.domain.units import Bytes, Seconds

STRICT = {"extra": "forbid"}


class SiteState(StrEnum):
    """Whether a site takes jobs. Health is another matter: see :class:`Health`."""

    ENABLED = "ENABLED"
    DRAINING = "DRAINING"  # what runs there ends; nothing new starts
    REMOVED = "REMOVED"


class Health(StrEnum):
    """Whether the site answered lately."""

    UNKNOWN = "UNKNOWN"
    UP = "UP"
    UNREACHABLE = "UNREACHABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One machine on the way by SSH."""

    __pydantic_config__ = STRICT

    host: str
    port: int = 22
    user: str = ""
    host_key: str = ""  # pinned: "ssh-ed25519 AAAA…"; "" until first contact


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How to reach the site by SSH: the last hop is the login node, those before it are jump hosts."""

    __pydantic_config__ = STRICT

    hops: tuple[Hop, ...] = ()
    key_file: str = ""  # a private key on the control plane's machine
    agent: bool = False  # or the keys of an agent there; else a key pair made here for each user
    connect_timeout: Seconds = Seconds(15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many jobs may be at the site at once; 0 is no limit. The user's other jobs there count too."""

    __pydantic_config__ = STRICT

    jobs: int = 0
    jobs_per_user: int = 0
    queued: int = 0  # of these, how many may wait in the site's own queue
    cpus: int = 0
    gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPrice:
    """What a GPU of one type costs; what is not said is as for all of the site's."""

    __pydantic_config__ = STRICT

    hour: float | None = None
    offer: str = ""  # instead: its part of what the catalogue asks for this
    watts: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What the site costs, in one currency for all sites: what is said here, and what the catalogue of prices says."""

    __pydantic_config__ = STRICT

    cpu_hour: float = 0.0
    gpu_hour: float = 0.0
    node_hour: float = 0.0
    offer: str = ""  # its nodes cost what the catalogue asks for this, such as aws/p3.2xlarge@eu-central-1
    spot: bool = False  # at the offer's spot price
    energy: str = ""  # and they draw power at this tariff of the catalogue:
    cpu_watts: float = 0.0  # for each core in use
    gpu_watts: float = 0.0
    node_watts: float = 0.0
    gpus: dict[str, GpuPrice] = field(default_factory=dict)  # by type, where a site has several

    def gpu(self, kind: str) -> GpuPrice:
        """What is said of GPUs of that type, whatever its case."""
        return next((one for name, one in self.gpus.items() if name.casefold() == kind.casefold()), GpuPrice())


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteGpu:
    """A GPU on another machine that jobs of a site can use through a remote-GPU middleware, such as rCUDA."""

    __pydantic_config__ = STRICT

    server: str  # HOST:NUMBER, as RCUDA_DEVICE_0 wants it
    mem: Bytes = Bytes(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSpec:
    """A site as a person writes it."""

    __pydantic_config__ = STRICT

    name: str
    kind: str = "local"  # local, ssh, slurm, gridengine, or a plug-in's
    reach: Reach | None = None  # None: this machine
    workdir: str = ""  # "": ~/.isthmus there (for local: in the control plane's data folder)
    python: str = "python3"  # 3.6 or newer, on login node and compute nodes
    setup: tuple[str, ...] = ()  # shell lines before every job, such as "module load apptainer"
    template: str = ""  # a batch script's template instead of the kind's own
    engine: Literal["", "none", "apptainer", "singularity", "podman", "docker", "charliecloud"] = ""
    options: dict[str, Any] = field(default_factory=dict)  # native ones: {"qos": "long", "account": "p1"}
    limits: Limits = Limits()
    labels: dict[str, str | int | float | bool] = field(default_factory=dict)
    zone: str = ""  # residency: where its disks are
    price: Price = Price()
    policy: str = ""  # in which order its jobs are placed; "": as the rules say, or by priority
    queue_policies: dict[str, str] = field(default_factory=dict)  # of some of its queues, instead
    metrics: dict[str, float | str] = field(default_factory=dict)  # a metric's figure here, or its query for this site
    remote_gpus: tuple[RemoteGpu, ...] = ()  # of which jobs that ask for a part of a GPU may get one
    restart: Seconds = Seconds(60)  # what a job loses there when it is stopped and started again
    nodes_reach_api: bool | None = None  # None: find out
    api_url: str = ""  # how nodes there reach the API, when not by its own URL
    poll: Seconds = Seconds(5)  # between questions to the batch system, at most one per this long
    cache: Bytes = Bytes(0)  # space for images and datasets before the oldest unused go; 0: no bound


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuKind:
    """GPUs of one type on a node."""

    __pydantic_config__ = STRICT

    type: str = ""  # "" when the site does not type them
    count: int = 0
    mem: Bytes = Bytes(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """Nodes that are alike, for placement."""

    __pydantic_config__ = STRICT

    name: str
    count: int = 1
    cpus: int = 1
    mem: Bytes = Bytes(0)
    gpus: tuple[GpuKind, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A partition or queue of the site, with its limits."""

    __pydantic_config__ = STRICT

    name: str
    default: bool = False
    up: bool = True
    max_time: Seconds = Seconds(0)  # 0: none
    max_nodes: int = 0  # per job; 0: none
    nodes: tuple[NodeType, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a probe found. Everything is optional: an unknown fact is an empty one."""

    __pydantic_config__ = STRICT

    host: str = ""
    user: str = ""
    python: str = ""
    workdir: str = ""  # absolute
    free_bytes: int = 0
    scratch: str = ""
    batch: str = ""  # the batch system with its version
    accounting: str = ""  # slurmdbd, jobcomp, none
    queues: tuple[Queue, ...] = ()
    accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()
    engines: dict[str, str] = field(default_factory=dict)  # on the nodes: engine -> version
    login_engines: dict[str, str] = field(default_factory=dict)
    nodes_reach_api: bool | None = None
    architecture: str = ""
    others: int = 0  # the user's other jobs there now
    notes: tuple[str, ...] = ()  # what could not be found out, and why
