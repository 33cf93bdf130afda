"""`@http`."""

from isthmus.tasks.kinds.decorators import http

HTTP = http
__all__ = ["HTTP", "http"]
