"""`client.sites`: add places that run jobs, look at them, drain them."""

import builtins

from isthmus.client.connection import Connection
from isthmus.domain.sites import SiteSpec
from isthmus.domain.views import PlanView, SiteView


class Sites:
    """See the module."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> builtins.list[SiteView]:
        """All sites, by name."""
        return await self._connection.ask(list[SiteView], "GET", "/v1/sites")

    async def get(self, name: str) -> SiteView:
        """One site: what was said of it, what was found there, and how it is now."""
        return await self._connection.ask(SiteView, "GET", f"/v1/sites/{name}")

    async def add(self, spec: SiteSpec, *, trust_host_keys: bool = False) -> SiteView:
        """Reach a place, probe it and keep it as a site.

        Raises Conflict with code ``host-key-unknown`` (compare the fingerprints, then ask again with
        `trust_host_keys`) or ``key-not-authorised`` (its hint is the public key to be authorised there).
        """
        return await self._connection.ask(
            SiteView,
            "POST",
            "/v1/sites",
            body=spec,
            query={"trust_host_keys": trust_host_keys or None},
            wait_s=120.0,
            again=False,
        )

    async def update(self, spec: SiteSpec) -> SiteView:
        """Say another thing of a site."""
        return await self._connection.ask(SiteView, "PUT", f"/v1/sites/{spec.name}", body=spec, wait_s=120.0)

    async def test(self, name: str) -> SiteView:
        """Probe it again and keep what was found."""
        return await self._connection.ask(SiteView, "POST", f"/v1/sites/{name}/test", wait_s=120.0)

    async def drain(self, name: str) -> SiteView:
        """Start nothing new there; what runs there ends."""
        return await self._connection.ask(SiteView, "POST", f"/v1/sites/{name}/drain")

    async def resume(self, name: str) -> SiteView:
        """Let it take jobs again."""
        return await self._connection.ask(SiteView, "POST", f"/v1/sites/{name}/resume")

    async def remove(self, name: str, *, force: bool = False) -> SiteView:
        """Take a site out; with `force` though jobs are there."""
        return await self._connection.ask(
            SiteView, "DELETE", f"/v1/sites/{name}", query={"force": force or None}, again=False
        )

    async def plan(self, name: str = "") -> builtins.list[PlanView]:
        """How the queues of sites with the policy `deadline-cost` would go on; of one site, or all."""
        return await self._connection.ask(
            list[PlanView], "GET", "/v1/placement/plan", query={"site": name or None}, wait_s=120.0
        )

    async def public_key(self, name: str, *, login: str = "") -> str:
        """Your public key for the site, made on first use: for authorized_keys there."""
        answer = await self._connection.ask(dict[str, str], "GET", f"/v1/sites/{name}/key", query={"login": login})
        return answer["key"]
