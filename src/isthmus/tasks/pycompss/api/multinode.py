"""`@multinode`."""

from isthmus.tasks.kinds.decorators import multinode

MultiNode = multinode
__all__ = ["MultiNode", "multinode"]
