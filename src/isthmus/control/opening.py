"""Opening: a site as one user's data lies there, for what moves data."""

from typing import Any

from isthmus.control.places import read_inventory, read_site
from isthmus.control.sessions import Sessions
from isthmus.data.transfer import Opener, Place
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.errors import Conflict
from isthmus.domain.sites import SiteState


async def open_place(db: Database, sessions: Sessions, site_id: int, user_id: int) -> Place:
    """The site, reached under the credential that this user's jobs run under there. Raises IsthmusError."""
    row: Any = await db.read(site_rows.by_id, site_id)
    if row.state == SiteState.REMOVED.value:
        raise Conflict(f"Site {row.name} was removed.", code="site-removed")
    site = await sessions.of(site_id, user_id)
    return Place(
        site_id=site_id,
        user_id=sessions.credential_of(site_id, user_id),
        spec=read_site(row.spec),
        inventory=read_inventory(row.inventory),
        site=site,
    )


def opener(db: Database, sessions: Sessions) -> Opener:
    """`open_place`, for `isthmus.data.staging.Staging`."""

    async def open_one(site_id: int, user_id: int) -> Place:
        return await open_place(db, sessions, site_id, user_id)

    return open_one
