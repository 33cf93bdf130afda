"""Where runs go: those that stay on this machine, as many at once as it has room for."""

import re
import time
from dataclasses import replace
from typing import Any

from isthmus.workflows.dataflow.machine import Start
from isthmus.workflows.driver.drive import Performed
from isthmus.workflows.driver.here import Here
from isthmus.workflows.program import Run
from isthmus.workflows.work import Image, Left, StepFailed

HERE = "here"


class OnThisMachine:
    """Runs everything here. ``cpus``: how many cores may be used at once; 0 is all."""

    def __init__(self, here: Here, *, cpus: float = 0.0) -> None:
        self._here = here
        self._cpus = cpus or here.cpus
        self._mem = float(here.mem)
        self._names: dict[str, str] = {}  # folder -> task

    def lane(self, start: Start) -> str:
        """See Places."""
        return HERE

    def full(self, lane: str) -> bool:
        """See Places."""
        return self._cpus <= 0

    def far(self, start: Start) -> bool:
        """See Places."""
        return False

    def forget(self, task: str) -> None:
        """See Places."""

    async def bring(self, start: Start) -> Start:
        """See Places."""
        return start

    def take(self, task: str, run: Run) -> bool:
        """See Places."""
        refusal = self._here.refusal(run.need)
        if refusal:
            raise StepFailed(refusal)
        if run.need.cpus > self._cpus or run.need.mem > self._mem:
            return False
        self._cpus -= run.need.cpus
        self._mem -= run.need.mem
        return True

    def recall(self, task: str, start: Start, run: Run) -> dict[str, Any] | None:
        """See Places."""
        return None

    async def perform(self, task: str, start: Start, run: Run, image: Image | None = None) -> Performed:
        """See Places. ``image``: instead of what the step names."""
        name = self._name(task)
        began = time.time()
        try:
            work = run.work(self._here.folders(name), contained=self._here.contained)
            if image is not None:
                work = replace(work, image=image)
            ended = await self._here.run(name, work)
            outputs = run.collect(ended, Left(folder=self._here.work_folder(name)))
            self._here.tidy(name)
            return Performed(outputs=outputs, ended=ended, place=HERE, folder=self._here.folder(name), started=began)
        finally:
            self._cpus += run.need.cpus
            self._mem += run.need.mem

    def _name(self, task: str) -> str:
        """A folder's name for a task, the same whenever it runs: ``train.3.fit``."""
        name = re.sub(r"[^\w.-]+", "-", re.sub(r"[\[/#]", ".", task.replace("]", "")))[:150] or "step"
        found, number = name, 1
        while self._names.setdefault(found, task) != task:
            number += 1
            found = f"{name}~{number}"
        return found
