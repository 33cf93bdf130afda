"""One run, from a program and its inputs to its end: what the command lines share."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.workflows.dataflow.machine import Finish
from isthmus.workflows.driver.drive import Drive, Places, Watcher
from isthmus.workflows.driver.guardian import Guardian
from isthmus.workflows.driver.here import Here
from isthmus.workflows.driver.places import OnThisMachine
from isthmus.workflows.program import Program

if TYPE_CHECKING:
    from isthmus.workflows.driver.book import Book
    from isthmus.workflows.driver.results import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class HereSettings:
    """How a run on this machine goes."""

    engine: str = ""  # the container engine; "": the first found
    cpus: float = 0.0  # used at once; 0: all
    stop_early: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What makes a run durable: its book, and the results that runs share."""

    run: str
    book: "Book"
    results: "Results"
    reuse: bool = True


class Scratch:
    """A folder for the steps of one run, gone when it is over."""

    def __init__(self, prefix: str = "") -> None:
        self.path = tempfile.mkdtemp(prefix="isthmus-run-", dir=prefix or None)

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)


def drive_here(
    program: Program,
    given: Mapping[str, Any],
    root: str,
    settings: HereSettings,
    watcher: Watcher | None = None,
    memory: Memory | None = None,
) -> Finish:
    """Run a program on this machine, in step folders below ``root``. Blocks.

    SIGINT and SIGTERM end what runs, then raise KeyboardInterrupt. Raises Invalid for wrong inputs.
    """
    inputs = program.inputs(given)
    os.makedirs(root, exist_ok=True)
    guardian = Guardian()
    try:
        return asyncio.run(_drive(program, inputs, root, settings, watcher, memory, guardian))
    except asyncio.CancelledError:
        if memory is not None:
            memory.book.note(state="interrupted", ended=time.time())
        raise KeyboardInterrupt from None
    finally:
        guardian.dismiss()


async def _drive(
    program: Program,
    inputs: dict[str, Any],
    root: str,
    settings: HereSettings,
    watcher: Watcher | None,
    memory: Memory | None,
    guardian: Guardian,
) -> Finish:
    here = Here(root, engine=settings.engine, guardian=guardian)
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    async with AsyncExitStack() as stack:
        places: Places = OnThisMachine(here, cpus=settings.cpus)
        if memory is not None:
            from isthmus.workflows.driver.remembering import Remembering

            stack.callback(memory.results.flush)
            stack.callback(memory.book.flush)
            places = Remembering(places, program, memory.book, memory.results, run=memory.run, reuse=memory.reuse)
        drive = Drive(program, places, stop_early=settings.stop_early, watcher=watcher)
        finish = await drive.run(inputs)
    if memory is not None:
        failures = [{"task": name, "message": why} for name, why in finish.failures]
        memory.book.note(state="failed" if failures else "completed", ended=time.time(), failures=failures)
    return finish


def steps_of(folder: Path) -> str:
    """Where the step folders of a run are."""
    return str(folder / "steps")
