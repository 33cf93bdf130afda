"""`storage.storage_object`."""

from isthmus.tasks.persistent import PersistentObject

StorageObject = storage_object = PersistentObject
