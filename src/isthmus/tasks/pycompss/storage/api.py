"""`storage.api`: the interface that PyCOMPSs asks of a store of persistent objects, on ours."""

from types import TracebackType
from typing import Any

from isthmus.tasks import persistent
from isthmus.tasks.persistent import PersistentObject

StorageObject = PersistentObject


class StorageException(Exception):
    """The store is in trouble."""


def init(config_file_path: str | None = None, **kwargs: Any) -> None:
    """Nothing to do: `ISTHMUS_TASKS_OBJECTS` says where objects are."""


def finish(**kwargs: Any) -> None:
    """Nothing to do."""


def initWorker(config_file_path: str | None = None, **kwargs: Any) -> None:
    """Nothing to do."""


def finishWorker(**kwargs: Any) -> None:
    """Nothing to do."""


init_worker, finish_worker = initWorker, finishWorker


def getByID(*identifiers: str) -> Any:
    """The object of an id, or a list of several."""
    found = [persistent.get_by_id(one) for one in identifiers]
    return found[0] if len(found) == 1 else found


def makePersistent(obj: PersistentObject, identifier: str | None = None) -> None:
    """Keep the object."""
    obj.make_persistent(identifier)


def updatePersistent(obj: PersistentObject) -> None:
    """Keep the object's changes."""
    obj.save()


def deletePersistent(obj: PersistentObject) -> None:
    """Forget it."""
    obj.delete_persistent()


removeById = deletePersistent
get_by_id, make_persistent, update_persistent, delete_persistent = (
    getByID,
    makePersistent,
    updatePersistent,
    deletePersistent,
)


class TaskContext:
    """Around a task; there is nothing to do before or after."""

    def __init__(self, logger: Any, values: Any, config_file_path: str | None = None) -> None:
        self.values = values

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
