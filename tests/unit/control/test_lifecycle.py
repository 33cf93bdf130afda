"""What news mean: duplicates, gaps, late and lost reports, and who ended a command."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.control.lifecycle import GONE_PATIENCE_S, Said, Standing, follow_up, judge
from isthmus.domain.jobs import Retry
from isthmus.domain.reasons import Reason
from isthmus.domain.states import AttemptState

NOW = 1000.0


def lines(*reports: dict[str, object]) -> bytes:
    return b"".join(json.dumps({"t": 1.0, **report}).encode() + b"\n" for report in reports)


STARTED = {"kind": "started", "node": "n1", "pid": 7}
DONE = {"kind": "finished", "exit_code": 0, "signal": None, "reason": ""}


def failed(reason: str, **more: object) -> dict[str, object]:
    return {"kind": "finished", "exit_code": None, "signal": None, "reason": reason, **more}


def test_a_normal_journey() -> None:
    said = Said(state="running", native_state="RUNNING")
    first = judge(Standing(AttemptState.SUBMITTED), said, 0, lines(STARTED), NOW)
    assert first.state is AttemptState.RUNNING
    assert (first.started_at, first.nodes) == (1.0, "n1")
    rest = lines({"kind": "metrics", "values": {"loss": 0.5, "bad": "x", "inf": float("inf")}, "step": 3}, DONE)
    last = judge(Standing(AttemptState.RUNNING, reports=first.reports), Said(), first.reports, rest, NOW)
    assert last.state is AttemptState.COMPLETED
    assert [(one.name, one.step, one.value) for one in last.metrics] == [("loss", 3.0, 0.5)]
    assert last.reports == first.reports + len(rest)


def test_declared_outputs_are_collected_before_it_is_complete() -> None:
    found = {**DONE, "outputs": [{"path": "m.bin", "size": 1, "digest": "sha256:0", "kind": "file"}]}
    verdict = judge(Standing(AttemptState.RUNNING, collects=True), Said(), 0, lines(STARTED, found), NOW)
    assert verdict.state is AttemptState.COLLECTING
    assert verdict.outputs[0]["path"] == "m.bin"


@given(st.integers(0, 400), st.integers(0, 400))
def test_whatever_is_sent_again_counts_once(known: int, begin: int) -> None:
    reports = [{"kind": "metrics", "values": {"loss": float(number)}} for number in range(5)]
    text = lines(*reports)
    bounds = [len(lines(*reports[:number])) for number in range(6)]
    known = max(bound for bound in bounds if bound <= known)
    begin = max(bound for bound in bounds if bound <= begin)
    verdict = judge(Standing(AttemptState.RUNNING, reports=known), Said(), begin, text[begin:], NOW)
    expected = [] if begin > known else [float(n) for n in range(bounds.index(known), 5)]
    assert [one.value for one in verdict.metrics] == expected
    assert verdict.reports == (known if begin > known else len(text))


def test_half_a_line_waits_for_its_other_half() -> None:
    text = lines(STARTED, {"kind": "progress", "done": 1})
    verdict = judge(Standing(AttemptState.SUBMITTED), Said(), 0, text[:-5], NOW)
    assert verdict.reports == len(lines(STARTED))
    assert verdict.progress is None


def test_a_garbled_line_is_passed_over_and_counted() -> None:
    verdict = judge(Standing(AttemptState.RUNNING), Said(), 0, b"\x00garbage\n" + lines(DONE), NOW)
    assert (verdict.bad_lines, verdict.state) == (1, AttemptState.COMPLETED)


@pytest.mark.parametrize("state", ["", "pending", "running", "unknown"])
def test_silence_is_never_an_end(state: str) -> None:
    verdict = judge(Standing(AttemptState.RUNNING), Said(state=state), 0, b"", NOW, doubted_s=9999.0)
    assert verdict.state is None
    assert not verdict.doubt


@pytest.mark.parametrize("state", ["ended", "gone"])
def test_an_end_without_a_result_is_doubted_before_it_is_lost(state: str) -> None:
    standing = Standing(AttemptState.RUNNING)
    fresh = judge(standing, Said(state=state), 0, b"", NOW)
    assert fresh.doubt
    assert fresh.state is None
    sure = judge(standing, Said(state=state), 0, b"", NOW, doubted_s=GONE_PATIENCE_S)
    assert (sure.state, sure.reason) == (AttemptState.LOST, Reason.LOST)
    late = judge(standing, Said(state=state), 0, lines(DONE), NOW, doubted_s=2.0)
    assert late.state is AttemptState.COMPLETED


@pytest.mark.parametrize("reason", [Reason.OOM, Reason.TIMEOUT, Reason.NODE_FAIL, Reason.PREEMPTED])
def test_the_batch_system_says_what_a_signal_meant(reason: Reason) -> None:
    standing = Standing(AttemptState.RUNNING)
    killed = lines(STARTED, failed("SIGNAL", signal=9))
    unsure = judge(standing, Said(state="running"), 0, killed, NOW)
    assert unsure.doubt
    assert unsure.reports == len(lines(STARTED)), "the final report stays unread until it is judged"
    verdict = judge(standing, Said(state="ended", reason=reason, message="native words"), 0, killed, NOW)
    assert (verdict.state, verdict.reason, verdict.message) == (AttemptState.FAILED, reason, "native words")


def test_without_a_batch_system_a_signal_is_a_signal() -> None:
    standing = Standing(AttemptState.RUNNING, asks_batch=False)
    verdict = judge(standing, Said(), 0, lines(failed("SIGNAL", signal=11)), NOW)
    assert (verdict.state, verdict.reason, verdict.signal) == (AttemptState.FAILED, Reason.SIGNAL, 11)


def test_what_was_asked_to_end_is_killed() -> None:
    standing = Standing(AttemptState.RUNNING, kill_requested=True)
    verdict = judge(standing, Said(), 0, lines(failed("KILLED", signal=15)), NOW)
    assert (verdict.state, verdict.reason) == (AttemptState.KILLED, Reason.KILLED)
    done_anyway = judge(standing, Said(), 0, lines(DONE), NOW)
    assert done_anyway.state is AttemptState.COMPLETED


def test_a_pending_job_that_was_cancelled_is_killed_at_once() -> None:
    standing = Standing(AttemptState.SUBMITTED, kill_requested=True)
    verdict = judge(standing, Said(state="ended", native_state="CANCELLED", claimed=False), 0, b"", NOW)
    assert verdict.state is AttemptState.KILLED


def test_the_users_own_failure_is_theirs() -> None:
    verdict = judge(Standing(AttemptState.RUNNING), Said(), 0, lines(failed("EXIT_CODE", exit_code=3)), NOW)
    assert (verdict.state, verdict.reason, verdict.exit_code) == (AttemptState.FAILED, Reason.EXIT_CODE, 3)


def test_retries_by_reason() -> None:
    policy = Retry(attempts=3, on=(Reason.OOM,), mem_factor=1.5)
    assert follow_up(policy, Reason.EXIT_CODE, 1, 100) is None
    assert follow_up(policy, Reason.TIMEOUT, 1, 100) is None
    again = follow_up(policy, Reason.OOM, 1, 100)
    assert again is not None
    assert again.mem_bytes == 150
    lost = follow_up(policy, Reason.LOST, 2, 100)
    assert lost is not None
    assert lost.delay_s > follow_up(policy, Reason.LOST, 1, 100).delay_s
    assert follow_up(policy, Reason.LOST, 3, 100) is None
    assert follow_up(Retry(infrastructure=False), Reason.LOST, 1, 100) is None
