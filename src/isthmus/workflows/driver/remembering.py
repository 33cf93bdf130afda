"""Places that remember: what a run has done is not done again, and what an earlier run did of the same content neither.

A file that a step made and that has gone since is made again, by running just the steps that lead to it.
"""

import asyncio
import copy
import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from typing import Any

from isthmus.workflows.dataflow.machine import Start
from isthmus.workflows.driver.book import Book, Entry
from isthmus.workflows.driver.drive import Performed, Places
from isthmus.workflows.driver.results import Results, intact, located
from isthmus.workflows.locations import path_of
from isthmus.workflows.program import Program, Run
from isthmus.workflows.work import InputsGone, StepFailed

MOST_MENDS = 3  # of one task: what goes again and again is for a person to look into
FLUSH_S = 0.1  # what is told waits this long for more, and is then written down


@dataclass(slots=True)
class _Known:
    """A task of this run: how to do it again, and by what it is known."""

    start: Start
    key: str
    parts: dict[str, Any]
    queued: float


class Remembering:
    """Wraps places. ``reuse``: results of other runs may stand for a task."""

    def __init__(
        self,
        inner: Places,
        program: Program,
        book: Book,
        results: Results,
        *,
        run: str,
        reuse: bool = True,
        plane: str = "",
        keys: dict[str, str] | None = None,
    ) -> None:
        self._inner = inner
        self._program = program
        self._book = book
        self._results = results
        self._run = run
        self._reuse = reuse
        self._plane = plane
        self._keys = keys if keys is not None else {}
        self._earlier = {entry.task: entry for entry in book.entries()}
        self._known: dict[str, _Known] = {}
        self._makers: dict[str, str] = {}  # the folder of a step -> its task
        self._repairs: dict[str, asyncio.Task[None]] = {}
        self._moved: dict[str, str] = {}  # what was left by one job, and made again by another
        self._flushing: asyncio.TimerHandle | None = None

    def lane(self, start: Start) -> str:
        """See Places."""
        return self._inner.lane(start)

    def full(self, lane: str) -> bool:
        """See Places."""
        return self._inner.full(lane)

    def far(self, start: Start) -> bool:
        """See Places."""
        return self._inner.far(start)

    def forget(self, task: str) -> None:
        """See Places."""
        self._inner.forget(task)

    async def bring(self, start: Start) -> Start:
        """See Places."""
        start = self._moved_on(start)
        try:
            return await self._inner.bring(start)
        except InputsGone as gone:
            await self._make_again(gone)
            return await self._inner.bring(self._moved_on(start))

    def take(self, task: str, run: Run) -> bool:
        """See Places."""
        return self._inner.take(task, run)

    def recall(self, task: str, start: Start, run: Run) -> dict[str, Any] | None:
        """The outputs of a task that need not be run again."""
        parts = self._program.hidden.value(run.identity(self._results.identity), self._results.mark)
        key = self._results.key(parts)
        self._known[task] = _Known(start, key, parts, time.time())
        self._keys[task] = key
        earlier = self._earlier.get(task)
        if earlier is not None and earlier.finished and earlier.key == key:
            outputs: dict[str, Any] = json.loads(earlier.outputs or "{}")
            # A file that has gone is made again when a step needs it, not before.
            self._made(task, outputs)
            self._results.remember(key, outputs)
            return outputs
        if not self._reuse or not run.reusable:
            return None
        found = self._results.find(key, self._plane)
        if found is None:
            return None
        self._made(task, found.outputs)
        now = time.time()
        self._put(task, Entry(task, "reused", ended=now, reused=found.run, outputs=json.dumps(found.outputs)))
        return found.outputs

    async def perform(self, task: str, start: Start, run: Run) -> Performed:
        """See Places."""
        try:
            await self._mend(start)
            self._put(task, Entry(task, "running", started=time.time()))
            done = await self._perform_mended(task, start, run)
        except StepFailed as error:
            self._put(
                task,
                Entry(
                    task,
                    "failed",
                    ended=time.time(),
                    exit_code=error.exit_code,
                    message=self._program.hidden.text(error.message),
                    log=self._program.hidden.text(error.log),
                ),
            )
            raise
        self._written(task, done)
        return done

    def _written(self, task: str, done: Performed) -> None:
        """What a task made is known from now on."""
        known = self._known[task]
        self._made(task, done.outputs)
        ended = done.ended
        self._put(
            task,
            Entry(
                task,
                "done",
                place=done.place,
                folder=done.folder,
                job=done.job,
                started=done.started,
                ended=time.time(),
                exit_code=ended.exit_code if ended else None,
                wall_s=ended.wall_s if ended else 0.0,
                cpu_s=ended.cpu_s if ended else 0.0,
                peak_mem=ended.peak_mem if ended else 0,
                outputs=json.dumps(done.outputs),
                moved=done.moved,
                cost=done.cost,
            ),
        )
        self._results.put(
            known.key,
            workflow=self._program.name,
            task=task,
            run=self._run,
            parts=known.parts,
            outputs=done.outputs,
        )

    def submitted(self, task: str, job: int, place: str) -> None:
        """A task has become a job: `show` tells it while it runs."""
        self._put(task, Entry(task, "submitted", job=job, place=place, started=time.time()))

    def _put(self, task: str, entry: Entry) -> None:
        known = self._known[task]
        entry.key = known.key
        entry.parts = json.dumps(known.parts)
        entry.queued = known.queued
        self._book.put(entry)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self._book.flush()
        self._results.flush()

    def _made(self, task: str, outputs: Any) -> None:
        for file in located(outputs):
            folder = _folder(str(file["location"]))
            if folder:
                self._makers.setdefault(folder, task)

    # ---- files that have gone

    async def _perform_mended(self, task: str, start: Start, run: Run) -> Performed:
        """Run it, and if files have gone from where jobs left them, have those made and run it again."""
        moved = self._moved_on(start)
        if moved is not start:
            start, run = moved, self._begun(moved)
        for _ in range(MOST_MENDS):
            try:
                return await self._inner.perform(task, start, run)
            except InputsGone as gone:
                await self._make_again(gone)
                start = self._moved_on(start)
                run = self._begun(start)
        return await self._inner.perform(task, start, run)

    def _begun(self, start: Start) -> Run:
        run = self._program.begin(start.step, start.inputs)
        if isinstance(run, dict):
            raise StepFailed("It turned out to need no place.")
        return run

    async def _make_again(self, gone: InputsGone) -> None:
        makers = set()
        for place in gone.places:
            maker = self._makers.get(_folder(place))
            if maker is None:
                raise gone
            makers.add(maker)
        for maker in sorted(makers):
            self._inner.forget(maker)
        await self._repair(makers)

    def _moved_on(self, start: Start) -> Start:
        """With the files that were made again where they are now."""
        if not any(_folder(str(file["location"])) in self._moved for file in located(start.inputs)):
            return start
        inputs = copy.deepcopy(start.inputs)
        for file in located(inputs):
            place = str(file["location"])
            while (folder := _folder(place)) in self._moved:
                place = self._moved[folder] + place[len(folder) :]
            file["location"] = place
        return replace(start, inputs=inputs)

    async def _mend(self, start: Start) -> None:
        """Make again what this task reads, where it has gone."""
        makers = set()
        for file in located(start.inputs):
            path = path_of(str(file["location"]))
            if path and not os.path.exists(path):
                maker = self._makers.get(_folder(str(file["location"])))
                if maker is None:
                    raise StepFailed(f"The input {path} has gone, and no step of this workflow made it.")
                makers.add(maker)
        await self._repair(makers)

    async def _repair(self, makers: set[str]) -> None:
        for maker in sorted(makers):
            if maker not in self._repairs:
                self._repairs[maker] = asyncio.ensure_future(self._again(maker))
            try:
                await self._repairs[maker]
            finally:
                self._repairs.pop(maker, None)

    async def _again(self, task: str) -> None:
        """Run a task once more, and put what it makes where it was."""
        known = self._known[task]
        await self._mend(known.start)
        run = self._begun(known.start)
        while not self._inner.take(task, run):  # noqa: ASYNC110  (rare: whoever ends next makes room)
            await asyncio.sleep(0.05)
        old = [folder for folder, maker in self._makers.items() if maker == task]
        done = await self._perform_mended(task, known.start, run)
        if done.job:
            now = next((_folder(str(file["location"])) for file in located(done.outputs)), "")
            self._moved.update({folder: now for folder in old if folder != now})
            self._written(task, done)
            return
        for folder in old:
            if folder != done.folder and done.folder:
                shutil.rmtree(f"{folder}/work", ignore_errors=True)
                os.makedirs(folder, exist_ok=True)
                shutil.copytree(f"{done.folder}/work", f"{folder}/work", symlinks=True)
        if not intact(done.outputs):
            raise StepFailed(f"{task} was run again for a file that had gone, but did not make it.")


def _folder(place: str) -> str:
    """The folder of a step, or the job, that a file was left by; "" for other files."""
    if place.startswith("job:"):
        plane, _, rest = place.partition("/")
        return f"{plane}/{rest.partition('/')[0]}"
    folder, work, _ = path_of(place).partition("/work/")
    return folder if work else ""
