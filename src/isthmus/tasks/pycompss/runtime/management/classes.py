"""`Future`, for `isinstance`."""

from isthmus.tasks.futures import Future

__all__ = ["Future"]
