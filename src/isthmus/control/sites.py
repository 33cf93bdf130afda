"""The use cases of sites. SKELETON: the bodies follow; the signatures stand."""

from isthmus.domain.sites import SiteSpec
from isthmus.domain.users import Caller
from isthmus.domain.views import SiteView


class Sites:
    """Sites as people ask about them: adding, testing, draining."""

    async def add(self, caller: Caller, spec: SiteSpec, *, trust_host_keys: bool = False) -> SiteView:
        """Reach the place, probe it, keep it.

        Where a host key is not pinned yet and ``trust_host_keys`` is False, raises Conflict with code
        ``host-key-unknown``, the fingerprints in its message and the keys in its hint; where a key pair made here is not
        authorised there yet, raises Conflict with code ``key-not-authorised`` and the public key in its hint.
        """
        raise NotImplementedError

    async def test(self, caller: Caller, name: str) -> SiteView:
        """Probe again and keep what was found. Raises what stands in the way."""

    async def list(self, caller: Caller) -> list[SiteView]: ...

    async def get(self, caller: Caller, name: str) -> SiteView: ...

    async def update(self, caller: Caller, spec: SiteSpec) -> SiteView: ...

    async def drain(self, caller: Caller, name: str) -> SiteView: ...

    async def resume(self, caller: Caller, name: str) -> SiteView: ...

    async def remove(self, caller: Caller, name: str, *, force: bool = False) -> SiteView:
        """Take the site out. Raises Conflict while live attempts are there, unless forced (they become LOST)."""

    async def public_key(self, caller: Caller, name: str, *, login: str = "") -> str:
        """The caller's public key for the site, made on first use: to be put into authorized_keys there."""
