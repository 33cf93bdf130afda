"""Locations: where a file's content is. ``file:///…`` here, ``https://…``, ``job:17/model.pt`` left by a job."""

from urllib.parse import quote, unquote, urlsplit


def location(path: str) -> str:
    """The location of a path of this machine."""
    return "file://" + quote(path)


def path_of(place: str) -> str:
    """The path that a location means on this machine, or "" where it means none."""
    if place.startswith("file://"):
        return unquote(urlsplit(place).path)
    return place if place.startswith("/") else ""
