"""`@on_failure`."""

from isthmus.tasks.policies import on_failure

OnFailure = on_failure
__all__ = ["OnFailure", "on_failure"]
