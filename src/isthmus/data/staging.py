"""Staging: what a job needs is brought to its site, each digest once at a time however many jobs wait. SKELETON.

requirements ─► plan (pure: what is missing, from where, may it go there) ─► transfer ─► prepare ─► Staged
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.data.requirements import Requirements
from isthmus.domain.sites import Inventory, SiteSpec
from isthmus.domain.views import Collected
from isthmus.sites.base import Site

Progress = Callable[[int, int], None]
"""Called with the bytes that have arrived so far and those that will in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A site as one user's jobs see it: replicas lie in that user's folder there."""

    site_id: int
    user_id: int  # whose credential: `attempts.user_id`
    spec: SiteSpec
    inventory: Inventory
    site: Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What goes into job.json: everything named here lies at the site, verified."""

    inputs: tuple[dict[str, str], ...] = ()  # {"path", "source", "mode"}
    container: dict[str, Any] | None = None  # {"engine", "image"}; the caller adds binds, gpu, options
    env: Mapping[str, str] = field(default_factory=dict)  # what the image says; the job's own goes over it


class Staging:
    """Brings content to sites. One per control plane process; only the leading supervisor's stages."""

    async def ensure(self, place: Place, needs: Requirements, *, progress: Progress | None = None) -> Staged:
        """Bring what is missing, verified; return once all of it is there. The attempt must be live in the database.

        May be cancelled (a transfer that nobody else waits for stops and can be gone on from) and called again.
        Raises SiteError with ``transient`` to be called again after a while; otherwise an IsthmusError that says why
        it can't be: code ``disk-full`` (Reason.DISK_FULL), or ``residency``, ``missing``, ``digest``, ``image``.
        """
        raise NotImplementedError

    def forget(self, site_id: int) -> None:
        """Forget what is known to be at a site: the next `ensure` asks it again."""

    async def collect_garbage(
        self, place: Place, *, unused_since: float | None = None, dry_run: bool = False
    ) -> Collected:
        """Take away from the user's cache at the site what nothing needs, by age and by ``SiteSpec.cache``.

        Never what live attempts use or what is being brought, nor the last copy of what is registered.
        """
        raise NotImplementedError
