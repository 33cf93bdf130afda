"""A worker drives all live attempts of one user at one site: submits, watches, ends, collects.

    supervisor ──take()──► inbox ─► stage ─► submit ─► watch ─► record ─► collect ─► ended()
                                              ▲          │
                                  one call for all       one call for all

Everything it asks of the site is idempotent by the attempt's key, and everything it learns is recorded before it
is acted on; so it may be stopped at any instruction and another goes on from the database.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from isthmus.control.lifecycle import Said, Standing, Verdict, judge
from isthmus.control.live import Live, read_spec
from isthmus.control.recording import Record
from isthmus.db import attempts as attempt_rows
from isthmus.domain.clock import Clock
from isthmus.domain.errors import BadReply, IsthmusError, Refused, SiteError, Unreachable
from isthmus.domain.reasons import Reason
from isthmus.domain.states import AttemptState
from isthmus.sites.base import Kill, Known, Polled, Seen, Site, Submission, Submitted

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 256  # submissions in one call
WATCH_S = 30.0  # a poll waits this long for news
NOTE_S = 0.02  # a submission is written down this late, with the news that often come by then
CROWD = 8  # live attempts from which on what happens within a moment is written down at once
NOTE_MANY_S = 0.2
DOUBT_S = 1.0  # between questions about an attempt that seems to have ended
RETRY_S = (0.5, 60.0)  # back-off after the site failed: first, longest


class Desk(Protocol):
    """What a worker needs of the supervisor."""

    clock: Clock

    async def record(self, fn: Callable[[Connection], T]) -> T:
        """Write in a transaction that only the leading supervisor can commit."""
        ...

    async def prepare(self, live: Live, site: Site) -> Submission:
        """Bring image and data there and build the submission. Raises IsthmusError."""
        ...

    async def collect(self, live: Live, site: Site) -> str:
        """Check and bring home the outputs; why it failed, or "". Raises SiteError to be called again."""
        ...

    async def keep_log(self, live: Live, site: Site) -> None:
        """Bring home the log of an attempt that ended. Raises SiteError."""
        ...

    def learned(self, live: Live, facts: Mapping[str, object]) -> None:
        """A runner told something about the site's nodes."""
        ...

    def moved(self, live: Live, before: AttemptState) -> None:
        """An attempt changed its state."""
        ...

    def health(self, worker: "Worker", failure: IsthmusError | None, others: int | None) -> None:
        """The site answered, or did not."""
        ...


class Worker:
    """See the module. ``run`` works until cancelled; the other methods are called from the same loop."""

    def __init__(self, name: str, site_id: int, user_id: int, site: Site, desk: Desk, *, asks_batch: bool) -> None:
        self.name = name
        self.site_id = site_id
        self.user_id = user_id
        self.site = site
        self.live: dict[str, Live] = {}
        self._desk = desk
        self._asks_batch = asks_batch
        self._inbox: asyncio.Queue[Live] = asyncio.Queue()
        self._ready: asyncio.Queue[tuple[Live, Submission]] = asyncio.Queue()
        self._watch = asyncio.Event()
        self._kills = asyncio.Event()
        self._collecting: asyncio.Queue[Live] = asyncio.Queue()
        self._failures = 0
        self._troubles: dict[str, str] = {}
        self._recording = asyncio.Lock()
        self._unnoted: dict[str, Live] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def trouble(self) -> str:
        """What does not work at the site though it answers: a full disk, a scheduler that is down. "" if all does."""
        return "; ".join(dict.fromkeys(self._troubles.values()))

    def take(self, live: Live) -> None:
        """Drive this attempt from where it is."""
        self.live[live.key] = live
        if live.state is AttemptState.COLLECTING:
            self._collecting.put_nowait(live)
        elif live.native_id and live.state.rank >= AttemptState.SUBMITTED.rank:
            self._watch.set()
        else:
            self._inbox.put_nowait(live)
        if live.kill_requested:
            self._kills.set()

    def kill(self, live: Live) -> None:
        """End this attempt as soon as the site can be told."""
        live.kill_requested = True
        self._kills.set()

    def over(self, live: Live, state: AttemptState) -> None:
        """This attempt has ended by what its runner pushed: nothing is to be done for it any more."""
        self._moved(live, state)

    async def ask(self) -> None:
        """Ask the site though nothing of ours is there: does it answer, and how many other jobs has it?"""
        try:
            polled = await self.site.poll({})
        except SiteError as error:
            self._failed("poll", error)
        else:
            self._answered("poll", others=polled.others if polled.queried else None)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._prepare_all(group))
            group.create_task(self._submit_all(group))
            group.create_task(self._watch_all())
            group.create_task(self._kill_all())
            group.create_task(self._collect_all(group))

    # ---- from the inbox to the batch system

    async def _prepare_all(self, group: asyncio.TaskGroup) -> None:
        while True:
            live = await self._inbox.get()
            if live.need.digests or live.spec.image:
                group.create_task(self._prepare(live))
            else:
                await self._prepare(live)

    async def _prepare(self, live: Live) -> None:
        while live.key in self.live:
            if live.kill_requested and not live.native_id and live.state is AttemptState.CREATED:
                # Another process may have submitted it before a crash: a fence makes sure that it never starts.
                if await self._fence(live):
                    await self._give_up(live, AttemptState.KILLED, Reason.KILLED, "")
                    return
            else:
                try:
                    submission = await self._desk.prepare(live, self.site)
                except SiteError as error:
                    if not error.transient:
                        await self._give_up(live, AttemptState.FAILED, _stage_reason(error), str(error))
                        return
                    self._failed("stage", error)
                    await self._note_waiting({live: error.message})
                except IsthmusError as error:
                    await self._give_up(live, AttemptState.FAILED, _stage_reason(error), str(error))
                    return
                else:
                    self._mended("stage")
                    self._ready.put_nowait((live, submission))
                    return
            live.tries += 1
            await self._back_off(live.tries)

    async def _submit_all(self, group: asyncio.TaskGroup) -> None:
        while True:
            batch = [await self._ready.get()]
            while not self._ready.empty() and len(batch) < BATCH:
                batch.append(self._ready.get_nowait())
            again = await self._submit(batch)
            if again:
                group.create_task(self._submit_again(again))

    async def _submit_again(self, batch: list[tuple[Live, Submission]]) -> None:
        """Submit after a while what was not taken, or end it if somebody wants that; others need not wait for it."""
        for live, _ in batch:
            live.tries += 1
        await self._back_off(max(live.tries for live, _ in batch))
        for live, submission in batch:
            if live.kill_requested:
                self._inbox.put_nowait(live)
            else:
                self._ready.put_nowait((live, submission))

    async def _submit(self, batch: list[tuple[Live, Submission]]) -> list[tuple[Live, Submission]]:
        """Submit; what is to be submitted again is returned."""
        try:
            results = await self.site.submit([submission for _, submission in batch])
        except SiteError as error:
            # Whether the batch system has them is unknown: the same keys again are the same attempts.
            if error.transient:
                self._failed("submit", error)
                await self._note_waiting({live: error.message for live, _ in batch})
                return batch
            results = {live.key: error for live, _ in batch}
        again: dict[Live, str] = {}
        taken: list[Live] = []
        refused: list[tuple[Live, IsthmusError]] = []
        for live, _ in batch:
            answer = results.get(live.key)
            if isinstance(answer, Submitted):
                live.native_id = answer.native_id
                taken.append(live)
            elif answer is None:
                again[live] = ""
            elif answer.transient:
                again[live] = answer.message
                self._failed("submit", answer)
            else:
                refused.append((live, answer))
        self._answered(*([] if again else ["submit"]))
        if taken:
            self._watch.set()
            if any(live.kill_requested for live in taken):
                self._kills.set()
            self._unnoted.update({live.key: live for live in taken})
            assert self._group is not None
            self._group.create_task(self._note_submitted())
        for live, refusal in refused:
            reason = Reason.DISK_FULL if refusal.code == "disk-full" else Reason.SUBMIT
            state = AttemptState.KILLED if live.kill_requested else AttemptState.FAILED
            await self._give_up(live, state, reason, str(refusal))
        await self._note_waiting(again)
        return [(live, submission) for live, submission in batch if live in again]

    async def _note_waiting(self, why: Mapping[Live, str]) -> None:
        """Write down why attempts are not at the site yet, where that is news."""
        told = [live for live, text in why.items() if text != live.waits_for]
        if not told:
            return

        def record(conn: Connection) -> None:
            rows = attempt_rows.by_keys(conn, [live.key for live in told])
            unit = Record(conn, self._desk.clock.now().timestamp())
            for live in told:
                row = rows.get(live.key)
                if row is not None and row.live:
                    unit.waiting(row, why[live])
            unit.flush()

        async with self._recording:
            await self._desk.record(record)
        for live in told:
            live.waits_for = why[live]

    async def _note_submitted(self) -> None:
        """Write down what the batch system has taken, unless news of it were quicker.

        A crash before that loses nothing: the same key is submitted again, and found there.
        """
        await self._desk.clock.sleep(NOTE_S if len(self.live) <= CROWD else NOTE_MANY_S)
        async with self._recording:
            if not self._unnoted:
                return
            taken = list(self._unnoted.values())
            now = self._desk.clock.now().timestamp()

            def record(conn: Connection) -> None:
                rows = attempt_rows.by_keys(conn, [live.key for live in taken])
                unit = Record(conn, now)
                for live in taken:
                    row = rows.get(live.key)
                    if row is not None and row.live:
                        unit.submitted(row, live.native_id)
                unit.flush()

            await self._desk.record(record)
            for live in taken:
                self._unnoted.pop(live.key, None)
                self._moved(live, AttemptState.SUBMITTED)

    # ---- watching

    async def _watch_all(self) -> None:
        """Ask again when an answer has come, and at once when there is more to ask about: that ends the first wait."""
        polls: set[asyncio.Task[None]] = set()
        try:
            while True:
                async with self._recording:  # news that is being written down is not asked for again
                    self._watch.clear()
                    if any(map(_asked_about, self.live.values())):
                        polls.add(asyncio.create_task(self._poll()))
                more = asyncio.create_task(self._watch.wait())
                while not more.done():
                    done, _ = await asyncio.wait({*polls, more}, return_when=asyncio.FIRST_COMPLETED)
                    for task in done & polls:
                        polls.discard(task)
                        task.result()
                    if done and not polls:
                        break
                more.cancel()
                if len(polls) > 4:
                    await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in polls:
                task.cancel()

    async def _poll(self) -> None:
        """Ask once, waiting for news, and record them."""
        doubted = [live for live in self.live.values() if live.doubted_since is not None]
        known = {
            live.key: Known(live.native_id, live.reports, "" if live.doubted_since is not None else live.native_state)
            for live in filter(_asked_about, self.live.values())
        }
        if not known:
            return
        try:
            polled = await self.site.poll(known, wait_s=WATCH_S)
        except SiteError as error:
            self._failed("poll", error)
            await self._back_off(self._failures)
            return
        if polled.query_error:
            self._troubles["query"] = polled.query_error
        self._answered("poll", *(["query"] if polled.queried else []), others=polled.others)
        if polled.attempts:
            async with self._recording:
                await self._apply(polled)
        if doubted or any(live.doubted_since is not None for live in self.live.values()):
            await self._desk.clock.sleep(DOUBT_S)

    async def _apply(self, polled: Polled) -> None:
        now = self._desk.clock.now().timestamp()
        monotonic = self._desk.clock.monotonic()
        news = {key: seen for key, seen in polled.attempts.items() if key in self.live}
        lost = await self._fence_lost(news, now, monotonic)
        news = {key: seen for key, seen in news.items() if key not in lost}
        if not news:
            return
        lives = {key: self.live[key] for key in news if key in self.live}  # one may end meanwhile: see `over`

        def record(conn: Connection) -> dict[str, Verdict]:
            rows = attempt_rows.by_keys(conn, list(news))
            unit = Record(conn, now)
            verdicts: dict[str, Verdict] = {}
            for key, live in lives.items():
                row = rows.get(key)
                if row is None or not row.live:
                    verdicts[key] = Verdict(state=AttemptState(row.state) if row is not None else AttemptState.LOST)
                    continue
                spec = read_spec(row.job_spec)
                verdict = self._judge(row, live, bool(spec.outputs), news[key], now, monotonic)
                unit.verdict(row, verdict, spec.retry, native_id=live.native_id)
                if verdict.state is None:
                    verdict.state = AttemptState(row.state)  # it may have been pushed further than this poll tells
                verdicts[key] = verdict
            unit.flush()
            return verdicts

        verdicts = await self._desk.record(record)
        for key, verdict in verdicts.items():
            if verdict.state is not None and verdict.state.rank >= AttemptState.SUBMITTED.rank:
                self._unnoted.pop(key, None)
            self._follow(lives[key], verdict, monotonic)

    def _judge(
        self, row: attempt_rows.AttemptRow, live: Live, collects: bool, seen: Seen, now: float, monotonic: float
    ) -> Verdict:
        standing = Standing(
            state=AttemptState(row.state),
            reports=row.reports,
            kill_requested=bool(row.kill_by) or live.kill_requested,
            collects=collects,
            asks_batch=self._asks_batch,
            native_state=row.native_state,
        )
        doubted_s = None if live.doubted_since is None else monotonic - live.doubted_since
        return judge(standing, _said(seen), seen.offset, seen.reports, now, doubted_s)

    def _follow(self, live: Live, verdict: Verdict, monotonic: float) -> None:
        """Keep in memory what was recorded."""
        live.reports = max(live.reports, verdict.reports)
        live.native_state = verdict.native_state or live.native_state
        live.log_bytes = verdict.log_bytes or live.log_bytes
        if verdict.facts:
            self._desk.learned(live, verdict.facts)
        if verdict.doubt:
            if live.doubted_since is None:
                live.doubted_since = monotonic
        else:
            live.doubted_since = None
        if verdict.state is not None:
            self._moved(live, verdict.state)

    async def _fence_lost(self, news: Mapping[str, Seen], now: float, monotonic: float) -> set[str]:
        """Before an attempt is called lost, or ended without a runner, the site is told that it must never start.

        An administrator may put it back into the queue. Those that the site can't be told of now wait.
        """
        suspects = []
        for key, seen in news.items():
            live = self.live[key]
            standing = Standing(
                state=live.state,
                reports=live.reports,
                kill_requested=live.kill_requested,
                asks_batch=self._asks_batch,
                native_state=live.native_state,
            )
            doubted_s = None if live.doubted_since is None else monotonic - live.doubted_since
            verdict = judge(standing, _said(seen), seen.offset, seen.reports, now, doubted_s)
            ended = verdict.state is not None and verdict.state.ended
            if verdict.state is AttemptState.LOST or (ended and not seen.claimed):
                suspects.append(live)
        unfenced: set[str] = set()
        for live in suspects:
            if not await self._fence(live):
                unfenced.add(live.key)
        return unfenced

    # ---- ending

    async def _kill_all(self) -> None:
        while True:
            await self._kills.wait()
            self._kills.clear()
            wanted = [
                live for live in self.live.values() if live.kill_requested and not live.kill_sent and live.native_id
            ]
            if not wanted:
                self._mended("kill")
                continue
            kills = {live.key: Kill(live.native_id, float(live.spec.grace)) for live in wanted}
            try:
                answers = await self.site.kill(kills, fence=True)
            except SiteError as error:
                self._failed("kill", error)
                await self._back_off(self._failures)
                self._kills.set()
                continue
            self._answered("kill")
            for live in wanted:
                failure = answers.get(live.key)
                if failure is None:
                    live.kill_sent = True
                else:
                    log.warning("%s: %s was not killed: %s", self.name, live.key, failure)
            if any(not live.kill_sent for live in wanted):
                await self._back_off(1)
                self._kills.set()
            self._watch.set()

    async def _fence(self, live: Live) -> bool:
        try:
            answers = await self.site.kill({live.key: Kill(live.native_id, 0.0)}, fence=True)
        except SiteError as error:
            self._failed("kill", error)
            return False
        return answers.get(live.key) is None

    async def _give_up(self, live: Live, state: AttemptState, reason: Reason, message: str) -> None:
        now = self._desk.clock.now().timestamp()

        def record(conn: Connection) -> None:
            row = attempt_rows.by_keys(conn, [live.key]).get(live.key)
            if row is None or not row.live:
                return
            unit = Record(conn, now)
            unit.give_up(row, state, reason, message, live.spec.retry)
            unit.flush()

        async with self._recording:
            await self._desk.record(record)
            self._moved(live, state)

    # ---- outputs

    async def _collect_all(self, group: asyncio.TaskGroup) -> None:
        while True:
            live = await self._collecting.get()
            group.create_task(self._collect(live))

    async def _collect(self, live: Live) -> None:
        tries = 0
        while live.key in self.live:
            try:
                failure = await self._desk.collect(live, self.site)
                break
            except SiteError as error:
                if not error.transient:
                    failure = str(error)
                    break
                self._failed("collect", error)
            except IsthmusError as error:
                failure = str(error)
                break
            tries += 1
            await self._back_off(tries)
        else:
            return
        self._mended("collect")
        now = self._desk.clock.now().timestamp()

        def record(conn: Connection) -> None:
            row = attempt_rows.by_keys(conn, [live.key]).get(live.key)
            if row is not None and row.live:
                unit = Record(conn, now)
                unit.collected(row, failure, live.spec.retry)
                unit.flush()

        async with self._recording:
            await self._desk.record(record)
            self._moved(live, AttemptState.FAILED if failure else AttemptState.COMPLETED)

    async def _keep_log(self, live: Live) -> None:
        try:
            await self._desk.keep_log(live, self.site)
        except SiteError as error:  # it stays readable at the site until its folder is cleaned
            log.info("%s: the log of %s was not brought home: %s", self.name, live.key, error)

    # ---- bookkeeping

    def _moved(self, live: Live, state: AttemptState) -> None:
        before = live.state
        if state.rank <= before.rank and not (state.ended and not before.ended):
            return
        live.state = state
        if state is AttemptState.COLLECTING:
            self._collecting.put_nowait(live)
        if state.ended:
            self.live.pop(live.key, None)
            if live.log_bytes and self._group is not None:
                self._group.create_task(self._keep_log(live))
        if not self.live:  # nobody would find out when it is mended
            self._mended(*self._troubles)
        self._desk.moved(live, before)

    def _answered(self, *verbs: str, others: int | None = None) -> None:
        """The site answered; what is done by these verbs works."""
        for verb in verbs:
            self._troubles.pop(verb, None)
        if self._failures:
            self._failures = 0
            self._watch.set()
            self._kills.set()
        self._desk.health(self, None, others)

    def _mended(self, *verbs: str) -> None:
        """What is done by these verbs does not fail any more."""
        mended = [verb for verb in verbs if self._troubles.pop(verb, None)]
        if mended and not self._failures:
            self._desk.health(self, None, None)

    def _failed(self, verb: str, error: IsthmusError) -> None:
        if isinstance(error, Unreachable | BadReply):
            self._failures += 1
            self._desk.health(self, error, None)
        else:  # the site is there, and something at it does not work
            self._troubles[verb] = str(error)
            self._desk.health(self, None, None)

    async def _back_off(self, failures: int) -> None:
        first, longest = RETRY_S
        await self._desk.clock.sleep(min(longest, first * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0))


def _asked_about(live: Live) -> bool:
    """Whether the site has news of it: it is there, and has not ended yet."""
    return bool(live.native_id) and live.state.rank < AttemptState.COLLECTING.rank


def _said(seen: Seen) -> Said:
    return Said(
        state=seen.state,
        native_state=seen.native_state,
        reason=seen.reason,
        message=seen.message,
        exit_code=seen.exit_code,
        signal=seen.signal,
        nodes=seen.nodes,
        claimed=seen.claimed,
    )


def _stage_reason(error: IsthmusError) -> Reason:
    if error.code == "disk-full":
        return Reason.DISK_FULL
    return Reason.SUBMIT if isinstance(error, Refused) and error.code == "batch-refused" else Reason.STAGE


def busy(workers: Iterable[Worker]) -> int:
    """How many live attempts these workers have."""
    return sum(len(worker.live) for worker in workers)
