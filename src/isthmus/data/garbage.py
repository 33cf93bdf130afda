"""Garbage: which entries of a cache may go. Pure: what is in use and what is the last copy is told.

An entry's name is the hex digits of its content, with an ending where it was made from that at the site
(``<digits>.sif``): what is made can be made again, so only its use protects it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from isthmus.sites.base import Cached

# What was used this lately stays: whoever found it present may be about to start a job with it.
GRACE_S = 600.0


@dataclass(frozen=True, slots=True)
class Victim:
    """An entry that goes."""

    name: str
    size: int


def victims(
    entries: Mapping[str, Cached],
    *,
    in_use: Collection[str],
    sole: Collection[str],
    now: float,
    unused_since: float | None = None,
    bound: int = 0,
    wanted: int = 0,
    only: Collection[str] | None = None,
) -> list[Victim]:
    """The entries to take away, the longest unused first.

    ``in_use`` and ``sole`` are hex digits: of what live jobs use, and of what has no other copy. Taken are all that
    were last used before ``unused_since``; then as many as it takes to hold ``bound`` bytes at most (0: no bound) and
    to free ``wanted`` bytes. ``only``: hex digits of those to look at.
    """
    loose = sorted(
        (
            (entry.used, name, entry.size)
            for name, entry in entries.items()
            if (digits := name.partition(".")[0]) not in in_use
            and not (name == digits and digits in sole)
            and entry.used <= now - GRACE_S
            and (only is None or digits in only)
        ),
    )
    total = sum(entry.size for entry in entries.values())
    over = max(wanted, total - bound if bound else 0)
    taken: list[Victim] = []
    freed = 0
    for used, name, size in loose:
        if freed < over or (unused_since is not None and used < unused_since):
            taken.append(Victim(name, size))
            freed += size
    return taken
