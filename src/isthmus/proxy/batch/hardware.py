"""What a site's name for a GPU tells of its memory. Scheduler settings name GPUs, but never say how much they hold."""

import re

_GIB = 1024**3

# The least that any model of that name has, in GiB, by the makers' data sheets.
_LEAST = {
    "k80": 12, "p100": 12, "v100": 16, "t4": 16, "a2": 16, "a10": 24, "a16": 16, "a30": 24, "a40": 48, "a100": 40,
    "h100": 80, "h200": 141, "gh200": 96, "b200": 180, "b300": 270, "l4": 24, "l40": 48, "l40s": 48, "a6000": 48,
    "mi100": 32, "mi210": 64, "mi250": 128, "mi250x": 128, "mi300a": 128, "mi300x": 192,
}  # fmt: skip


def gpu_mem(name):
    """Bytes that a GPU of this name has at least; 0 if the name does not tell. ``3g.40gb`` and ``a100-80g`` say it."""
    said = re.search(r"(?<!\d)(\d{1,3})\s*(?:gi?b(?!\w)|g(?![\w.]))", name.lower())
    if said:
        return int(said.group(1)) * _GIB
    for word in reversed(re.split(r"[^a-z0-9]+", name.lower())):
        if word in _LEAST:
            return _LEAST[word] * _GIB
    return 0
