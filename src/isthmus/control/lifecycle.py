"""What reports and a batch system's words mean for an attempt. Pure: news in, consequences out.

    reports (JSON lines) ─┐
                          ├─► judge(standing, seen) ─► Verdict: the new state, what to keep, or "ask again"
    native state ─────────┘

The runner's last report decides how a command ended. The batch system decides where there is no such report, and
who ended it where a signal did. Neither is believed to be the end by its silence.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from isthmus.domain.jobs import Retry
from isthmus.domain.reasons import Reason
from isthmus.domain.states import AttemptState

# A final report may come later than the batch system's word: shared file systems cache, nodes flush.
ENDED_PATIENCE_S = 5.0
# Asked and answered that it is nowhere: believed when it is still so after this long.
GONE_PATIENCE_S = 10.0
# Between two attempts.
LONGEST_DELAY_S = 600.0
# Reasons of the runner that the batch system may know better: it only saw a signal.
_OUTSIDE = frozenset({Reason.KILLED, Reason.SIGNAL})


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a live attempt before the news."""

    state: AttemptState
    reports: int = 0  # offset of the next report wanted
    kill_requested: bool = False
    collects: bool = False  # the job declares outputs
    asks_batch: bool = True  # a batch system stands behind the site that may know who sent a signal
    native_state: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    step: float | None
    at: float
    value: float


@dataclass(slots=True)
class Verdict:
    """What follows. ``state`` None: it stays as it is. ``doubt``: it seems to have ended; ask again."""

    state: AttemptState | None = None
    reason: Reason = Reason.NONE
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    nodes: str = ""
    native_state: str = ""
    reports: int = 0  # the offset to keep: before a final report until that is judged
    metrics: list[Metric] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    log_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    waiting: str = ""  # why the site's queue holds it, in a sentence
    bad_lines: int = 0
    doubt: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What the batch system says: the part of the site's news that is not reports."""

    state: str = ""  # pending, running, ended, gone, unknown; "" when it was not asked or did not answer
    native_state: str = ""
    reason: Reason = Reason.NONE
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    nodes: tuple[str, ...] = ()
    claimed: bool = True  # a runner has taken the attempt; if not, no report will come after its end


def judge(
    standing: Standing, said: Said, begin: int, reports: bytes, now: float, doubted_s: float | None = None
) -> Verdict:
    """The consequences of news.

    ``begin`` is the offset of the first byte of ``reports``; what is known already is skipped, and a gap makes
    all of it ignored. ``doubted_s`` says for how long the attempt has seemed ended without a final report.
    """
    verdict = Verdict(reports=standing.reports)
    verdict.native_state = said.native_state or standing.native_state
    if said.state == "pending":
        verdict.waiting = said.message
    if said.nodes:
        verdict.nodes = ",".join(said.nodes)
    final = _read(verdict, standing, begin, reports)
    if final is not None:
        offset, report = final
        _finish(verdict, standing, said, report, doubted_s)
        if verdict.state is not None and verdict.state.rank >= AttemptState.COLLECTING.rank:
            verdict.reports = offset
        return verdict
    _native(verdict, standing, said, now, doubted_s)
    return verdict


def _read(verdict: Verdict, standing: Standing, begin: int, reports: bytes) -> tuple[int, dict[str, Any]] | None:
    """Take in all reports; answer with the final one and the offset after it, if it is there."""
    if begin > standing.reports:
        return None
    for offset, line in _lines(begin, reports):
        if offset < standing.reports:
            continue
        end = offset + len(line)
        try:
            report = json.loads(line)
            kind = report["kind"]
            at = float(report["t"])
        except (ValueError, KeyError, TypeError):
            verdict.bad_lines += 1
            verdict.reports = end
            continue
        if kind == "finished":
            verdict.reports = offset
            return end, report
        _take(verdict, kind, at, report)
        verdict.reports = end
    if verdict.started_at is not None and standing.state.rank < AttemptState.RUNNING.rank:
        verdict.state = AttemptState.RUNNING
    return None


def _lines(begin: int, reports: bytes) -> Iterator[tuple[int, bytes]]:
    offset = begin
    for line in reports.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return  # the rest is still on its way
        yield offset, line
        offset += len(line)


def _take(verdict: Verdict, kind: str, at: float, report: dict[str, Any]) -> None:
    if kind == "started":
        verdict.started_at = at
        verdict.nodes = str(report.get("node", "")) or verdict.nodes
        verdict.facts = {key: report[key] for key in ("engines", "reaches_api") if key in report}
    elif kind == "metrics":
        step = _finite(report.get("step"))
        for name, value in (report.get("values") or {}).items():
            number = _finite(value)
            if number is not None and not str(name).startswith("system/"):  # those names are the runner's own
                verdict.metrics.append(Metric(str(name)[:200], step, at, number))
    elif kind == "progress":
        verdict.progress = {key: report[key] for key in ("done", "total", "message") if report.get(key) is not None}
    elif kind == "usage":
        verdict.metrics.extend(_measured(at, report))
        verdict.usage.update({key: value for key, value in report.items() if key not in ("kind", "t", "log_bytes")})
        verdict.log_bytes = report.get("log_bytes", verdict.log_bytes)


def _measured(at: float, report: dict[str, Any]) -> Iterator[Metric]:
    """What the runner measured, as series of their own: `cpu_s` grows, its slope is the number of cores in use."""
    for name in ("cpu_s", "mem_bytes"):
        number = _finite(report.get(name))
        if number is not None:
            yield Metric(f"system/{name}", None, at, number)
    gpus = report.get("gpu")
    for index, gpu in enumerate(gpus if isinstance(gpus, list) else []):
        for name in ("util", "mem_bytes"):
            number = _finite(gpu.get(name)) if isinstance(gpu, dict) else None
            if number is not None:
                yield Metric(f"system/gpu{index}_{name}", None, at, number)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _finish(verdict: Verdict, standing: Standing, said: Said, report: dict[str, Any], doubted_s: float | None) -> None:
    """The final report is there: how did the command end, and who ended it?"""
    reason = _reason(report.get("reason", ""))
    verdict.exit_code = report.get("exit_code")
    verdict.signal = report.get("signal")
    verdict.message = str(report.get("message", ""))
    for key in ("wall_s", "cpu_s", "peak_mem_bytes"):
        if report.get(key) is not None:
            verdict.usage[key] = report[key]
    verdict.log_bytes = report.get("log_bytes", verdict.log_bytes)
    if verdict.exit_code == 0 and reason is Reason.NONE:
        verdict.outputs = list(report.get("outputs") or [])
        verdict.state = AttemptState.COLLECTING if standing.collects else AttemptState.COMPLETED
    elif standing.kill_requested and reason in _OUTSIDE:
        verdict.state, reason = AttemptState.KILLED, Reason.KILLED
    elif reason in _OUTSIDE and standing.asks_batch:
        if said.state in ("ended", "gone"):
            outside = said.reason if said.reason not in (Reason.NONE, Reason.EXIT_CODE, Reason.SIGNAL) else reason
            verdict.message = said.message or verdict.message
            verdict.state = AttemptState.KILLED if outside is Reason.KILLED else AttemptState.FAILED
            reason = outside
        elif doubted_s is not None and doubted_s > GONE_PATIENCE_S:
            verdict.state = AttemptState.KILLED if reason is Reason.KILLED else AttemptState.FAILED
        else:
            verdict.doubt = True
            if standing.state.rank < AttemptState.RUNNING.rank:
                verdict.state = AttemptState.RUNNING
            return
    else:
        verdict.state = AttemptState.KILLED if reason is Reason.KILLED else AttemptState.FAILED
        reason = reason or (Reason.SIGNAL if verdict.signal else Reason.EXIT_CODE)
    verdict.reason = reason
    verdict.ended_at = float(report["t"])


def _native(verdict: Verdict, standing: Standing, said: Said, now: float, doubted_s: float | None) -> None:
    """No final report: what does the batch system say?"""
    if said.state == "running" and standing.state.rank < AttemptState.RUNNING.rank:
        # It has a node; the runner's own report says when the command runs.
        return
    if said.state not in ("ended", "gone"):
        return
    patience = ENDED_PATIENCE_S if said.state == "ended" else GONE_PATIENCE_S
    certain = standing.kill_requested and not said.claimed
    if not certain and (doubted_s is None or doubted_s < patience):
        verdict.doubt = True
        return
    verdict.message = said.message
    verdict.exit_code, verdict.signal = said.exit_code, said.signal
    verdict.ended_at = now
    if standing.kill_requested:
        verdict.state, verdict.reason = AttemptState.KILLED, Reason.KILLED
    elif said.state == "gone" or said.reason in (Reason.NONE, Reason.LOST, Reason.EXIT_CODE, Reason.SIGNAL):
        verdict.state, verdict.reason = AttemptState.LOST, Reason.LOST
        verdict.message = said.message or (
            "The batch system says that it ended, and its runner left no result."
            if said.state == "ended"
            else "The site knows it neither in its queue nor among the jobs that ended."
        )
    else:
        verdict.state, verdict.reason = AttemptState.FAILED, said.reason
        if said.reason is Reason.KILLED:
            verdict.state = AttemptState.KILLED


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        return Reason.UNKNOWN


@dataclass(frozen=True, slots=True)
class Again:
    """Try the job once more: not before ``delay_s`` from now, with this memory (bytes; 0: as the spec says)."""

    delay_s: float
    mem_bytes: int


def follow_up(retry: Retry, reason: Reason, number: int, mem_bytes: int) -> Again | None:
    """Whether an attempt that ended so is followed by another. ``number`` counts from 1, the one that ended."""
    asked = reason in retry.on
    if number >= retry.attempts or not (asked or (retry.infrastructure and reason.infrastructure)):
        return None
    base = float(retry.delay) or (5.0 if reason.infrastructure and reason is not Reason.PREEMPTED else 0.0)
    delay = min(base * 2 ** (number - 1), LONGEST_DELAY_S)
    grown = int(mem_bytes * retry.mem_factor) if reason is Reason.OOM else mem_bytes
    return Again(delay, grown)
