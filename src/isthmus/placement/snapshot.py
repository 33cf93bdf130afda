"""What placement sees of the sites: their nodes, what is taken, what they allow, what was learned of them."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from isthmus.domain.sites import Health, NodeType, Queue, SiteState
from isthmus.placement.constraints import Label
from isthmus.placement.gpus import Gpus, Part, of_nodes

# Until a transfer there was seen: a gigabit a second, less what protocols take.
USUAL_BYTES_S = 100e6


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of one metric at one site. ``value`` None: nothing, and ``why`` says so."""

    value: float | None = None
    why: str = ""
    missing: Literal["wait"] | float = "wait"  # then a job that is constrained by it waits, or this is taken
    low: float = 0.0
    high: float = 1.0
    lower_is_better: bool = False
    weight: float = 0.0

    @property
    def known(self) -> float | None:
        """The value, or what stands for it where there is none."""
        if self.value is None and not isinstance(self.missing, str):
            return float(self.missing)
        return self.value

    @property
    def normal(self) -> float | None:
        """From 0, the worst, to 1, the best; None where nothing is known."""
        value = self.known
        if value is None:
            return None
        part = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return 1.0 - part if self.lower_is_better else part


@dataclass(frozen=True, slots=True)
class Expected:
    """A time that was learned, and from how many recent cases: 0 where it is only what is usual elsewhere."""

    seconds: float
    cases: float = 0.0


@dataclass(slots=True)
class SiteSnapshot:
    """One site at one moment. ``plan`` changes a copy's ``used_*`` as it assigns."""

    name: str
    state: SiteState = SiteState.ENABLED
    health: Health = Health.UP
    health_message: str = ""
    own_queue: bool = False  # its batch system queues by itself: more than fits at once may be sent
    backlog: int = 0  # else: how many may wait there for a free place, so that none stays idle
    multi_node: bool = False
    queues: tuple[Queue, ...] = ()
    labels: Mapping[str, Label] = field(default_factory=dict)
    zone: str = ""
    engines: frozenset[str] = frozenset()
    engines_known: bool = False
    users: frozenset[str] | None = None  # who has a credential there; None: everybody
    max_jobs: int = 0  # 0: no limit; likewise below
    max_jobs_per_user: int = 0
    max_queued: int = 0
    max_cpus: int = 0
    max_gpus: int = 0
    policy: str = ""  # who orders its jobs; "": by priority
    queue_policies: Mapping[str, str] = field(default_factory=dict)  # of some of its queues, instead
    remote_gpus: tuple[int, ...] = ()  # bytes of each GPU elsewhere that its jobs may use; 0: not known
    divides_gpus: bool = True  # it gives parts of GPUs; else who asks for a part has a whole one
    restart_s: float = 0.0
    cpu_hour: float = 0.0
    gpu_hour: float = 0.0
    gpu_hours: Mapping[str, float] = field(default_factory=dict)  # of some types, in small letters, instead
    node_hour: float = 0.0
    price_note: str = ""  # what of its price is not known
    used_cpus: int = 0
    used_mem: int = 0
    used_gpus: int = 0  # of which somebody has all or a part
    used_jobs: int = 0
    queued_jobs: int = 0
    jobs_of: dict[str, int] = field(default_factory=dict)  # user -> live jobs there, others of theirs included
    cached: frozenset[str] = frozenset()  # digests that are there
    architecture: str = ""
    metrics: Mapping[str, Reading] = field(default_factory=dict)
    waits: Mapping[str, Expected] = field(default_factory=dict)  # in its own queue, by that; "" for any other
    bytes_per_s: float = 0.0  # at which data came there lately; 0: none was seen
    total_cpus: int = 0
    total_mem: int = 0
    total_gpus: int = 0
    gpus: Gpus = field(default_factory=Gpus)  # by type, with who has parts of them

    def __post_init__(self) -> None:
        self.measure()

    def measure(self) -> None:
        """Sum up its nodes. To be called again when ``queues`` are others than they were."""
        nodes = {node.name: node for queue in reversed(self.queues) for node in reversed(queue.nodes)}
        every = list(nodes.values())  # partitions overlap: nodes are counted once
        self.total_cpus = sum(node.cpus * node.count for node in every)
        self.total_mem = sum(int(node.mem) * node.count for node in every)
        self.total_gpus = sum(gpus_of(node) * node.count for node in every)
        if self.total_gpus or self.remote_gpus:
            fresh = of_nodes(((node.gpus, node.count) for node in every), self.remote_gpus, divides=self.divides_gpus)
            fresh.taken, fresh.parts = self.gpus.taken, self.gpus.parts
            self.gpus = fresh

    def hold_gpus(self, kind: str, count: int, part: Part | None) -> None:
        """GPUs are given away: ``count`` whole ones (negative: given back), or a part of one."""
        if part is not None:
            before = self.gpus.used
            self.gpus.take_part(part)
            self.used_gpus += self.gpus.used - before
        elif count:
            self.gpus.take(kind, count)
            self.used_gpus += count

    def free_part(self, part: Part) -> None:
        """A part of a GPU is given back."""
        before = self.gpus.used
        self.gpus.give_part_back(part)
        self.used_gpus += self.gpus.used - before

    def policy_of(self, queue: str) -> str:
        """The policy that orders the jobs of one of its queues."""
        return self.queue_policies.get(queue, self.policy)

    def gpu_price(self, kind: str) -> float:
        """What an hour of a GPU of that type costs, energy included."""
        return self.gpu_hours.get(kind.casefold(), self.gpu_hour)

    def wait(self, queue: str) -> Expected | None:
        """How long a job may be expected to wait in one of its queues; None where nothing was ever seen."""
        return self.waits.get(queue) or self.waits.get("")

    def copy(self) -> "SiteSnapshot":
        twin = copy.copy(self)
        twin.jobs_of = dict(self.jobs_of)
        twin.gpus = self.gpus.copy()
        return twin


def gpus_of(node: NodeType) -> int:
    """All GPUs of one such node."""
    return sum(kind.count for kind in node.gpus)
