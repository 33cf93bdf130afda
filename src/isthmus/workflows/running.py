"""One run on this machine, from a file to its outputs: what the command lines share."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.workflows.dataflow.machine import Finish
from isthmus.workflows.driver.drive import Drive, Watcher
from isthmus.workflows.driver.guardian import Guardian
from isthmus.workflows.driver.here import Here
from isthmus.workflows.driver.places import OnThisMachine
from isthmus.workflows.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class HereSettings:
    """How a run on this machine goes."""

    engine: str = ""  # the container engine; "": the first found
    cpus: float = 0.0  # used at once; 0: all
    stop_early: bool = True
    scratch: str = ""  # where step folders are made; "": the system's place for temporary files


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
) -> Finish:
    """Run a program on this machine, in step folders below ``root``. Blocks.

    SIGINT and SIGTERM end what runs, then raise KeyboardInterrupt. Raises Invalid for wrong inputs.
    """
    inputs = program.inputs(given)
    os.makedirs(root, exist_ok=True)
    guardian = Guardian()
    try:
        return asyncio.run(_drive(program, inputs, root, settings, watcher, guardian))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        guardian.dismiss()


async def _drive(
    program: Program,
    inputs: dict[str, Any],
    root: str,
    settings: HereSettings,
    watcher: Watcher | None,
    guardian: Guardian,
) -> Finish:
    here = Here(root, engine=settings.engine, guardian=guardian)
    places = OnThisMachine(here, cpus=settings.cpus)
    drive = Drive(program, places, stop_early=settings.stop_early, watcher=watcher)
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await drive.run(inputs)
