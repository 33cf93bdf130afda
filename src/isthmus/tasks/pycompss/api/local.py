"""`@local`."""

from isthmus.tasks.policies import local

Local = local
__all__ = ["Local", "local"]
