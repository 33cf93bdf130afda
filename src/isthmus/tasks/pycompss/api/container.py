"""`@container`."""

from isthmus.tasks.kinds.decorators import container

Container = container
__all__ = ["Container", "container"]
