"""What a run that a job drives tells of itself: its graph and how far each step is, as the job's metrics.

    workflow/step/PATH/order                     a step is there; its place among all
    workflow/step/PATH/started, /done, …         what became of its tasks, what they took: the fields of `StepTold`
    workflow/site/SITE/PATH                      how many of them ran there
    workflow/edge/N/M                            step M takes what step N makes, by their order

By step, so a run of a million tasks is as readable as one of ten, while it goes on and afterwards, however it ended.
The panel and `isthmus workflow show --server` read the same.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from isthmus.workflows.dataflow.graph import Graph
from isthmus.workflows.placing import step_of

if TYPE_CHECKING:
    from isthmus.workflows.driver.book import Book
    from isthmus.workflows.driver.drive import Told

PREFIX = "workflow/"
STEP, SITE, EDGE = PREFIX + "step/", PREFIX + "site/", PREFIX + "edge/"
MOST = 300  # steps that are told
EVERY_S = 1.0
LINE = 200  # values of a line: a line is written at one stroke
COUNTS = ("started", "done", "reused", "skipped", "failed")
FIGURES = ("wall_s", "cpu_s", "wait_s", "peak_mem", "moved", "cost", "begin_s", "end_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTold:
    """One step of a run, by its path: ``train/fit`` is the step ``fit`` of the workflow that ``train`` is.

    Counts are of tasks: a scattered step has one for each element. Times in seconds, those from and to since the run
    began. ``after``: the steps whose outputs it takes.
    """

    step: str
    order: int = 0
    started: int = 0
    done: int = 0
    reused: int = 0  # of those done: their results were taken from an earlier run
    skipped: int = 0
    failed: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    wait_s: float = 0.0
    peak_mem: int = 0  # bytes
    moved: int = 0  # bytes that came from elsewhere
    cost: float = 0.0
    begin_s: float = 0.0
    end_s: float = 0.0
    places: dict[str, int] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    @property
    def ended(self) -> int:
        return self.done + self.reused + self.skipped + self.failed

    @property
    def running(self) -> int:
        return max(0, self.started - self.done - self.failed)

    @property
    def tasks(self) -> int:
        """As many as are known of by now."""
        return self.ended + self.running

    @property
    def state(self) -> str:
        """waits, running, failed, skipped, reused, done: so far."""
        if self.failed:
            return "failed"
        if self.running:
            return "running"
        if not self.ended:
            return "waits"
        for word in ("skipped", "reused"):
            if getattr(self, word) == self.ended:
                return word
        return "done"


def planned(graph: Graph) -> list[StepTold]:
    """The steps of a graph, those within others too, before anything ran."""
    found: list[StepTold] = []
    for path, after in _paths(graph, ""):
        if len(found) == MOST:
            break
        found.append(StepTold(step=path, order=len(found), after=after))
    return found


def _paths(graph: Graph, around: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, step in graph.steps.items():
        sources = {source.step for feed in step.inputs.values() for source in feed.sources if source.step}
        yield around + name, tuple(around + each for each in sorted(sources))
        if isinstance(step.body, Graph):
            yield from _paths(step.body, f"{around}{name}/")


def values(steps: list[StepTold]) -> dict[str, float]:
    """The metrics that tell of these steps. What is nothing is left out."""
    orders = {one.step: one.order for one in steps}
    found: dict[str, float] = {}
    for one in steps:
        found[f"{STEP}{one.step}/order"] = one.order
        for name in (*COUNTS, *FIGURES):
            if getattr(one, name):
                found[f"{STEP}{one.step}/{name}"] = round(getattr(one, name), 4)
        for place, count in one.places.items():
            found[f"{SITE}{place}/{one.step}"] = count
        for other in one.after:
            if other in orders:
                found[f"{EDGE}{orders[other]}/{one.order}"] = 1
    return found


def steps(values: Mapping[str, float | None]) -> list[StepTold]:
    """The steps that a job's metrics tell of, by their last values, in their order; none: it drives no run."""
    fields: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in values.items():
        if name.startswith(STEP) and value is not None:
            path, _, what = name.removeprefix(STEP).rpartition("/")
            if what in ("order", *COUNTS, *FIGURES):
                whole = what in ("order", *COUNTS, "peak_mem", "moved")
                fields[path][what] = int(value) if whole else value
    found = sorted((StepTold(step=path, **each) for path, each in fields.items() if "order" in each), key=_order)
    names = {one.order: one.step for one in found}
    places: dict[str, dict[str, int]] = defaultdict(dict)
    after: dict[str, list[str]] = defaultdict(list)
    for name, value in values.items():
        if name.startswith(SITE) and value:
            place, _, path = name.removeprefix(SITE).partition("/")
            places[path][place] = int(value)
        elif name.startswith(EDGE) and value:
            source, _, target = name.removeprefix(EDGE).partition("/")
            if source.isdecimal() and target.isdecimal() and {int(source), int(target)} <= set(names):
                after[names[int(target)]].append(names[int(source)])
    return [replace(one, places=places[one.step], after=tuple(sorted(after[one.step]))) for one in found]


def leaves(steps: Sequence[StepTold]) -> list[StepTold]:
    """Those that run something: a step that is a workflow is shown by the steps within it."""
    around = {path for one in steps for path in _around(one.step)}
    return [one for one in steps if one.step not in around]


def _around(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _order(one: StepTold) -> int:
    return one.order


class Telling:
    """Watches a run and tells of it: once a second while something happens, and at its end. Called by the driver."""

    def __init__(
        self,
        graph: Graph,
        book: "Book",
        tell: Callable[[dict[str, float]], None],
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._planned = planned(graph)
        self._book = book
        self._tell = tell
        self._clock = clock
        self._later = later or (lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call))
        self._due = False
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._said: dict[str, float] = {}
        self._next = 0.0
        self.total: Counter[str] = Counter()

    def __call__(self, told: "Told") -> None:
        self.total[told.kind] += 1
        self._counts[step_of(told.task)][told.kind] += 1
        left = self._next - self._clock()
        if left <= 0:
            self.tell()
        elif not self._due:  # else what comes last before a long silence would not be told
            self._due = True
            self._later(left, self._tell_if_due)

    def _tell_if_due(self) -> None:
        if self._due:
            self.tell()

    def tell(self) -> None:
        """Say what has changed. A long book takes a while to be summed up: the longer, the less often."""
        began = self._clock()
        self._due = False
        told = values(self._steps())
        changed = [(name, value) for name, value in told.items() if self._said.get(name) != value]
        for first in range(0, len(changed), LINE):
            self._tell(dict(changed[first : first + LINE]))
        self._said = told
        now = self._clock()
        self._next = now + max(EVERY_S, 20 * (now - began))

    def _steps(self) -> list[StepTold]:
        from isthmus.workflows.reporting import summary

        facts = self._book.facts()
        entries = list(self._book.entries())
        figures = summary(facts, entries)["steps"]
        begin: dict[str, float] = {}
        end: dict[str, float] = {}
        for entry in entries:
            name = step_of(entry.task)
            if entry.started:
                begin[name] = min(begin.get(name, entry.started), entry.started)
                end[name] = max(end.get(name, 0.0), entry.ended or entry.started)
        start = float(facts["started"])
        found = []
        for one in self._planned:
            own = figures.get(one.step, {})
            counts = self._counts.get(one.step, Counter())
            known: dict[str, Any] = {name: counts[name] for name in COUNTS}
            known.update((name, own[name]) for name in FIGURES if name in own)
            found.append(
                replace(
                    one,
                    **known,
                    begin_s=max(0.0, begin[one.step] - start) if one.step in begin else 0.0,
                    end_s=max(0.0, end[one.step] - start) if one.step in end else 0.0,
                    places=dict(own.get("places", {})),
                )
            )
        return found
