"""Sessions: the open sites, one for each (site, user) whose credential is used there.

A user's jobs run under their own credential for the site; where they have none, under one that its owner shares (an
account of the team). Without either, the site is closed to them, and placement says so.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from isthmus.control.places import read_site
from isthmus.control.vault import Vault
from isthmus.db import credentials
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.errors import Forbidden
from isthmus.domain.sites import SiteSpec
from isthmus.sites import open_site
from isthmus.sites.base import Identity, Site


class Sessions:
    """Opens sites, keeps them open, and knows under whose credential a user's jobs run."""

    def __init__(self, db: Database, vault: Vault, *, instance: str, data: Path) -> None:
        self._db = db
        self._vault = vault
        self.instance = instance
        self.data = data
        self._specs: dict[int, SiteSpec] = {}
        self._credentials: dict[int, Sequence[Any]] = {}
        self._open: dict[tuple[int, int], Site] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def learn(self, site_id: int) -> None:
        """Read a site's spec and who may use it."""

        def read(conn: Connection) -> tuple[Any, Sequence[Any]]:
            users = [row.user_id for row in credentials.at_site(conn, site_id)]
            return site_rows.by_id(conn, site_id), [credentials.own(conn, user_id, site_id) for user_id in users]

        row, self._credentials[site_id] = await self._db.read(read)
        self._specs[site_id] = read_site(row.spec)

    async def users_of(self, site_id: int) -> frozenset[int] | None:
        """The users who may use a site; None: everybody, since a credential is shared."""
        await self.learn(site_id)
        if any(row.shared for row in self._credentials[site_id]):
            return None
        return frozenset(row.user_id for row in self._credentials[site_id])

    def owners_of(self, site_id: int) -> list[int]:
        """Whose credentials there are for a site that was learnt."""
        return [row.user_id for row in self._credentials.get(site_id, ())]

    def credential_of(self, site_id: int, user_id: int) -> int:
        """Whose credential this user's jobs use there: their own, else a shared one. Raises Forbidden."""
        rows = self._credentials.get(site_id, ())
        if any(row.user_id == user_id for row in rows):
            return user_id
        shared = next((row.user_id for row in rows if row.shared), None)
        if shared is None:
            name = self._specs[site_id].name if site_id in self._specs else str(site_id)
            raise Forbidden(
                f"You have no credential for site {name}.",
                hint=f"Make one with `isthmus site key {name}` and have its public half authorised there.",
                code="no-credential",
            )
        return int(shared)

    def lazy(self, site_id: int, user_id: int) -> Site:
        """The site as this credential's owner sees it. Connects when it is first asked something."""
        site = self._open.get((site_id, user_id))
        if site is None:
            row = next((row for row in self._credentials.get(site_id, ()) if row.user_id == user_id), None)
            site = open_site(
                self._specs[site_id], instance=self.instance, data_dir=self.data, identity=self._identity(row)
            )
            self._open[site_id, user_id] = site
        return site

    async def of(self, site_id: int, user_id: int) -> Site:
        """Like ``lazy``, for those that have not learnt the site yet; ``user_id`` is any user's."""
        if site_id not in self._specs:
            await self.learn(site_id)
        try:
            return self.lazy(site_id, self.credential_of(site_id, user_id))
        except Forbidden:
            await self.learn(site_id)
            return self.lazy(site_id, self.credential_of(site_id, user_id))

    async def forget(self, site_id: int) -> None:
        """Close a site's connections; the next use opens them as the site is then."""
        self._specs.pop(site_id, None)
        self._credentials.pop(site_id, None)
        for key in [key for key in self._open if key[0] == site_id]:
            task = asyncio.create_task(self._open.pop(key).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all."""
        sites = list(self._open.values())
        self._open.clear()
        await asyncio.gather(*(site.close() for site in sites), *self._closing, return_exceptions=True)

    def _identity(self, row: Any) -> Identity | None:
        if row is None:
            return None
        private = self._vault.decrypt(row.ciphertext) if row.ciphertext else None
        return Identity(user=row.login, private_key=private)
