"""The object that a program holds of something persistent. It is loaded whole, and kept whole when it has changed."""

import hashlib
import pickle
import uuid
from typing import Any, ClassVar, Self

from isthmus.domain.errors import Conflict, NotFound
from isthmus.tasks.persistent.choice import backend

_OWN = ("_persistent_id", "_persistent_digest")


class PersistentObject:
    """Inherit from it. Until `make_persistent` it is an object like any other.

    Its attributes are its state: what pickle takes. PyCOMPSs's spellings (makePersistent, ...) are the same methods.
    """

    has_persistent_state: ClassVar[bool] = True
    _persistent_id: str | None = None
    _persistent_digest: str = ""

    def getID(self) -> str | None:
        """Its id; None while it is not persistent."""
        return self._persistent_id

    def make_persistent(self, id: str | None = None) -> str:
        """Keep it under this id, or one of its own. Returns the id. Of one that is persistent: keep its changes.

        Raises Conflict where it has another id already.
        """
        if self._persistent_id is not None and id not in (None, self._persistent_id):
            raise Conflict(f"It is persistent already, as {self._persistent_id!r}.")
        if self._persistent_id is None:
            self._persistent_id = str(id) if id is not None else str(uuid.uuid4())
            self._persistent_digest = ""
        self.save()
        return self._persistent_id

    def save(self) -> None:
        """Keep it as it is now, if it has changed. Nothing where it is not persistent."""
        if self._persistent_id is None:
            return
        state = {name: value for name, value in self.__dict__.items() if name not in _OWN}
        data = _dumps((type(self), state))
        digest = hashlib.sha256(data).hexdigest()
        if digest != self._persistent_digest:
            backend().put(self._persistent_id, data)
            self._persistent_digest = digest

    def delete_persistent(self) -> None:
        """Forget it where it is kept. The object here stays, as one that is not persistent."""
        if self._persistent_id is not None:
            backend().delete(self._persistent_id)
            self._persistent_id, self._persistent_digest = None, ""

    makePersistent = make_persistent
    deletePersistent = delete_persistent
    updatePersistent = save

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._persistent_id is None:
            return super().__reduce_ex__(protocol)
        # It travels by its id. The digest says to checkpoints which state was meant.
        self.save()
        return _load, (self._persistent_id, self._persistent_digest)

    @classmethod
    def _of(cls, id: str, state: dict[str, Any], digest: str) -> Self:
        made = cls.__new__(cls)
        made.__dict__.update(state)
        made._persistent_id, made._persistent_digest = id, digest
        return made


def get_by_id(id: str) -> Any:
    """The object that was kept under this id. Raises NotFound where there is none."""
    data = backend().get(str(id))
    if data is None:
        raise NotFound(f"There is no persistent object {id!r}.", hint="ISTHMUS_TASKS_OBJECTS says where they are kept.")
    kind, state = pickle.loads(data)
    return kind._of(str(id), state, hashlib.sha256(data).hexdigest())


def _load(id: str, digest: str) -> Any:
    return get_by_id(id)


def _dumps(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        try:
            import cloudpickle
        except ImportError:
            raise error from None
        return bytes(cloudpickle.dumps(value, 5))
