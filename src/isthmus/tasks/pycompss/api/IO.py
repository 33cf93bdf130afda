"""`@IO`."""

from isthmus.tasks.policies import io

IO = io
__all__ = ["IO", "io"]
