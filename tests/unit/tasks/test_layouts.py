"""Which part of a collection each rank of an MPI function gets."""

import pytest

from isthmus.tasks.kinds.mpi import part


def dealt(values, ranks, count, length=1, stride=1):
    layout = {"block_count": count, "block_length": length, "stride": stride}
    return [part(values, layout, rank, ranks) for rank in range(ranks)]


@pytest.mark.parametrize(
    ("count", "length", "stride", "parts"),
    [
        (4, 1, 1, [1, 2, 3, 4]),  # one block each: the element itself
        (4, 2, 1, [[1, 2], [2, 3], [3, 4], [4, 5]]),
        (4, 2, 2, [[1, 2], [3, 4], [5, 6], [7, 8]]),
        (8, 1, 1, [[1, 5], [2, 6], [3, 7], [4, 8]]),  # dealt out one by one
        (2, 1, 1, [1, 2, [], []]),
    ],
)
def test_blocks_are_dealt_out_to_ranks(count, length, stride, parts):
    assert dealt([1, 2, 3, 4, 5, 6, 7, 8], 4, count, length, stride) == parts
