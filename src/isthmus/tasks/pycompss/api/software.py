"""`@software`."""

from isthmus.tasks.kinds.decorators import software

Software = software
__all__ = ["Software", "software"]
