"""A worker's mappings of the store's files: made for a call, looked at after it, and kept for the next one.

Mapping a file anew costs more than many a task that reads it: each of its pages is found, entered and removed again. So
a mapping serves the next call that reads the same, if nobody holds it and nothing was written to it. One that somebody
does hold (a task keeps its argument in a global, or has forked a process that goes on) is his from then on, and its
file is pinned: its memory must not serve again.
"""

import ctypes
import mmap
import os
import sys
from collections import OrderedDict
from collections.abc import Callable

from isthmus.tasks.engines.processes.pages import Pages

# Smaller ones cost less to make than to look at.
_SMALLEST = 256 * 1024
# References to a mapping that nobody else holds, as getrefcount counts them: the loop's, and its own.
_ALONE = 2


class Mappings:
    """See the module."""

    def __init__(self, most: int) -> None:
        """Keeps up to `most` bytes of them."""
        self.opened: list[tuple[mmap.mmap, str]] = []  # since the call began
        self._kept: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._bytes = 0
        self._most = most
        self._pages = Pages()

    def find(self, name: str) -> mmap.mmap | None:
        """A mapping of the file that is as if it were new. It is the call's now."""
        found = self._kept.pop(name, None)
        if found is not None:
            self._bytes -= len(found)
            self.opened.append((found, name))
        return found

    def add(self, name: str, mapping: mmap.mmap) -> None:
        """The call has mapped the file."""
        self.opened.append((mapping, name))

    def settle(self, pin: Callable[[str], None], *, shared: bool = False) -> None:
        """The call is over, and what it was given is gone, unless somebody holds it. `shared`: processes may."""
        opened, self.opened = self.opened, []
        while opened:
            mapping, name = opened.pop()
            if shared or sys.getrefcount(mapping) > _ALONE:
                pin(name)
            elif _SMALLEST <= len(mapping) <= self._most and self._is_clean(mapping):
                self._kept[name] = mapping
                self._bytes += len(mapping)
        while self._bytes > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)

    def _is_clean(self, mapping: mmap.mmap) -> bool:
        if not self._pages.known or "numpy" not in sys.modules:
            return False
        begin = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        return not self._pages.written(begin, begin + -(-len(mapping) // mmap.PAGESIZE) * mmap.PAGESIZE)


def has_children() -> bool:
    """Whether this process has forked others, which have its mappings too."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
