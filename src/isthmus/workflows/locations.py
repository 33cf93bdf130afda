"""Locations: where a file's content is.

file:///…           here
https://…           on the network
job:PLANE/17/m.pt   left by job 17 of the control plane with this name
dataset:NAME@3      a version of a dataset that the control plane knows
"""

from urllib.parse import quote, unquote, urlsplit

DATASET = "dataset:"


def location(path: str) -> str:
    """The location of a path of this machine."""
    return "file://" + quote(path)


def is_far(place: str) -> bool:
    """Whether the control plane alone knows where it is."""
    return place.startswith(("job:", DATASET))


def path_of(place: str) -> str:
    """The path that a location means on this machine, or "" where it means none."""
    if place.startswith("file://"):
        return unquote(urlsplit(place).path)
    return place if place.startswith("/") else ""
