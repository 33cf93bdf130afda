"""`@implement`."""

from isthmus.tasks.policies import implement

Implement = implement
__all__ = ["Implement", "implement"]
