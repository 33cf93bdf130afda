"""The kind `gridengine`: a Grid Engine cluster, on this machine or over SSH."""

from pathlib import Path

from isthmus.sites.gridengine.directives import words
from isthmus.sites.gridengine.options import ELSEWHERE, OPTIONS
from isthmus.sites.kinds import Kind

KIND = Kind(
    name="gridengine",
    summary="a Grid Engine cluster",
    batch="gridengine",
    command="qsub",
    own_queue=True,
    # Its own limits are on address space, which GPU libraries and Java take far more of than memory.
    enforces_memory=True,
    template=Path(__file__).with_name("batch.sh").read_text(encoding="utf-8"),
    options=OPTIONS,
    elsewhere=ELSEWHERE,
    words=words,
)
