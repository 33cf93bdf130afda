"""The agent: its queue of tasks, its workers, its neighbours, and the runs of functions that it was asked for.

All on one event loop. A task is answered once, whatever is lost on the way: one that was given to a neighbour that is
lost comes back into the queue. So a task may run twice; only one of its results is used.
"""

import asyncio
import contextlib
import pickle
import secrets
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from isthmus.agents import estimate
from isthmus.agents.estimate import Place
from isthmus.agents.runs import Runs
from isthmus.domain.errors import Conflict, Invalid, IsthmusError, NotFound, Unavailable, nearest
from isthmus.tasks.agents import calls
from isthmus.tasks.agents.line import Line
from isthmus.tasks.declaration import declare
from isthmus.tasks.failures import WorkerLost

_BEAT_S = 0.5  # between two looks at a neighbour
_MISSES = 3  # looks in a row without an answer, after which a silent neighbour counts as lost
_LOOK_AT = 500  # tasks of the queue that are placed in one go
_THREADS = 512


# A call that somebody sent, on a worker of this machine. Whether it is tried again, its sender decides.
perform = declare(calls.perform, {"returns": 1, "retries": 0})


@dataclass(eq=False)
class Piece:
    """A task, from its arrival to its answer."""

    data: bytes
    function: str
    units: int
    stays: bool
    been: tuple[str, ...]
    answer: "asyncio.Future[bytes]"
    where: str = ""  # "" waits; "here", or a neighbour's name
    begun: float = 0.0


@dataclass(eq=False)
class Neighbour:
    """Another agent, as it was at the last look."""

    name: str
    line: Line
    place: Place | None = None  # not known yet, or lost
    trouble: str = ""
    misses: int = 0
    sent: "dict[Piece, asyncio.Task[None]]" = field(default_factory=dict)
    sent_s: float = 0.0  # work sent since the last look
    beat: "asyncio.Task[None] | None" = None

    def facts(self) -> dict[str, Any]:
        """What is said of it."""
        return {
            "name": self.name,
            "url": self.line.url,
            "state": "UP" if self.place is not None else "LOST" if self.trouble else "NEW",
            "trouble": self.trouble,
            "workers": self.place.workers if self.place else 0,
            "load_s": round(self.place.load_s, 3) if self.place else 0.0,
            "trip_s": round(self.place.trip_s, 4) if self.place else 0.0,
            "sent": len(self.sent),
        }


class Agent:
    """See the module. Made on its loop; `close` it. `program` has the workers."""

    def __init__(self, name: str, program: Any, runs: Runs) -> None:
        self.id = f"{name}-{secrets.token_hex(4)}"
        self.name = name
        self.runs = runs
        self.workers: int = program.engine.workers
        self.neighbours: dict[str, Neighbour] = {}
        self.seconds: dict[str, float] = {}
        self.done = {"here": 0, "elsewhere": 0, "returned": 0}
        self._program = program
        self._queue: list[Piece] = []
        self._running: set[Piece] = set()
        self._busy = 0
        self._changed = asyncio.Event()
        self._threads = ThreadPoolExecutor(_THREADS, "isthmus-piece")
        self._jobs: set[asyncio.Task[None]] = set()
        self._dispatcher = asyncio.create_task(self._dispatch())

    # -- what others ask ---------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What the agent says of itself; to neighbours too."""
        return {
            "id": self.id,
            "name": self.name,
            "workers": self.workers,
            "busy": self._busy,
            "queued": len(self._queue),
            "load_s": round(self._load_s(), 4),
            "seconds": {name: round(value, 6) for name, value in self.seconds.items()},
            "done": dict(self.done),
            "runs": self.runs.running,
            "serves": list(self.runs.modules),
            "neighbours": [one.facts() for one in self.neighbours.values()],
            "beyond": [_told(one.place) for one in self.neighbours.values() if one.place],
        }

    async def task(self, data: bytes, function: str, units: int, stays: bool, been: Iterable[str]) -> bytes:
        """Run a call, here or elsewhere; returns when it has ended. Cancelled: it need not run any more.

        Raises Invalid where no agent in reach has so many workers.
        """
        piece = Piece(data, function, units, stays, tuple(been), asyncio.get_running_loop().create_future())
        self._queue.append(piece)
        self._changed.set()
        try:
            return await piece.answer
        finally:
            if piece in self._queue:
                self._queue.remove(piece)
            for neighbour in self.neighbours.values():
                sent = neighbour.sent.pop(piece, None)
                if sent is not None and not sent.done():
                    sent.cancel()

    def resize(self, workers: int) -> None:
        """Have so many workers from now on. Tasks that run go on."""
        if workers < 1:
            raise Invalid(f"{workers} is too small: an agent has a worker at least.", place="workers")
        self._program.resize(workers - self.workers)
        self.workers = workers
        self._changed.set()

    def add_neighbour(self, name: str, line: Line) -> None:
        """Tasks may go there from now on. Raises Conflict where the name is another's."""
        if name in self.neighbours:
            raise Conflict(
                f"There is a neighbour {name!r} already.", hint="Remove it first, or name this one otherwise."
            )
        neighbour = self.neighbours[name] = Neighbour(name, line)
        neighbour.beat = asyncio.create_task(self._watch(neighbour))

    async def remove_neighbour(self, name: str) -> None:
        """No more tasks go there; those that are there come back."""
        neighbour = self.neighbours.pop(name, None)
        if neighbour is None:
            raise NotFound(f"There is no neighbour {name!r}.", hint=nearest(name, self.neighbours))
        if neighbour.beat is not None:
            neighbour.beat.cancel()
        self._lost(neighbour, "it was removed")
        await neighbour.line.close()

    async def close(self) -> None:
        """End: runs are ended, tasks that others sent are answered by the line's end."""
        await self.runs.close()
        for name in list(self.neighbours):
            await self.remove_neighbour(name)
        for job in (self._dispatcher, *self._jobs):
            job.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- placing -----------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._place()

    def _place(self) -> None:
        ahead = self._running_s()
        for piece in self._queue[:_LOOK_AT]:
            here = Place(self.id, self.workers, ahead, self.seconds)
            others = [] if piece.stays else [self._seen(one) for one in self.neighbours.values() if one.place]
            place = estimate.best(here, others, piece.function, piece.units, len(piece.data), piece.been)
            if place is None:
                self._no_place(piece)
            elif place.id != self.id:
                self._give(
                    piece, next(one for one in self.neighbours.values() if one.place and one.place.id == place.id)
                )
            elif self._busy + piece.units <= self.workers:
                self._start(piece)
                ahead += self._usual_s(piece)
            else:
                ahead += self._usual_s(piece)

    def _no_place(self, piece: Piece) -> None:
        if any(one.place is None for one in self.neighbours.values()):
            return  # one of them may have room when it answers
        self._queue.remove(piece)
        if not piece.answer.done():
            places = [one.place for one in self.neighbours.values() if one.place]
            most = max([self.workers, *(one.workers for place in places for one in (place, *place.beyond))])
            piece.answer.set_exception(
                Invalid(f"{piece.function} takes {piece.units} workers; the largest agent in reach has {most}.")
            )

    def _start(self, piece: Piece) -> None:
        self._queue.remove(piece)
        piece.where, piece.begun = "here", time.monotonic()
        self._busy += piece.units
        self._running.add(piece)
        self._job(self._run(piece))

    async def _run(self, piece: Piece) -> None:
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._threads, self._perform, piece.data)
        finally:
            self._running.discard(piece)
            self._busy -= piece.units
            self._changed.set()
        took = time.monotonic() - piece.begun
        before = self.seconds.get(piece.function)
        self.seconds[piece.function] = took if before is None else 0.7 * before + 0.3 * took
        self.done["here"] += 1
        if not piece.answer.done():
            piece.answer.set_result(data)

    def _perform(self, data: bytes) -> bytes:
        try:
            found: bytes = self._program.call(perform, (data,), {}).result()
            return found
        except WorkerLost as error:  # the one who called has a policy for that
            return pickle.dumps((calls.RAISED, pickle.dumps(error)))

    def _give(self, piece: Piece, neighbour: Neighbour) -> None:
        self._queue.remove(piece)
        piece.where, piece.begun = neighbour.name, time.monotonic()
        neighbour.sent_s += self._usual_s(piece)
        neighbour.sent[piece] = self._job(self._send(piece, neighbour))

    async def _send(self, piece: Piece, neighbour: Neighbour) -> None:
        been = ",".join((*piece.been, self.id))
        try:
            data = await neighbour.line.task(piece.data, piece.function, piece.units, been=been)
        except Unavailable as error:
            if neighbour.sent.pop(piece, None) is not None:
                self._again(piece)
                self._lost(neighbour, error.message)
            return
        except IsthmusError as error:  # it won't have this one
            if neighbour.sent.pop(piece, None) is not None:
                piece.been = (*piece.been, neighbour.place.id if neighbour.place else "")
                neighbour.trouble = error.message
                self._again(piece)
            return
        if neighbour.sent.pop(piece, None) is not None and not piece.answer.done():
            self.done["elsewhere"] += 1
            piece.answer.set_result(data)

    def _again(self, piece: Piece) -> None:
        if not piece.answer.done():
            self.done["returned"] += 1
            piece.where = ""
            self._queue.insert(0, piece)
            self._changed.set()

    # -- neighbours --------------------------------------------------------------------------------------------

    async def _watch(self, neighbour: Neighbour) -> None:
        while True:
            begin = time.monotonic()
            try:
                said = await neighbour.line.status()
                trip = time.monotonic() - begin
                before = neighbour.place.trip_s if neighbour.place else trip
                neighbour.place = _place(said, 0.7 * before + 0.3 * trip)
                neighbour.misses, neighbour.sent_s, neighbour.trouble = 0, 0.0, ""
                if self._queue:
                    self._changed.set()
            except IsthmusError as error:
                neighbour.misses += 1
                if neighbour.misses >= _MISSES or neighbour.place is None:
                    self._lost(neighbour, error.message)
            await asyncio.sleep(_BEAT_S)

    def _lost(self, neighbour: Neighbour, why: str) -> None:
        neighbour.place, neighbour.trouble = None, why
        sent, neighbour.sent = neighbour.sent, {}
        for piece, job in sent.items():
            job.cancel()
            self._again(piece)
        self._changed.set()

    def _seen(self, neighbour: Neighbour) -> Place:
        place = neighbour.place
        assert place is not None
        return Place(
            place.id,
            place.workers,
            place.load_s + neighbour.sent_s,
            place.seconds,
            place.trip_s,
            place.bytes_per_s,
            [one for one in place.beyond if one.id != self.id],
        )

    # -- how long ----------------------------------------------------------------------------------------------

    def _usual_s(self, piece: Piece) -> float:
        return self.seconds.get(piece.function, 0.1) * piece.units

    def _running_s(self) -> float:
        now = time.monotonic()
        return sum(max(0.01, self._usual_s(piece) - (now - piece.begun) * piece.units) for piece in self._running)

    def _load_s(self) -> float:
        return self._running_s() + sum(self._usual_s(piece) for piece in self._queue)

    def _job(self, work: Any) -> "asyncio.Task[None]":
        job: asyncio.Task[None] = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job


def _told(place: Place) -> dict[str, Any]:
    return {
        "id": place.id,
        "workers": place.workers,
        "load_s": round(place.load_s, 4),
        "trip_s": round(place.trip_s, 4),
        "seconds": dict(place.seconds),
    }


def _place(said: dict[str, Any], trip_s: float) -> Place:
    """A neighbour's place from what it says."""
    with contextlib.suppress(KeyError, TypeError):
        beyond = [
            Place(one["id"], one["workers"], one["load_s"], one["seconds"], one["trip_s"]) for one in said["beyond"]
        ]
        return Place(said["id"], said["workers"], said["load_s"], said["seconds"], trip_s, beyond=beyond)
    raise Unavailable("It answers, but not as an agent does.")
