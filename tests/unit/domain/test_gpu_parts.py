"""How a job asks for a part of a GPU, and what is refused."""

import pytest

from isthmus import codec
from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import GpuPart, JobSpec, Resources, check
from isthmus.domain.units import Bytes


def asks(**resources: object) -> JobSpec:
    return JobSpec(command=("true",), resources=Resources(**resources))  # type: ignore[arg-type]


@pytest.mark.parametrize("gpu", [0.5, 1.0, GpuPart(memory=Bytes(6 << 30)), GpuPart(part=0.2, memory=Bytes(1 << 30))])
def test_what_may_be_asked_for(gpu: float | GpuPart) -> None:
    check(asks(gpu=gpu, gpu_type="a100"))


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"gpu": 1.5}, "not a part of a GPU"),
        ({"gpu": -0.5}, "not a part of a GPU"),
        ({"gpu": 0.0}, "not said"),
        ({"gpu": GpuPart()}, "not said"),
        ({"gpu": 0.5, "gpus": 1}, "either whole GPUs or a part"),
        ({"gpu": 0.5, "nodes": 2}, "on one node"),
    ],
)
def test_what_is_refused(resources: dict[str, object], said: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        check(asks(**resources))
    assert caught.value.place == "resources.gpu"


def test_both_ways_of_writing_it_are_read() -> None:
    read = codec.read(Resources, {"gpu": {"memory": "6GiB"}})
    assert read.gpu_part == GpuPart(memory=Bytes(6 << 30))
    assert codec.read(Resources, {"gpu": 0.5}).gpu_part == GpuPart(part=0.5)
