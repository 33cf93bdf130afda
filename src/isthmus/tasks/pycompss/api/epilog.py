"""`@epilog`."""

from isthmus.tasks.kinds.decorators import epilog

Epilog = epilog
__all__ = ["Epilog", "epilog"]
