"""What a walk and a sweep look like: pictures and tables from what the API tells of jobs. No calls, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.forecast import chart, sweep
from examples.forecast.screen import Screen
from isthmus.domain.states import JobState
from isthmus.domain.views import JobView, Series

METRICS = ("year", "actual", "forecast", "mae", "naive_mae")  # what of a job's reports is drawn


@dataclass(frozen=True)
class Walked:
    """A walk forward as its job has reported it so far: the values of each metric by step."""

    values: dict[str, dict[float, float]]

    @classmethod
    def of(cls, series: Sequence[Series]) -> Walked:
        return cls(
            {
                one.name: {p.step: p.value for p in one.points if p.step is not None and p.value is not None}
                for one in series
            }
        )

    def line(self, name: str) -> list[tuple[float, float]]:
        """The metric over the years, as far as both are known."""
        years, values = self.values.get("year", {}), self.values.get(name, {})
        return [(years[step], values[step]) for step in sorted(years.keys() & values.keys())]

    def sentence(self) -> str:
        """Where the walk is, and how good it was so far."""
        mae, naive = self.line("mae"), self.line("naive_mae")
        if not mae or not naive:
            return "nothing reported yet"
        year, error = mae[-1]
        return f"{int(year)}: error {error:.2f} so far; saying 'as today' {naive[-1][1]:.2f} (% a year)"


def walk(job: JobView, walked: Walked, screen: Screen) -> RenderableType:
    """The walk drawn over the years, above the job's progress."""
    plot = chart.draw(
        [
            chart.Line("what came (mean of 22 days)", walked.line("actual"), "white"),
            chart.Line("forecast", walked.line("forecast"), "bright_cyan"),
        ],
        width=screen.width,
        height=12,
        colour=screen.colour,
        x=(2004, 2019),
        y_label="{:.0f}%".format,
        x_label="{:.0f}".format,
    )
    if not screen.lively:
        return plot
    bar = Table.grid(padding=(0, 1))
    bar.add_row(Text(f"  {job.state:<10}"), ProgressBar(1.0, share(job), width=24), Text(walked.sentence()))
    return Group(plot, bar)


def states(jobs: Sequence[JobView], grid: Sequence[sweep.Settings]) -> RenderableType:
    """The jobs of a sweep, a line each: what it tries, how far it is."""
    table = Table.grid(padding=(0, 2))
    for job, settings in zip(jobs, grid, strict=True):
        table.add_row(
            f"  {job.id}",
            str(settings["target"]),
            sweep.name(settings),
            ProgressBar(1.0, share(job), width=20),
            Text(job.state.value, "green" if job.state is JobState.COMPLETED else ""),
        )
    return table


def count(jobs: Sequence[JobView]) -> str:
    """How many of the jobs are where, and how far those are that run."""
    done = sum(job.state.ended for job in jobs)
    running = [f"{job.id} at {share(job):.0%}" for job in jobs if job.state is JobState.RUNNING]
    return f"{done} of {len(jobs)} done; running: {', '.join(running) or 'none'}"


def share(job: JobView) -> float:
    """How much of the job is done, from 0 to 1."""
    if job.state is JobState.COMPLETED:
        return 1.0
    progress = job.progress
    return progress.done / progress.total if progress and progress.total else 0.0


def status(job: JobView) -> str:
    """Its state in a word, with its progress while it runs."""
    return f"{job.state} {share(job):.0%}" if job.state is JobState.RUNNING else f"{job.state}"


def table(results: Sequence[sweep.Result]) -> Table:
    """The sweep's results, the best on the years to choose by first; returns have errors of another unit."""
    ranked = sweep.ranked(results)
    out = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    out.add_column("  volatility,\n  error in % a year", min_width=32, no_wrap=True)
    first = ranked[0].metrics["periods"]
    for period, note in (("selection", "chosen by"), ("holdout", "kept apart")):
        years = f"{first[period]['first'][:4]}-{first[period]['last'][:4]}"
        out.add_column(f"{years}\n{note}", justify="right", no_wrap=True)
    for rule in first["holdout"]["against"]:
        out.add_column(f"against\n'{rule}'", justify="right", no_wrap=True)
    for number, result in enumerate(ranked):
        chosen, held = (result.metrics["periods"][period] for period in ("selection", "holdout"))
        out.add_row(
            f"{'>' if number == 0 else ' '} {sweep.name(result.settings)}",
            f"{chosen['mae']:.2f}",
            f"{held['mae']:.2f}",
            *(f"{skill['skill']:+.1%}" for skill in held["against"].values()),
        )
    return out
