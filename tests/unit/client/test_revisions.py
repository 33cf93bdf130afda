"""Sites said anew in part."""

import pytest

from isthmus.client.revisions import revise
from isthmus.domain.errors import Invalid
from isthmus.domain.sites import GpuPrice, Limits, Price, SiteSpec

SPEC = SiteSpec(name="hpc", labels={"location": "FR", "a.b": 1}, zone="eu", limits=Limits(jobs=3))


def test_what_is_set_is_put_and_the_rest_stays() -> None:
    fresh = revise(SPEC, ["labels.location=DE", "labels.x.y=2", "price.gpu_hour=1.5", "metrics.trust=0.7"], ["zone"])
    assert fresh.labels == {"location": "DE", "a.b": 1, "x.y": 2}
    assert (fresh.price, fresh.metrics) == (Price(gpu_hour=1.5), {"trust": 0.7})
    assert revise(SPEC, ["price.gpus.a100.hour=2"], []).price.gpus == {"a100": GpuPrice(hour=2.0)}
    assert (fresh.zone, fresh.limits) == ("", Limits(jobs=3))


@pytest.mark.parametrize(
    ("put", "leave", "said"),
    [
        (["labels"], [], "is not PLACE=VALUE"),
        (["lables.x=1"], [], "'labels'"),
        (["limits.jbos=1"], [], "'jobs'"),
        (["kind=slurm"], [], "name and kind stay"),
        (["zone.x=1"], [], "nothing lies below"),
        (["labels.x=[1"], [], "no YAML value"),
        ([], ["labels.nothing"], "is not said of hpc"),
    ],
)
def test_what_can_not_be_is_refused_with_the_place(put: list[str], leave: list[str], said: str) -> None:
    with pytest.raises(Invalid) as caught:
        revise(SPEC, put, leave)
    assert said in f"{caught.value.message} {caught.value.hint}"
