"""Which pages of a private mapping this process has written to, as the kernel tells."""

import os
import sys
from contextlib import suppress
from mmap import PAGESIZE

# Of a page's entry in pagemap (Documentation/admin-guide/mm/pagemap.rst): present, swapped out, of a file.
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61


class Pages:
    """Those of this process: not to be used after a fork."""

    def __init__(self) -> None:
        self._file = -1
        if sys.platform.startswith("linux"):
            with suppress(OSError):
                self._file = os.open("/proc/self/pagemap", os.O_RDONLY)

    @property
    def known(self) -> bool:
        """Whether the kernel tells."""
        return self._file >= 0

    def written(self, begin: int, end: int) -> bool:
        """Whether a page between these addresses, which are those of pages, is not the mapped file's any more."""
        import numpy as np

        count = (end - begin) // PAGESIZE
        data = os.pread(self._file, count * 8, begin // PAGESIZE * 8)
        if len(data) != count * 8:
            return True
        entries = np.frombuffer(data, dtype=np.uint64)
        own = (entries & np.uint64(_PRESENT | _OF_FILE)) == np.uint64(_PRESENT)
        return bool((own | ((entries & np.uint64(_SWAPPED)) != 0)).any())

    def close(self) -> None:
        """Ask no more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
