"""`storage.Object`: the name of older programs."""

from isthmus.tasks.persistent import PersistentObject

SCO = PersistentObject
