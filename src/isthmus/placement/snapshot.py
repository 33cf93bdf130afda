"""What placement sees of the sites: their nodes, what is taken, what they allow."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.domain.sites import Health, NodeType, Queue, SiteState
from isthmus.placement.constraints import Label


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
    remote_gpus: tuple[int, ...] = ()  # bytes of each GPU elsewhere that its jobs may use; 0: not known
    policy: str = ""  # of its GPUs
    restart_s: float = 0.0
    cpu_hour: float = 0.0
    gpu_hour: float = 0.0
    node_hour: float = 0.0
    used_cpus: int = 0
    used_mem: int = 0
    used_gpus: int = 0
    used_jobs: int = 0
    queued_jobs: int = 0
    jobs_of: dict[str, int] = field(default_factory=dict)  # user -> live jobs there, others of theirs included
    cached: frozenset[str] = frozenset()  # digests that are there
    total_cpus: int = 0
    total_mem: int = 0
    total_gpus: int = 0

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for queue in self.queues:
            for node in queue.nodes:
                if node.name not in seen:  # partitions overlap: count nodes once
                    seen.add(node.name)
                    self.total_cpus += node.cpus * node.count
                    self.total_mem += int(node.mem) * node.count
                    self.total_gpus += gpus_of(node) * node.count

    def copy(self) -> "SiteSnapshot":
        import copy

        twin = copy.copy(self)
        twin.jobs_of = dict(self.jobs_of)
        return twin


def gpus_of(node: NodeType) -> int:
    """All GPUs of one such node."""
    return sum(kind.count for kind in node.gpus)
