"""`@reduction`."""

from isthmus.tasks.policies import reduction

Reduction = reduction
__all__ = ["Reduction", "reduction"]
