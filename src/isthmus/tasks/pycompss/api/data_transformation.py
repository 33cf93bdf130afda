"""`@dt`."""

from isthmus.tasks.transformations import (
    COLLECTION_TO_FILE,
    COLLECTION_TO_OBJECT,
    FILE_TO_COLLECTION,
    FILE_TO_OBJECT,
    OBJECT_TO_COLLECTION,
    OBJECT_TO_FILE,
    DTObject,
    data_transformation,
    dt,
)

DataTransformation = data_transformation
dto = DTObject
__all__ = [
    "COLLECTION_TO_FILE",
    "COLLECTION_TO_OBJECT",
    "FILE_TO_COLLECTION",
    "FILE_TO_OBJECT",
    "OBJECT_TO_COLLECTION",
    "OBJECT_TO_FILE",
    "DTObject",
    "DataTransformation",
    "data_transformation",
    "dt",
    "dto",
]
