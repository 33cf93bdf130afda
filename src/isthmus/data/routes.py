"""Routes: by which way content may come to a site. Pure: no I/O, no clock, no database.

    content + where copies are + zones ─► routes, the best first ─► or why there is none

Residency is decided here and nowhere else: no copy is made in a zone that the content may not be in, and no byte goes
through one. What the control plane forwards goes through its own zone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from isthmus.data.requirements import Content
from isthmus.domain.artefacts import may_be_in
from isthmus.domain.errors import Conflict
from isthmus.domain.sites import SiteSpec


class Way(StrEnum):
    """How content comes to a site."""

    PULL = "pull"  # the site fetches what a reference names
    ADOPT = "adopt"  # it lies there already, outside of our folder
    IN_PLACE = "in place"  # it is an output in a job's folder of the same user there
    LINK = "link"  # from a file that the site's login node sees: the store's on this machine, or on a shared disk
    SEND = "send"  # from the store
    FORWARD = "forward"  # from another site, through the control plane's memory


@dataclass(frozen=True, slots=True)
class Copy:
    """A verified copy of content at a site, in one user's folder there. ``path`` is relative to that folder."""

    site_id: int
    user_id: int
    path: str
    site: str = ""
    zone: str = ""
    shared_fs: str = ""  # name of a file system that the site shares with others
    workdir: str = ""  # absolute, if it is known


@dataclass(frozen=True, slots=True)
class Target:
    """Where content is to go."""

    site_id: int
    user_id: int
    site: str
    zone: str
    here: bool  # it is this machine, which sees the store's files
    shared_fs: str = ""

    @classmethod
    def of(cls, site_id: int, user_id: int, spec: SiteSpec) -> "Target":
        return cls(
            site_id=site_id,
            user_id=user_id,
            site=spec.name,
            zone=spec.zone,
            here=spec.reach is None,
            shared_fs=shared_fs(spec),
        )


@dataclass(frozen=True, slots=True)
class Route:
    """One way for one content. ``copy`` is where it comes from, for IN_PLACE, LINK (None: the store) and FORWARD."""

    way: Way
    copy: Copy | None = None
    path: str = ""  # absolute, for ADOPT


def shared_fs(spec: SiteSpec) -> str:
    """The name of the file system that the site's label ``shared_fs`` says it shares with other sites."""
    return str(spec.labels.get("shared_fs", ""))


def routes(content: Content, target: Target, *, copies: Iterable[Copy], stored: bool, zone: str) -> list[Route]:
    """The ways by which ``content`` may come to ``target``, the best first.

    ``copies`` are where it lies verified, ``stored`` whether the control plane's store has it, ``zone`` the control
    plane's. Raises Conflict, code ``residency`` when no way is allowed and ``missing`` when there is no copy.
    """
    check_zone(content, target.site, target.zone)
    if not content.digest:
        return [Route(Way.PULL)]
    ways: list[Route] = []
    site, colon, path = content.reference.partition(":")
    if colon and site == target.site:
        ways.append(Route(Way.ADOPT, path=path))
    through = may_be_in(content.zones, zone)
    barred: list[Copy] = []
    others: list[Route] = []
    for copy in _ordered(content, target, copies):
        if not may_be_in(content.zones, copy.zone):
            continue  # it should not be there: nothing is made of it
        if (copy.site_id, copy.user_id) == (target.site_id, target.user_id):
            ways.append(Route(Way.IN_PLACE, copy))
            continue
        if copy.shared_fs and copy.shared_fs == target.shared_fs and copy.workdir:
            others.append(Route(Way.LINK, copy))
        if through:
            others.append(Route(Way.FORWARD, copy))
        else:
            barred.append(copy)
    if stored and through:
        if target.here:
            ways.append(Route(Way.LINK))
        ways.append(Route(Way.SEND))
    ways.extend(others)
    if ways:
        return ways
    if barred:
        places = " and ".join(sorted({copy.site for copy in barred}))
        raise Conflict(
            f"{content.label} lies at {places} and can't be brought to {target.site}: it may only be in "
            f"{', '.join(content.zones)}, and the control plane that would forward it is in {_named(zone)}.",
            hint="Let the sites share a disk (label shared_fs), or run the job where its data is.",
            code="residency",
        )
    raise Conflict(
        f"There is no copy of {content.label} any more.",
        hint="Register it again, or run the job that made it again.",
        code="missing",
    )


def check_zone(content: Content, site: str, zone: str) -> None:
    """Raise Conflict (code ``residency``) unless ``content`` may be at a site in ``zone``."""
    if not may_be_in(content.zones, zone):
        raise Conflict(
            f"{content.label} may only be in {', '.join(content.zones)}; {site} is in {_named(zone)}.",
            hint="Run the job at a site in one of these zones.",
            code="residency",
        )


def _ordered(content: Content, target: Target, copies: Iterable[Copy]) -> Sequence[Copy]:
    """The nearest first: this user's here, on a shared disk, elsewhere."""

    def far(copy: Copy) -> tuple[int, str]:
        if (copy.site_id, copy.user_id) == (target.site_id, target.user_id):
            return (0, copy.site)
        if copy.shared_fs and copy.shared_fs == target.shared_fs:
            return (1, copy.site)
        return (2 if copy.site_id == target.site_id else 3, copy.site)

    return sorted(set(copies), key=far)


def _named(zone: str) -> str:
    return f"zone {zone}" if zone else "no declared zone"
