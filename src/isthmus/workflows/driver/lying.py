"""Files that lie at sites: made known to the control plane, which measures them there, before a run begins."""

import asyncio
import copy
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import Invalid
from isthmus.workflows.driver.results import located
from isthmus.workflows.locations import DATASET, at_site

if TYPE_CHECKING:
    from isthmus.client import AsyncClient


async def known(inputs: dict[str, Any], client: "AsyncClient") -> dict[str, Any]:
    """The inputs with what lies at sites as datasets, each a new version only where it is not what it was.

    Raises Invalid where nothing lies there, or a folder is a file.
    """
    found = copy.deepcopy(inputs)
    await asyncio.gather(*(_known(file, client) for file in located(found) if at_site(str(file["location"]))[0]))
    return found


async def _known(file: dict[str, Any], client: "AsyncClient") -> None:
    from isthmus.data.digests import of_text

    site, path = at_site(str(file["location"]))
    name = f"workflow-at-{of_text(f'{site}:{path}')[:40]}"
    made = await client.datasets.register_reference(name, f"{site}:{path}", description="An input of a workflow.")
    if made.is_folder != (file["class"] == "Directory"):
        raise Invalid(f"{path} at {site} is {'a' if made.is_folder else 'no'} folder.", place=f"{site}:{path}")
    file["location"] = f"{DATASET}{made.name}@{made.version}"
    if not made.is_folder:
        file["size"] = int(made.size)
