"""How values travel between processes.

    (PLAIN_, value)                  cannot change, and goes within the message
    (PICKLED, bytes)                 pickled, within the message
    (SHARED, bytes, name, places)    pickled, its large buffers (arrays) out of band in the store

Pickle's protocol 5 (PEP 574) says which buffers these are. A `Shared` is the third form with its file's life in its
hand.
"""

import hashlib
import io
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

from isthmus.tasks.calls import PLAIN, Leaf
from isthmus.tasks.engines.processes.store import Store
from isthmus.tasks.futures import Future

PLAIN_, PICKLED, SHARED = range(3)
NOTHING = (PLAIN_, None)

# A smaller buffer costs less within the message than a file of its own.
_OUT_OF_BAND = 32 * 1024

_here = threading.local()


class Shared:
    """A value in the store. When nobody holds it any more, its file goes."""

    __slots__ = ("_store", "wire")

    def __init__(self, store: Store, wire: tuple[Any, ...]) -> None:
        self._store = store
        self.wire = wire

    @property
    def name(self) -> str:
        """Of its file."""
        return self.wire[2]  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """How many bytes stand in its file."""
        return sum(size for _, size in self.wire[3])

    def __del__(self) -> None:
        self._store.remove(self.wire[2])


def leaf_value(index: int) -> Any:
    """What a `Leaf` becomes where a call is unpacked."""
    return _here.inputs[index]


def _reduce_leaf(leaf: Leaf) -> Any:
    return leaf_value, (leaf.index,)


def itself(value: Any) -> Any:
    """What a future becomes within a value: what it stands for."""
    return value


def _reduce_future(future: Future) -> Any:
    return itself, (future.result(),)


def dump(store: Store, value: Any, on_future: Callable[[Future], Any] = _reduce_future) -> tuple[Any, ...]:
    """The wire form of a value; large buffers are in the store afterwards, and nobody's yet. See `own`."""
    if type(value) in PLAIN and (type(value) not in (str, bytes) or len(value) < _OUT_OF_BAND):
        return (PLAIN_, value)
    buffers: list[Any] = []

    def apart(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: numpy sees to it in the stream
            return True
        if raw.nbytes < _OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5, buffer_callback=apart)
    pickler.dispatch_table = _Table(on_future)
    try:
        pickler.dump(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        buffers.clear()
        file = _by_value(value, on_future, apart, error)
    if not buffers and file.tell() < 4 * _OUT_OF_BAND:
        return (PICKLED, file.getvalue())
    stream: Any = file.getbuffer()
    if stream.nbytes < 4 * _OUT_OF_BAND:
        name, places = store.write(buffers)
        return (SHARED, bytes(stream), name, places)
    name, places = store.write([stream, *buffers])
    return (SHARED, b"", name, places)


class _Table(dict[Any, Any]):
    """copyreg's table, and futures and leaves."""

    def __init__(self, on_future: Callable[[Future], Any]) -> None:
        import copyreg

        super().__init__(copyreg.dispatch_table)
        self[Leaf] = _reduce_leaf
        self[Future] = on_future


def _by_value(value: Any, on_future: Any, apart: Any, error: Exception) -> io.BytesIO:
    """Again with cloudpickle, which takes functions and classes that can't be imported, if it is installed."""
    try:
        import cloudpickle
    except ImportError:
        raise error from None
    file = io.BytesIO()
    pickler = cloudpickle.Pickler(file, 5, buffer_callback=apart)
    pickler.dispatch_table = pickler.dispatch_table.new_child(dict(_Table(on_future)))
    try:
        pickler.dump(value)
    except Exception:  # noqa: BLE001  (the first error says better what is wrong)
        raise error from None
    return file


def own(store: Store, wire: tuple[Any, ...]) -> Any:
    """The stored form of what came over the wire: with its file's life in hand."""
    return Shared(store, wire) if wire[0] == SHARED else wire


def wire_of(stored: Any) -> tuple[Any, ...]:
    """The wire form of what is stored; a file's version has no value."""
    if type(stored) is Shared:
        return stored.wire
    return NOTHING if stored is None else stored


def load(store: Store, wire: tuple[Any, ...], inputs: Sequence[Any] = (), *, to_change: bool = False) -> Any:
    """The value; leaves in it become these inputs. `to_change`: large buffers are read, not mapped.

    A mapping's pages are copied one by one as they are written, which costs several times as much.
    """
    kind = wire[0]
    if kind == PLAIN_:
        return wire[1]
    before = getattr(_here, "inputs", ())
    _here.inputs = inputs
    try:
        if kind == PICKLED:
            return pickle.loads(wire[1])
        buffers = (store.read if to_change else store.open)(wire[2], wire[3])
        if wire[1]:
            return pickle.loads(wire[1], buffers=buffers)
        return pickle.loads(buffers[0], buffers=buffers[1:])
    finally:
        _here.inputs = before


def digest(store: Store, wire: tuple[Any, ...]) -> bytes:
    """A digest of what a wire form says."""
    found = hashlib.sha256()
    if wire[0] == PLAIN_:
        found.update(pickle.dumps(wire[1], 5))
    else:
        found.update(wire[1])
        if wire[0] == SHARED:
            for buffer in store.open(wire[2], wire[3]):
                found.update(buffer)
    return found.digest()
