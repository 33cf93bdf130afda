"""Where runs go: those that stay on this machine, as many at once as it has room for."""

from typing import Any

from isthmus.workflows.dataflow.machine import Start
from isthmus.workflows.driver.here import Here
from isthmus.workflows.program import Run
from isthmus.workflows.work import Ended, Left, StepFailed


class OnThisMachine:
    """Runs everything here. ``cpus``: how many cores may be used at once; 0 is all."""

    def __init__(self, here: Here, *, cpus: float = 0.0) -> None:
        self._here = here
        self._cpus = cpus or here.cpus
        self._mem = float(here.mem)
        self._count = 0

    def full(self) -> bool:
        """See Places."""
        return self._cpus <= 0

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

    async def perform(self, task: str, start: Start, run: Run) -> tuple[dict[str, Any], Ended | None]:
        """See Places."""
        self._count += 1
        name = str(self._count)
        try:
            work = run.work(self._here.folders(name), contained=self._here.contained)
            ended = await self._here.run(name, work)
            outputs = run.collect(ended, Left(folder=self._here.work_folder(name)))
            self._here.tidy(name)
            return outputs, ended
        finally:
            self._cpus += run.need.cpus
            self._mem += run.need.mem
