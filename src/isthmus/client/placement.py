"""`client.placement`: rules, prices and figures of placement, and what would become of the queue."""

import builtins
from collections.abc import Mapping
from typing import Any

from isthmus import codec
from isthmus.client.connection import Connection
from isthmus.domain.placement import (
    Catalogue,
    CatalogueView,
    FigureView,
    PolicyView,
    Rules,
    RulesView,
    WhatIf,
    WhatIfView,
)


class Placement:
    """See the module."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def rules(self) -> RulesView:
        """Metrics and where their figures come from, weights of scores, policies of sites and queues."""
        return await self._connection.ask(RulesView, "GET", "/v1/placement/rules")

    async def set_rules(self, rules: Rules, *, version: int | None = None) -> RulesView:
        """Let other rules hold; with a `version`, only if they are made from that."""
        body = {"rules": codec.changed(rules), "version": version}
        return await self._connection.ask(RulesView, "PUT", "/v1/placement/rules", body=body, again=False)

    async def catalogue(self) -> CatalogueView:
        """Prices of clouds and of energy."""
        return await self._connection.ask(CatalogueView, "GET", "/v1/placement/catalogue")

    async def set_catalogue(self, catalogue: Catalogue, *, version: int | None = None) -> CatalogueView:
        """Let other prices hold; with a `version`, only if they are made from that."""
        body = {"catalogue": codec.changed(catalogue), "version": version}
        return await self._connection.ask(CatalogueView, "PUT", "/v1/placement/catalogue", body=body, again=False)

    async def metrics(self) -> builtins.list[FigureView]:
        """Each metric at each site, as placement sees it now."""
        return await self._connection.ask(list[FigureView], "GET", "/v1/placement/metrics")

    async def policies(self) -> builtins.list[PolicyView]:
        """The policies that sites and queues may choose."""
        return await self._connection.ask(list[PolicyView], "GET", "/v1/placement/policies")

    async def whatif(self, change: WhatIf | Mapping[str, Any]) -> WhatIfView:
        """What would become of the queue with other nodes, deadlines, priorities, policies or weights."""
        request = change if isinstance(change, WhatIf) else codec.read(WhatIf, change)
        body = codec.changed(request)
        return await self._connection.ask(WhatIfView, "POST", "/v1/placement/whatif", body=body, wait_s=300.0)
