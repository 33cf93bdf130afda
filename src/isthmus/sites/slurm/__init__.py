"""The kind `slurm`: a SLURM cluster, on this machine or over SSH."""

from pathlib import Path

from isthmus.sites.kinds import Kind
from isthmus.sites.slurm.directives import words
from isthmus.sites.slurm.options import ELSEWHERE, OPTIONS

KIND = Kind(
    name="slurm",
    summary="a SLURM cluster",
    batch="slurm",
    command="sbatch",
    own_queue=True,
    multi_node=True,
    # Sites confine jobs by control groups, which see the memory that processes share once; the runner would count
    # it for each.
    enforces_memory=False,
    template=Path(__file__).with_name("batch.sh").read_text(encoding="utf-8"),
    options=OPTIONS,
    elsewhere=ELSEWHERE,
    words=words,
)
