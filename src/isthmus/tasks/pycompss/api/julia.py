"""`@julia`."""

from isthmus.tasks.kinds.decorators import julia

Julia = julia
__all__ = ["Julia", "julia"]
