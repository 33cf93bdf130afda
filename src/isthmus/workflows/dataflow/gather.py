"""From what feeds a port to its value: defaults, merging, picking."""

from collections.abc import Sequence
from typing import Any

from isthmus.workflows.dataflow.graph import MISSING, Feed, Merge, Pick


class GatherError(Exception):
    """The values that came can't be made into the port's. The message is for people."""


def gather(feed: Feed, values: Sequence[Any]) -> Any:
    """The port's value from those of its sources, in their order. Raises GatherError."""
    if not feed.sources:
        return None if feed.default is MISSING else feed.default
    if feed.merge is None and len(values) == 1:
        found = values[0]
    elif feed.merge is Merge.FLATTENED:
        found = []
        for value in values:
            found.extend(value if isinstance(value, list) else [value])
    else:
        found = list(values)
    if feed.pick is not Pick.ALL:
        found = _pick(feed.pick, found)
    if found is None and feed.default is not MISSING:
        return feed.default
    return found


def _pick(how: Pick, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    present = [each for each in value if each is not None]
    if how is Pick.EVERY:
        return present
    if not present:
        raise GatherError(f"{how.value}: all {len(value)} values are null.")
    if how is Pick.ONLY and len(present) > 1:
        raise GatherError(f"{how.value}: {len(present)} of the {len(value)} values are not null.")
    return present[0]
