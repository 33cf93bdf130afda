"""The doubles that the package ships behave as the real things do."""

import asyncio
import hashlib
import json

import pytest

from isthmus.domain.errors import BadReply, Refused, Unreachable
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health
from isthmus.sites.base import Kill, Known, Site, Submission, Submitted
from isthmus.testing import FakeSite, ManualClock

KEY = "1.1-abcd"


def typed(site: FakeSite) -> Site:
    return site


async def submitted(site: FakeSite, key: str = KEY) -> str:
    answer = (await site.submit([Submission(key, {})]))[key]
    assert isinstance(answer, Submitted)
    return answer.native_id


async def test_a_job_goes_from_submission_to_its_end_in_steps() -> None:
    site = FakeSite()
    native = await submitted(site)
    seen = (await site.poll({KEY: Known(native)})).attempts[KEY]
    assert (seen.state, seen.claimed, seen.reports) == ("pending", False, b"")
    site.start(KEY)
    site.report(KEY, "metrics", values={"loss": 1.0}, step=1)
    seen = (await site.poll({KEY: Known(native, 0, "PENDING")})).attempts[KEY]
    assert (seen.state, seen.claimed) == ("running", True)
    assert [json.loads(line)["kind"] for line in seen.reports.splitlines()] == ["started", "metrics"]
    known = Known(native, len(seen.reports), seen.native_state)
    assert (await site.poll({KEY: known})).attempts == {}
    site.finish(KEY, 3)
    seen = (await site.poll({KEY: known})).attempts[KEY]
    assert (seen.state, seen.exit_code, seen.offset) == ("ended", 3, known.reports)
    assert json.loads(seen.reports)["reason"] == "EXIT_CODE"


async def test_submit_is_idempotent_and_may_lose_its_reply() -> None:
    site = FakeSite(instant=True)
    site.lose_reply("submit")
    with pytest.raises(BadReply):
        await submitted(site)
    assert await submitted(site) == await submitted(site)
    assert site.submissions[KEY] == 1


async def test_a_refusal_is_a_value_and_spoils_no_other() -> None:
    site = FakeSite()
    site.refuse("Invalid account", key="2.1-efgh")
    answer = await site.submit([Submission(KEY, {}), Submission("2.1-efgh", {})])
    assert isinstance(answer[KEY], Submitted)
    assert isinstance(answer["2.1-efgh"], Refused)


async def test_a_cut_fails_what_waits_and_a_mended_site_goes_on() -> None:
    site = FakeSite()
    native = await submitted(site)
    known = {KEY: Known(native, 0, "PENDING")}
    waiting = asyncio.create_task(site.poll(known, wait_s=60))
    await site.called("poll")
    site.cut("The cable is out")
    with pytest.raises(Unreachable, match="cable"):
        await waiting
    assert site.contact.health is Health.UNREACHABLE
    site.finish(KEY)
    site.mend()
    assert (await site.poll(known)).attempts[KEY].exit_code == 0


async def test_a_failing_query_leaves_every_state_out() -> None:
    site = FakeSite()
    native = await submitted(site)
    site.query_error = "slurm_load_jobs error: Unable to contact slurm controller"
    polled = await site.poll({KEY: Known(native), "9.1-gone": Known("9")})
    assert (polled.attempts, polled.queried, polled.query_error) == ({}, False, site.query_error)


async def test_waiting_ends_with_news_with_time_or_with_the_next_poll() -> None:
    clock = ManualClock()
    site = FakeSite(clock=clock)
    known = {KEY: Known(await submitted(site), 0, "PENDING")}
    for end in (lambda: clock.advance(30), lambda: site.poll(known)):
        waiting = asyncio.create_task(site.poll(known, wait_s=30))
        await clock.settle()
        assert not waiting.done()
        await end()
        assert (await waiting).attempts == {}
    waiting = asyncio.create_task(site.poll(known, wait_s=30))
    await clock.settle()
    site.start(KEY)
    assert (await waiting).attempts[KEY].state == "running"


async def test_kill_with_fence_before_the_start_means_it_never_starts() -> None:
    site = FakeSite()
    native = await submitted(site)
    await site.kill({KEY: Kill(native)}, fence=True)
    with pytest.raises(AssertionError):
        site.start(KEY)
    seen = (await site.poll({KEY: Known(native)})).attempts[KEY]
    assert (seen.state, seen.reason, seen.claimed) == ("ended", Reason.KILLED, False)
    assert await site.kill({"9.9-none": Kill("9")}) == {"9.9-none": None}


async def test_a_reply_may_be_late() -> None:
    site = FakeSite()
    release = site.hold("submit")
    late = asyncio.create_task(submitted(site))
    await site.called("submit")
    await ManualClock.settle()
    assert not late.done()
    assert site.submissions[KEY] == 1
    release()
    await late


async def test_put_goes_on_after_a_cut() -> None:
    site = FakeSite()
    data = b"".join(bytes([n]) * 1000 for n in range(200))
    begun: list[int] = []

    async def source(offset: int):  # type: ignore[no-untyped-def]
        begun.append(offset)
        for at in range(offset, len(data), 1000):
            yield data[at : at + 1000]

    digest = hashlib.sha256(data).hexdigest()
    site.cut_transfer(after=50_000)
    with pytest.raises(Unreachable):
        await site.put(source, "cache/x", size=len(data), digest=digest)
    assert (await site.stat(["cache/x"])) == {"cache/x": None}
    await site.put(source, "cache/x", size=len(data), digest=digest)
    assert begun == [0, 50_000]
    assert site.files["cache/x"] == data
    assert [piece async for piece in site.get("cache/x", offset=199_999)] == [data[-1:]]


async def test_the_clock_wakes_sleepers_in_order_and_only_by_hand() -> None:
    clock, woken = ManualClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    tasks = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2)]
    before = clock.now()
    await clock.advance(2.5)
    assert woken == [(1, 1.0), (2, 2.0)]
    clock.jump(-3600)
    await clock.advance(0.5)
    assert woken[-1] == (3, 3.0)
    assert (before - clock.now()).total_seconds() == 3597
    await asyncio.gather(*tasks)
