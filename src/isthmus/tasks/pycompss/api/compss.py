"""`@compss`."""

from isthmus.tasks.kinds.decorators import compss

COMPSs = compss
__all__ = ["COMPSs", "compss"]
