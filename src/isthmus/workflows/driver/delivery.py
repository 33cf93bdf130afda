"""What jobs left, brought here at the end of a run."""

import asyncio
import copy
from typing import Any

from isthmus.workflows.driver.results import located
from isthmus.workflows.driver.sites import AtSites
from isthmus.workflows.locations import is_far, location


async def brought(outputs: dict[str, Any], sites: AtSites) -> dict[str, Any]:
    """The outputs with every file on this machine. Raises StepFailed."""
    found = copy.deepcopy(outputs)
    far = [file for file in located(found) if is_far(str(file["location"]))]
    paths = await asyncio.gather(*(sites.fetch(str(file["location"])) for file in far))
    for file, path in zip(far, paths, strict=True):
        file["location"] = location(path)
    return found
