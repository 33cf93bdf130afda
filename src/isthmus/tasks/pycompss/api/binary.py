"""`@binary`."""

from isthmus.tasks.kinds.decorators import binary

Binary = binary
__all__ = ["Binary", "binary"]
