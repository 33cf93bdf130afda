"""`@decaf`."""

from isthmus.tasks.kinds.decorators import decaf

Decaf = decaf
__all__ = ["Decaf", "decaf"]
