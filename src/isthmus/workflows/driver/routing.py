"""Each step where it fits: here or at sites, by the bindings; files are brought here where a step needs them here."""

import copy
from dataclasses import replace
from typing import Any

from isthmus.workflows.dataflow.machine import Start
from isthmus.workflows.driver.drive import Performed
from isthmus.workflows.driver.places import HERE, OnThisMachine
from isthmus.workflows.driver.sites import AtSites
from isthmus.workflows.locations import is_far, location
from isthmus.workflows.placing import ANYWHERE, Bindings, Target, step_of
from isthmus.workflows.program import Program, Run
from isthmus.workflows.work import StepFailed

SITES = "sites"


class Routing:
    """See the module."""

    def __init__(self, here: OnThisMachine, sites: AtSites, bindings: Bindings, program: Program) -> None:
        self._here = here
        self._sites = sites
        self._bindings = bindings
        self._program = program
        self._targets: dict[str, Target] = {}  # by task
        self.keys: dict[str, str] = {}  # by task: what its content is known by

    def lane(self, start: Start) -> str:
        """See Places."""
        return HERE if self._target(start).here else SITES

    def _target(self, start: Start) -> Target:
        if start.task not in self._targets:
            self._targets[start.task] = self._bindings.chosen(step_of(start.task), start.inputs)
        return self._targets[start.task]

    def full(self, lane: str) -> bool:
        """See Places."""
        return lane == HERE and self._here.full(lane)

    def take(self, task: str, run: Run) -> bool:
        """See Places."""
        return not self._targets[task].here or self._here.take(task, run)

    def recall(self, task: str, start: Start, run: Run) -> dict[str, Any] | None:
        """See Places."""
        return None

    def far(self, start: Start) -> bool:
        """See Places."""
        return any(is_far(str(file["location"])) for file in _located(start.inputs))

    def forget(self, task: str) -> None:
        """See Places."""
        self._sites.forget(task)

    async def bring(self, start: Start) -> Start:
        """See Places."""
        inputs = copy.deepcopy(start.inputs)
        for file in _located(inputs):
            if is_far(str(file["location"])):
                file["location"] = location(await self._sites.fetch(str(file["location"])))
        return replace(start, inputs=inputs)

    async def perform(self, task: str, start: Start, run: Run) -> Performed:
        """See Places."""
        target = self._target(start)
        if not target.here:
            return await self._sites.perform(task, start, run, self._at_sites(target), self.keys.get(task, ""))
        if self.far(start):
            moved = self._sites.far_bytes(start)
            brought = await self.bring(start)
            again = self._program.begin(brought.step, brought.inputs)
            if isinstance(again, dict):
                raise StepFailed("It turned out to need no place.")
            return replace(await self._here.perform(task, start, again, target.image), moved=moved)
        return await self._here.perform(task, start, run, target.image)

    def _at_sites(self, target: Target) -> Target:
        """Without ``here``: what may go to sites goes there."""
        sites = tuple(site for site in target.sites if site != HERE)
        return replace(target, sites=sites or (ANYWHERE,))


def _located(value: Any) -> Any:
    from isthmus.workflows.driver.results import located

    return located(value)
