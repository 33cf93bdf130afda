"""`@constraint`."""

from isthmus.tasks.constraints import constraint

Constraint = constraint
__all__ = ["Constraint", "constraint"]
