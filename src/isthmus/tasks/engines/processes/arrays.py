"""Arrays that the program passes again and again: copied into the store once, as long as they have not changed.

How is a change noticed? Where an array has a mapping of its own from malloc (glibc marks such a chunk in the word
before it), its pages are replaced by a private mapping of the copy: the program goes on in the same memory, which the
workers share, and a page that it writes to becomes its own; /proc/self/pagemap tells which have. So neither a second
copy nor a comparison is needed, and what workers read stays as it was at the call. Elsewhere the array is compared
with its copy, which costs a fraction of copying, pickling and mapping it again.
"""

import ctypes
import mmap
import os
import sys
import weakref
from collections import OrderedDict
from typing import Any

from isthmus.tasks.engines.processes import values
from isthmus.tasks.engines.processes.pages import Pages
from isthmus.tasks.engines.processes.store import Store
from isthmus.tasks.engines.processes.values import SHARED, Shared

SMALLEST = 64 * 1024

_PAGE = mmap.PAGESIZE
# Of the size that glibc's malloc keeps before a chunk: it has a mapping of its own; and all flags.
_IS_MMAPPED, _FLAGS = 2, 7
_MAP_FIXED = 0x10


class _Copy:
    """An array's copy in the store."""

    __slots__ = ("address", "array", "begin", "end", "head", "kind", "shared", "size", "tail")

    def __init__(self, array: Any, shared: Shared, address: int) -> None:
        self.array = weakref.ref(array)
        self.shared = shared
        self.address = address
        self.size = array.nbytes
        self.kind = (array.shape, array.dtype, array.strides)
        self.begin = self.end = 0  # pages that are private mappings of the copy
        self.head = self.tail = b""  # what stood before and after them


class Arrays:
    """See the module. For the program's thread, and for one at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._copies: OrderedDict[int, _Copy] = OrderedDict()
        self._bytes = 0
        self._most = store.limit // 4
        self._libc = _libc()
        self._pages = Pages()

    def takes(self, value: Any) -> bool:
        """Whether the value is an array that is worth it."""
        kind = type(value)
        return (
            kind.__name__ == "ndarray"
            and kind.__module__ == "numpy"
            and value.nbytes >= SMALLEST
            and not value.dtype.hasobject
            and value.flags.c_contiguous
        )

    def pack(self, array: Any) -> Shared:
        """The array as it is now, in the store."""
        copy = self._copies.get(id(array))
        if copy is not None and copy.array() is array and self._unchanged(copy, array):
            self._copies.move_to_end(id(array))
            return copy.shared
        return self._copy(array)

    def close(self) -> None:
        """Keep nothing."""
        self._copies.clear()
        self._pages.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _copy(self, array: Any) -> Shared:
        address = array.__array_interface__["data"][0]
        import pickle

        raw: list[Any] = []
        stream = pickle.dumps(array, 5, buffer_callback=lambda buffer: raw.append(buffer.raw()))
        if len(raw) != 1:
            return Shared(self._store, values.dump(self._store, array))
        # At the place in a page that it has here too, so that whole pages can be mapped.
        name, places, in_memory = self._store.write_at(raw[0], address % _PAGE)
        shared = Shared(self._store, (SHARED, stream, name, places))
        copy = _Copy(array, shared, address)
        self._keep(id(array), copy)
        if in_memory and self._has_own_mapping(array, address):
            self._map(copy, places[0][0])
        return shared

    def _keep(self, key: int, copy: _Copy) -> None:
        self._drop(key)
        self._copies[key] = copy
        self._bytes += copy.size
        copy.array = weakref.ref(copy.array(), lambda gone: self._gone(key, gone))
        while self._bytes > self._most and len(self._copies) > 1:
            self._drop(next(iter(self._copies)))

    def _gone(self, key: int, reference: Any) -> None:
        copy = self._copies.get(key)
        if copy is not None and copy.array is reference:
            self._drop(key)

    def _drop(self, key: int) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            self._bytes -= copy.size

    def _has_own_mapping(self, array: Any, address: int) -> bool:
        """Whether the array's memory is a chunk of glibc's malloc with a mapping of its own, and nothing else in it."""
        if (
            self._libc is None
            or not self._pages.known
            or array.base is not None
            or not array.flags.owndata
            or not array.flags.writeable
        ):
            return False
        if array.nbytes < 16 * _PAGE or address % 16:
            return False
        # The word before what malloc gives. Numpy's own allocator gives it as it is; anything else fails the test
        # below.
        header = ctypes.c_size_t.from_address(address - ctypes.sizeof(ctypes.c_size_t)).value
        size = header & ~_FLAGS
        return bool(header & _IS_MMAPPED) and size % _PAGE == 0 and 16 <= size - array.nbytes <= 2 * _PAGE

    def _map(self, copy: _Copy, offset: int) -> None:
        assert self._libc is not None
        begin = -(-copy.address // _PAGE) * _PAGE
        end = (copy.address + copy.size) // _PAGE * _PAGE
        file = os.open(os.path.join(self._store.memory, copy.shared.wire[2]), os.O_RDONLY)
        try:
            found = self._libc.mmap(
                begin,
                end - begin,
                mmap.PROT_READ | mmap.PROT_WRITE,
                mmap.MAP_PRIVATE | _MAP_FIXED,
                file,
                offset + begin - copy.address,
            )
        finally:
            os.close(file)
        if found == begin:
            self._store.pin(copy.shared.name)
            copy.head = ctypes.string_at(copy.address, begin - copy.address)
            copy.tail = ctypes.string_at(end, copy.address + copy.size - end)
            copy.begin, copy.end = begin, end

    def _unchanged(self, copy: _Copy, array: Any) -> bool:
        address = array.__array_interface__["data"][0]
        if address != copy.address or (array.shape, array.dtype, array.strides) != copy.kind:
            return False
        if self._libc is None:
            return False
        if copy.begin == copy.end:
            (view,) = self._store.open(copy.shared.wire[2], copy.shared.wire[3])
            there = ctypes.addressof(ctypes.c_char.from_buffer(view))
            return self._libc.memcmp(address, there, copy.size) == 0  # type: ignore[no-any-return]
        return (
            self._libc.memcmp(address, copy.head, len(copy.head)) == 0
            and self._libc.memcmp(copy.end, copy.tail, len(copy.tail)) == 0
            and not self._pages.written(copy.begin, copy.end)
        )


def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_size_t
    library.mmap.argtypes = [
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    library.memcmp.restype = ctypes.c_int
    library.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return library if hasattr(library, "gnu_get_libc_version") else None
