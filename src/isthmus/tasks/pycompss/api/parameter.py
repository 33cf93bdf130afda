"""Directions and the keys of parameters."""

from typing import Final

from isthmus.tasks.directions import (
    STDERR,
    STDIN,
    STDOUT,
    TABLE,
    Cache,
    Depth,
    Direction,
    Keep_rename,
    Parameter,
    Prefix,
    StdIOStream,
    Type,
    Weight,
)

IN: Final[Parameter] = TABLE["IN"]
OUT: Final[Parameter] = TABLE["OUT"]
INOUT: Final[Parameter] = TABLE["INOUT"]
CONCURRENT: Final[Parameter] = TABLE["CONCURRENT"]
COMMUTATIVE: Final[Parameter] = TABLE["COMMUTATIVE"]
IN_DELETE: Final[Parameter] = TABLE["IN_DELETE"]
FILE_IN: Final[Parameter] = TABLE["FILE_IN"]
FILE_OUT: Final[Parameter] = TABLE["FILE_OUT"]
FILE_INOUT: Final[Parameter] = TABLE["FILE_INOUT"]
FILE_CONCURRENT: Final[Parameter] = TABLE["FILE_CONCURRENT"]
FILE_COMMUTATIVE: Final[Parameter] = TABLE["FILE_COMMUTATIVE"]
FILE: Final[Parameter] = TABLE["FILE"]
DIRECTORY_IN: Final[Parameter] = TABLE["DIRECTORY_IN"]
DIRECTORY_OUT: Final[Parameter] = TABLE["DIRECTORY_OUT"]
DIRECTORY_INOUT: Final[Parameter] = TABLE["DIRECTORY_INOUT"]
DIRECTORY: Final[Parameter] = TABLE["DIRECTORY"]
COLLECTION_IN: Final[Parameter] = TABLE["COLLECTION_IN"]
COLLECTION_OUT: Final[Parameter] = TABLE["COLLECTION_OUT"]
COLLECTION_INOUT: Final[Parameter] = TABLE["COLLECTION_INOUT"]
COLLECTION_IN_DELETE: Final[Parameter] = TABLE["COLLECTION_IN_DELETE"]
COLLECTION: Final[Parameter] = TABLE["COLLECTION"]
COLLECTION_FILE_IN: Final[Parameter] = TABLE["COLLECTION_FILE_IN"]
COLLECTION_FILE_OUT: Final[Parameter] = TABLE["COLLECTION_FILE_OUT"]
COLLECTION_FILE_INOUT: Final[Parameter] = TABLE["COLLECTION_FILE_INOUT"]
COLLECTION_FILE: Final[Parameter] = TABLE["COLLECTION_FILE"]
DICTIONARY_IN: Final[Parameter] = TABLE["DICTIONARY_IN"]
DICTIONARY_OUT: Final[Parameter] = TABLE["DICTIONARY_OUT"]
DICTIONARY_INOUT: Final[Parameter] = TABLE["DICTIONARY_INOUT"]
DICTIONARY_IN_DELETE: Final[Parameter] = TABLE["DICTIONARY_IN_DELETE"]
DICTIONARY: Final[Parameter] = TABLE["DICTIONARY"]
STREAM_IN: Final[Parameter] = TABLE["STREAM_IN"]
STREAM_OUT: Final[Parameter] = TABLE["STREAM_OUT"]
FILE_STDIN: Final[Parameter] = TABLE["FILE_STDIN"]
FILE_IN_STDIN: Final[Parameter] = TABLE["FILE_IN_STDIN"]
FILE_OUT_STDIN: Final[Parameter] = TABLE["FILE_OUT_STDIN"]
FILE_INOUT_STDIN: Final[Parameter] = TABLE["FILE_INOUT_STDIN"]
FILE_CONCURRENT_STDIN: Final[Parameter] = TABLE["FILE_CONCURRENT_STDIN"]
FILE_COMMUTATIVE_STDIN: Final[Parameter] = TABLE["FILE_COMMUTATIVE_STDIN"]
FILE_STDOUT: Final[Parameter] = TABLE["FILE_STDOUT"]
FILE_IN_STDOUT: Final[Parameter] = TABLE["FILE_IN_STDOUT"]
FILE_OUT_STDOUT: Final[Parameter] = TABLE["FILE_OUT_STDOUT"]
FILE_INOUT_STDOUT: Final[Parameter] = TABLE["FILE_INOUT_STDOUT"]
FILE_CONCURRENT_STDOUT: Final[Parameter] = TABLE["FILE_CONCURRENT_STDOUT"]
FILE_COMMUTATIVE_STDOUT: Final[Parameter] = TABLE["FILE_COMMUTATIVE_STDOUT"]
FILE_STDERR: Final[Parameter] = TABLE["FILE_STDERR"]
FILE_IN_STDERR: Final[Parameter] = TABLE["FILE_IN_STDERR"]
FILE_OUT_STDERR: Final[Parameter] = TABLE["FILE_OUT_STDERR"]
FILE_INOUT_STDERR: Final[Parameter] = TABLE["FILE_INOUT_STDERR"]
FILE_CONCURRENT_STDERR: Final[Parameter] = TABLE["FILE_CONCURRENT_STDERR"]
FILE_COMMUTATIVE_STDERR: Final[Parameter] = TABLE["FILE_COMMUTATIVE_STDERR"]

block_count = "block_count"
block_length = "block_length"
stride = "stride"

__all__ = [
    "COLLECTION",
    "COLLECTION_FILE",
    "COLLECTION_FILE_IN",
    "COLLECTION_FILE_INOUT",
    "COLLECTION_FILE_OUT",
    "COLLECTION_IN",
    "COLLECTION_INOUT",
    "COLLECTION_IN_DELETE",
    "COLLECTION_OUT",
    "COMMUTATIVE",
    "CONCURRENT",
    "DICTIONARY",
    "DICTIONARY_IN",
    "DICTIONARY_INOUT",
    "DICTIONARY_IN_DELETE",
    "DICTIONARY_OUT",
    "DIRECTORY",
    "DIRECTORY_IN",
    "DIRECTORY_INOUT",
    "DIRECTORY_OUT",
    "FILE",
    "FILE_COMMUTATIVE",
    "FILE_COMMUTATIVE_STDERR",
    "FILE_COMMUTATIVE_STDIN",
    "FILE_COMMUTATIVE_STDOUT",
    "FILE_CONCURRENT",
    "FILE_CONCURRENT_STDERR",
    "FILE_CONCURRENT_STDIN",
    "FILE_CONCURRENT_STDOUT",
    "FILE_IN",
    "FILE_INOUT",
    "FILE_INOUT_STDERR",
    "FILE_INOUT_STDIN",
    "FILE_INOUT_STDOUT",
    "FILE_IN_STDERR",
    "FILE_IN_STDIN",
    "FILE_IN_STDOUT",
    "FILE_OUT",
    "FILE_OUT_STDERR",
    "FILE_OUT_STDIN",
    "FILE_OUT_STDOUT",
    "FILE_STDERR",
    "FILE_STDIN",
    "FILE_STDOUT",
    "IN",
    "INOUT",
    "IN_DELETE",
    "OUT",
    "STDERR",
    "STDIN",
    "STDOUT",
    "STREAM_IN",
    "STREAM_OUT",
    "Cache",
    "Depth",
    "Direction",
    "Keep_rename",
    "Prefix",
    "StdIOStream",
    "Type",
    "Weight",
    "block_count",
    "block_length",
    "stride",
]
