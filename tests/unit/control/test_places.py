"""What attempts hold of a site: counted when they come, and given back when they go."""

from isthmus.control import places
from isthmus.control.live import SHARE
from isthmus.domain.sites import GpuKind, NodeType, Queue
from isthmus.domain.units import Bytes
from isthmus.placement.needs import Need
from isthmus.placement.snapshot import SiteSnapshot

NODE = NodeType(name="n", cpus=8, gpus=(GpuKind(type="A100", count=2, mem=Bytes(40)),))


def test_parts_of_gpus_are_counted_from_the_plans_of_attempts_and_given_back() -> None:
    site = SiteSnapshot(name="here", queues=(Queue(name="main", nodes=(NODE,)),))
    needs = [Need(user="ada", gpu_part=0.5), Need(user="ada", gpu_part_mem=10, gpu_type="a100"), Need(user="b", gpus=1)]
    plans = [places.plan_of(need, "main", "n", **{SHARE: need.gpus_of(site.gpus)}) for need in needs]
    assert [places.gpus_of(plan, site) for plan in plans] == [0.5, 0.25, 1.0]
    for plan in plans:
        places.count(site, plan, "ada", waiting=False)
    assert site.used_gpus == 2, "both parts share one"
    assert site.gpus.lacks_part(needs[0].part), "a quarter is left"  # type: ignore[arg-type]
    for plan in plans:
        places.count(site, plan, "ada", waiting=False, sign=-1)
    assert (site.used_gpus, site.used_cpus, site.gpus.parts) == (0, 0, {})
