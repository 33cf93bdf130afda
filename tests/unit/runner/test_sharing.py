"""Which device a wish for a part of a GPU is met with, and what the job is told."""

from typing import Any

import pytest

from isthmus.runner.sharing import Table, variables

GIB = 1 << 30


def gpu(index: int, *, used: int = 0, util: int = 0, migs: tuple[int, ...] = ()) -> dict[str, Any]:
    parts = [{"uuid": f"MIG-{index}-{number}", "mem": size * GIB, "mem_bytes": 0} for number, size in enumerate(migs)]
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "mem": 80 * GIB,
        "mem_bytes": used * GIB,
        "util": util,
        "migs": parts,
    }


def table(*survey: dict[str, Any], names: tuple[str, ...] = ()) -> Table:
    found = Table()
    found.update(list(names or [str(said["index"]) for said in survey]), list(survey))
    return found


def give(to: Table, key: str, busy: tuple[str, ...] = (), **want: Any) -> str:
    device = to.take(key, want, set(busy))
    return device.name if device is not None else ""


def test_parts_are_packed_and_never_come_to_more_than_a_gpu() -> None:
    two = table(gpu(0, util=50), gpu(1, util=10))
    assert [give(two, str(number), part=0.4) for number in range(5)] == ["1", "1", "0", "0", ""]
    two.give_back("0")
    assert give(two, "5", part=0.7) == ""
    assert give(two, "6", part=0.4) == "1"


def test_memory_that_others_use_is_not_given_away_nor_what_was_given_away_already() -> None:
    one = table(gpu(0, used=30))
    assert give(one, "a", mem_bytes=60 * GIB) == ""
    assert give(one, "b", mem_bytes=20 * GIB) == "0"
    one.update(["0"], [gpu(0, used=50)])  # the job uses its memory now
    assert give(one, "c", mem_bytes=31 * GIB) == ""
    assert give(one, "d", mem_bytes=30 * GIB) == "0"
    assert give(one, "e", mem_bytes=1 * GIB) == "0"
    assert one.devices["0"].free()[1] >= 0


def test_a_gpu_given_away_whole_is_not_shared_and_a_shared_one_not_given_away_whole() -> None:
    two = table(gpu(0), gpu(1))
    assert give(two, "a", busy=("0",), part=0.5) == "1"
    assert two.shared() == {"1"}
    assert two.whole(["0", "1"]) == ["0", "1"]
    assert give(two, "b", busy=("0",), part=0.6) == ""


def test_the_smallest_mig_instance_that_is_large_enough_goes_to_one_job_alone() -> None:
    divided = table(gpu(0, migs=(10, 20, 40)), gpu(1))
    assert divided.whole(["0", "1"]) == ["1"]
    assert give(divided, "a", mem_bytes=12 * GIB) == "MIG-0-1"
    assert variables(divided.devices["MIG-0-1"], "a")["CUDA_VISIBLE_DEVICES"] == "MIG-0-1"
    assert give(divided, "b", mem_bytes=12 * GIB) == "MIG-0-2"
    assert give(divided, "c", mem_bytes=12 * GIB) == "1"
    assert give(divided, "d", mem_bytes=1 * GIB) == "MIG-0-0"


def test_a_remote_gpu_is_the_last_resort() -> None:
    found = table(gpu(0))
    found.declare([{"server": "far:0", "mem_bytes": 16 * GIB}])
    assert give(found, "a", part=1.0) == "0"
    assert give(found, "b", mem_bytes=8 * GIB) == "far:0"
    said = variables(found.devices["far:0"], "b")
    assert said["RCUDA_DEVICE_COUNT"] == "1"
    assert said["RCUDA_DEVICE_0"] == "far:0"
    assert "CUDA_VISIBLE_DEVICES" not in said


@pytest.mark.parametrize(
    ("want", "limit", "percent"),
    [
        ({"part": 0.5}, "0=40960M", "50"),
        ({"mem_bytes": 6 * GIB}, "0=6144M", "8"),
        ({"mem_bytes": 6 * GIB, "part": 0.25}, "0=6144M", "25"),
    ],
)
def test_the_job_is_told_its_limits(want: dict[str, Any], limit: str, percent: str) -> None:
    one = table(gpu(0))
    device = one.take("a", want, set())
    said = variables(device, "a")
    assert said["CUDA_VISIBLE_DEVICES"] == "0"
    assert said["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == limit
    assert said["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == percent


def test_what_can_never_be_is_refused_with_the_reason() -> None:
    assert "has none" in Table().refuses({"part": 0.5})
    one = table(gpu(0))
    assert "the largest here has 81920 MiB" in one.refuses({"mem_bytes": 100 * GIB})
    assert one.refuses({"mem_bytes": 80 * GIB}) == ""


def test_only_gpus_that_may_be_used_are_in_the_table() -> None:
    assert set(table(gpu(0), gpu(1), names=("GPU-1",)).devices) == {"GPU-1"}


def test_a_new_keeper_goes_on_with_what_an_earlier_one_gave_away() -> None:
    one = table(gpu(0))
    one.keep("old", {"part": 0.7}, "0")
    assert give(one, "a", part=0.5) == ""
    one.give_back("old")
    assert give(one, "b", part=0.5) == "0"
