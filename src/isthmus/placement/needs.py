"""Needs: what placement must know of a job. Jobs that need the same share one Need, so it is judged once."""

from dataclasses import dataclass

from isthmus.domain.jobs import JobSpec
from isthmus.placement.constraints import Constraint, parse
from isthmus.placement.gpus import Gpus, Part


@dataclass(frozen=True, slots=True)
class Need:
    """What a class of jobs asks of a place. Sizes in bytes, time in seconds; 0 or "" asks nothing."""

    user: str
    cpus: int = 1  # per node, like mem and gpus
    mem: int = 0
    gpus: int = 0
    gpu_type: str = ""
    gpu_mem: int = 0
    time: int = 0
    nodes: int = 1
    sites: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    image_formats: tuple[str, ...] = ()  # engines that can run its image; (): it needs none
    image: bool = False
    zones: frozenset[str] | None = None  # where its data may be; None: anywhere
    queue: str = ""  # a partition asked for by name
    digests: tuple[tuple[str, int], ...] = ()  # (digest, bytes) that must be there
    gpu_part: float = 0.0  # of one GPU, instead of gpus
    gpu_part_mem: int = 0  # bytes of its memory, likewise
    sized: bool = False  # its number of GPUs may be chosen, and changed
    architecture: str = ""  # that its image is made for
    at: str = ""  # the site where its checkpoint lies

    @property
    def part(self) -> Part | None:
        """The part of a GPU that it asks for, if it does."""
        if self.gpu_part or self.gpu_part_mem:
            return Part(self.gpu_type, self.gpu_part, self.gpu_part_mem)
        return None

    def gpus_of(self, gpus: Gpus) -> float:
        """How many of a site's GPUs it takes on each node; a part of one as that part."""
        return float(self.gpus) if self.part is None else gpus.share(self.part)


def need_of(
    spec: JobSpec,
    user: str,
    *,
    mem: int = 0,
    zones: frozenset[str] | None = None,
    digests: tuple[tuple[str, int], ...] = (),
    image_formats: tuple[str, ...] = (),
    architecture: str = "",
    at: str = "",
) -> Need:
    """The need of a job. ``mem`` overrides the spec's (grown after an out-of-memory kill); ``at``: its last site."""
    want = spec.resources
    part = want.gpu_part
    queue = ""
    for options in spec.site_options.values():
        queue = str(options.get("partition") or options.get("queue") or queue)
    return Need(
        user=user,
        cpus=want.cpus * max(1, want.tasks_per_node),
        mem=max(mem, int(want.mem)),
        gpus=want.gpus,
        gpu_type=want.gpu_type,
        gpu_mem=int(want.gpu_mem),
        time=int(want.time),
        nodes=want.nodes,
        sites=spec.sites,
        constraints=tuple(parse(text) for text in spec.constraints),
        image=bool(spec.image),
        image_formats=image_formats,
        zones=zones,
        queue=queue,
        digests=digests,
        gpu_part=part.part if part else 0.0,
        gpu_part_mem=int(part.memory) if part else 0,
        sized=spec.sizing is not None,
        architecture=architecture,
        at=at if spec.checkpoint else "",
    )
