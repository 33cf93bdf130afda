"""`@prolog`."""

from isthmus.tasks.kinds.decorators import prolog

Prolog = prolog
__all__ = ["Prolog", "prolog"]
