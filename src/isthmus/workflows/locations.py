"""Locations: where a file's content is.

file:///…           here
https://…           on the network
job:PLANE/17/m.pt   left by job 17 of the control plane with this name
dataset:NAME@3      a version of a dataset that the control plane knows
at:SITE/data/x      a path of a site, as somebody wrote it; a run begins by making a dataset of it
"""

from urllib.parse import quote, unquote, urlsplit

DATASET, AT = "dataset:", "at:"


def location(path: str) -> str:
    """The location of a path of this machine."""
    return "file://" + quote(path)


def is_far(place: str) -> bool:
    """Whether the control plane alone knows where it is."""
    return place.startswith(("job:", DATASET, AT))


def at_site(place: str) -> tuple[str, str]:
    """``(site, path)`` of what lies at a site; two empty texts for other locations."""
    if not place.startswith(AT):
        return "", ""
    site, _, path = place.removeprefix(AT).partition("/")
    return site, f"/{unquote(path)}"


def location_at(site: str, path: str) -> str:
    """The location of an absolute path of a site."""
    return f"{AT}{site}{quote(path)}"


def path_of(place: str) -> str:
    """The path that a location means on this machine, or "" where it means none."""
    if place.startswith("file://"):
        return unquote(urlsplit(place).path)
    return place if place.startswith("/") else ""
