"""`@ompss`."""

from isthmus.tasks.kinds.decorators import ompss

OmpSs = ompss
__all__ = ["OmpSs", "ompss"]
