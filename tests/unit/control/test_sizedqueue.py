"""What if, where a policy chooses the numbers of GPUs: jobs are sized on paper as they would be live."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from isthmus.control.forecasting import Forecasting
from isthmus.domain.jobs import Resources, Sizing
from isthmus.domain.placement import WhatIf
from isthmus.domain.reasons import Reason
from isthmus.domain.units import Seconds
from tests.unit.control.conftest import TRUE, Plane
from tests.unit.control.test_resizing import gpu_site, job

pytestmark = pytest.mark.usefixtures("plane")


async def test_jobs_are_sized_as_the_policy_would_with_changed_deadlines_and_nodes(plane: Plane) -> None:
    await gpu_site(plane)
    calm = await plane.submit(job(40_000, 6000, 4000))
    urgent = await plane.submit(job(3500, 5000, 3000))
    forecasting = Forecasting(plane.db, plane.needs, plane.clock)
    later = datetime.now(UTC) + timedelta(hours=12)
    change = WhatIf(deadlines={str(urgent.id): later}, show=(calm.id, urgent.id))
    view = await forecasting.whatif(plane.caller, change)
    first = {one.job: one for one in view.now.shown}
    assert first[urgent.id].start_s == 0.0
    assert 2999 < (first[urgent.id].end_s or 0) <= 3500, "with both GPUs"
    assert 1000 < (first[calm.id].start_s or 0) < 3500
    then = {one.job: one for one in view.then.shown}
    assert then[urgent.id].end_s == pytest.approx(5000.0, abs=70.0), "with one, beside the other"
    assert then[calm.id].start_s == pytest.approx(0.0, abs=1.0)
    assert (view.now.late, view.then.late) == (0, 0)
    assert any("2 jobs are sized by deadline-cost" in note for note in view.notes)

    more = await forecasting.whatif(plane.caller, WhatIf(nodes={"gpus": 1}, show=(calm.id,)))
    assert more.then.shown[0].start_s == pytest.approx(0.0, abs=1.0), "there is a node for each"
    usual = await forecasting.whatif(plane.caller, WhatIf(policies={"gpus": "priority"}, show=(urgent.id,)))
    assert usual.then.shown[0].start_s and usual.then.late == 1, "by priority, with two GPUs each, after the older one"


async def test_other_jobs_find_what_the_sized_ones_leave(plane: Plane) -> None:
    await gpu_site(plane)
    await plane.submit(job(3500, 5000, 3000))
    whole = dataclasses.replace(TRUE, resources=Resources(gpus=2, time=Seconds(100)))
    other = await plane.submit(whole)
    forecasting = Forecasting(plane.db, plane.needs, plane.clock)
    view = await forecasting.whatif(plane.caller, WhatIf(show=(other.id,)))
    assert 3000 < (view.now.shown[0].start_s or 0) <= 3500, "as long as the other has any of the GPUs"


async def test_a_job_that_says_nothing_of_the_sites_gpus_waits_with_that_as_the_reason(plane: Plane) -> None:
    await gpu_site(plane)
    plane.lead()
    request = dataclasses.replace(job(3500, 50), sizing=Sizing(times={"v100": (Seconds(50),)}))
    one = await plane.submit(request)
    view = await plane.until(lambda view: view.reason is Reason.NO_SITE, one.id)
    assert "gpus: its `sizing.times` say nothing of a100" in view.message
