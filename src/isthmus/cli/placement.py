"""`isthmus placement`: schedules tried out on paper, which needs no server, the plan of the queue, and what the
server places by."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import governing, output
from isthmus.cli.calling import client, command
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.placement.sizing.problem import Problem
    from isthmus.placement.sizing.schedule import Cost, Schedule
    from isthmus.placement.sizing.simulate import Result

app = typer.Typer(help="Who runs where, when, on how many GPUs: rules, prices, and what if.", no_args_is_help=True)

app.command("rules")(governing.rules)
app.command("catalogue")(governing.catalogue)
app.command("metrics")(governing.metrics)
app.command("whatif")(governing.whatif)


@dataclass(frozen=True, slots=True)
class Report:
    """What one policy's schedule costs. Money in the prices' currency."""

    policy: str
    total: float
    vm_cost: float
    tardiness_cost: float
    late_jobs: int
    moves: int
    jobs: int
    decisions: int
    decision_mean_ms: float
    decision_max_ms: float
    lower_bound: float  # no schedule costs less; 0: not known


@app.command("simulate")
def simulate(
    instance: Annotated[Path, typer.Argument(help="The problem: a JSON file of nodes, vm_types and jobs.")],
    policies: Annotated[
        list[str] | None, typer.Option("--policy", "-p", help="A policy; may be given again, to compare.")
    ] = None,
    restart: Annotated[float, typer.Option(min=0, help="Seconds that a job loses whenever it is moved.")] = 0.0,
    error: Annotated[float, typer.Option(min=0, max=1, help="Mean error of predicted times, such as 0.13.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of everything that chance decides.")] = 0,
    iterations: Annotated[int, typer.Option(min=1, help="Constructions of the randomised policies.")] = 100,
    schedule: Annotated[Path | None, typer.Option(help="Write the (last) schedule there, as JSON.")] = None,
    gantt: Annotated[Path | None, typer.Option(help="Draw there, as .svg (the last) or .html (all).")] = None,
    form: Output = Format.TABLE,
) -> None:
    """Simulate policies on a problem and say what their schedules cost."""
    from isthmus.domain.errors import Invalid
    from isthmus.placement.sizing import methods

    if gantt is not None and gantt.suffix not in (".svg", ".html"):
        raise Invalid(f"{gantt.name} is neither .svg nor .html.", place="--gantt")
    wanted = policies or [methods.OURS]
    problem = _read(instance)
    made = {name: methods.make(name, seed=seed, iterations=iterations) for name in wanted}
    bound = _bound(problem)
    reports, schedules = [], {}
    for name, method in made.items():
        result, cost = _run(name, problem, method, restart, error, seed)
        schedules[name] = result.schedule
        reports.append(_report(name, problem, result, cost, bound))
    head, rows = _rows(reports)
    if schedule is not None:
        _write(schedule, json.dumps(schedules[wanted[-1]].to_json()) + "\n")
    if gantt is not None:
        _write(gantt, _draw(gantt, problem, schedules, head, rows))
    output.show(reports, list[Report], form, lambda: output.table(head, rows))


@app.command("hull")
def hull(
    instance: Annotated[Path, typer.Argument(help="The problem: a JSON file of nodes, vm_types and jobs.")],
    picture: Annotated[Path, typer.Argument(help="Where to draw, as SVG.")],
    job: Annotated[str, typer.Option(help="The job's id; the first without.")] = "",
    gpu_type: Annotated[str, typer.Option(help="Of its types; the first without.")] = "",
) -> None:
    """Draw what each number of GPUs costs a job against its speed, and which are ever worth it."""
    from isthmus.domain.errors import NotFound, nearest
    from isthmus.placement.sizing.drawing import hull_svg

    problem = _read(instance)
    jobs = {str(one.id): one for one in problem.jobs}
    if job and job not in jobs:
        raise NotFound(f"There is no job {job!r}.", place="--job", hint=nearest(job, jobs))
    one = jobs[job] if job else problem.jobs[0]
    if gpu_type and gpu_type not in one.times:
        hint = nearest(gpu_type, one.times)
        raise NotFound(f"Job {one.id} has no times on {gpu_type!r}.", place="--gpu-type", hint=hint)
    _write(picture, hull_svg(problem, one, gpu_type or next(iter(one.times))))


@app.command("plan")
@command
async def plan(
    site: Annotated[str, typer.Argument(help="A site with the policy deadline-cost; all of them without.")] = "",
    gantt: Annotated[Path | None, typer.Option(help="Draw there, as .svg (of one kind of nodes) or .html.")] = None,
    form: Output = Format.TABLE,
) -> None:
    """Say how the queue would go on if nothing else came: who runs when on how many GPUs, what that costs."""
    from isthmus.cli import queueplan
    from isthmus.domain.errors import Invalid
    from isthmus.domain.views import PlanView

    if gantt is not None and gantt.suffix not in (".svg", ".html"):
        raise Invalid(f"{gantt.name} is neither .svg nor .html.", place="--gantt")
    async with client() as isthmus:
        plans = await isthmus.sites.plan(site)
    if gantt is not None:
        _write(gantt, queueplan.draw(plans, as_page=gantt.suffix == ".html"))
    output.show(plans, list[PlanView], form, lambda: queueplan.show(plans))


@app.command("policies")
def policies(form: Output = Format.TABLE) -> None:
    """List the policies that sites may choose, and those that `simulate` knows."""
    from isthmus.placement.policies import find_policy, policy_names
    from isthmus.placement.sizing import methods

    found = [{"policy": name, "of": "sites", "summary": find_policy(name).summary} for name in policy_names()]
    for name in methods.names():
        summary = methods.BUILT_IN.get(name, ("", "a plug-in"))[1]
        found.append({"policy": name, "of": "simulate", "summary": summary})
    rows = [list(one.values()) for one in found]
    head = ("POLICY", "OF", "WHAT IT DOES")
    output.show(found, list[dict[str, str]], form, lambda: output.table(head, rows))


@app.command("generate")
def generate(
    path: Annotated[Path, typer.Argument(help="Where to write the problem, as JSON.")],
    nodes: Annotated[int, typer.Option(min=1, max=100_000)] = 10,
    jobs: Annotated[int, typer.Option(min=1, max=1_000_000)] = 101,
    gap: Annotated[float, typer.Option(min=0, help="Mean seconds between arrivals; 0: all at once.")] = 7500.0,
    runtimes: Annotated[
        Path | None,
        typer.Option(help="Draw run times from a trace: a file with seconds, one a line (or a CSV's first)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed is another problem.")] = 0,
) -> None:
    """Make up a problem for `simulate`, with run times of a trace or of a usual distribution."""
    from isthmus.placement.sizing import generate as making
    from isthmus.placement.sizing.problem import write_problem

    times = _runtimes(runtimes) if runtimes is not None else ()
    problem = making.generate(nodes=nodes, jobs=jobs, gap_s=gap, seed=seed, runtimes_s=times)
    _write(path, json.dumps(write_problem(problem)) + "\n")


def _runtimes(path: Path) -> list[float]:
    """The first column of a file, as seconds; a first line that is no number is its head."""
    from isthmus.domain.errors import Invalid

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"It can't be read: {error}.", place=str(path)) from error
    found: list[float] = []
    for number, line in enumerate(lines, 1):
        word = line.partition(",")[0].strip()
        try:
            found.append(float(word))
        except ValueError:
            if number > 1 and word:
                raise Invalid(f"{word!r} is not a number of seconds.", place=f"{path}:{number}") from None
    if not any(seconds >= 60 for seconds in found):
        raise Invalid("No run time in it is a minute or longer.", place=str(path))
    return found


def _read(path: Path) -> "Problem":
    from isthmus.domain.errors import Invalid
    from isthmus.placement.sizing.problem import read_problem

    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise Invalid(f"{error.strerror}.", place=str(path)) from error
    except json.JSONDecodeError as error:
        raise Invalid(f"This is not JSON: {error.msg}.", place=f"{path}:{error.lineno}") from error
    except UnicodeDecodeError as error:
        raise Invalid("This is not JSON: it is no UTF-8 text.", place=str(path)) from error
    try:
        return read_problem(data)
    except Invalid as error:
        raise Invalid(error.message, place=f"{path}: {error.place}", hint=error.hint) from error


def _bound(problem: "Problem") -> float:
    """The lower bound; 0.0 where numpy, which it needs, is not installed."""
    try:
        from isthmus.placement.sizing.bound import by_hull
    except ModuleNotFoundError:
        output.note("Without numpy there is no lower bound: pip install 'isthmus[placement]'")
        return 0.0
    return by_hull(problem)


def _run(name: str, problem: "Problem", method: Any, restart: float, error: float, seed: int) -> "tuple[Result, Cost]":
    from time import perf_counter

    from isthmus.placement.sizing.schedule import judge
    from isthmus.placement.sizing.simulate import mispredict
    from isthmus.placement.sizing.simulate import simulate as run

    with output.count(name, len(problem.jobs)) as told:
        result = run(
            problem,
            method,
            restart_s=restart,
            predicted=mispredict(problem, error, seed),
            on_progress=told,
            clock=perf_counter,
        )
    return result, judge(problem, result.schedule, restart)


def _report(name: str, problem: "Problem", result: "Result", cost: "Cost", bound: float) -> Report:
    return Report(
        policy=name,
        total=round(cost.total, 2),
        vm_cost=round(cost.vms, 2),
        tardiness_cost=round(cost.tardiness, 2),
        late_jobs=cost.late,
        moves=cost.moves,
        jobs=len(problem.jobs),
        decisions=result.decisions,
        decision_mean_ms=round(result.mean_s * 1e3, 3),
        decision_max_ms=round(result.max_s * 1e3, 3),
        lower_bound=round(bound, 2),
    )


def _rows(reports: list[Report]) -> tuple[tuple[str, ...], list[list[str]]]:
    head = ("POLICY", "TOTAL", "VMS", "TARDINESS", "LATE", "MOVES", "ABOVE BOUND", "MS/DECISION", "MAX MS")
    rows = [
        [
            one.policy,
            f"{one.total:.2f}",
            f"{one.vm_cost:.2f}",
            f"{one.tardiness_cost:.2f}",
            f"{one.late_jobs}/{one.jobs}",
            str(one.moves),
            f"{(one.total / one.lower_bound - 1) * 100:.1f} %" if one.lower_bound else "",
            f"{one.decision_mean_ms:.1f}",
            f"{one.decision_max_ms:.1f}",
        ]
        for one in reports
    ]
    return head, rows


def _draw(
    path: Path, problem: "Problem", schedules: "dict[str, Schedule]", head: tuple[str, ...], rows: list[list[str]]
) -> str:
    from isthmus.placement.sizing.gantt import page, svg

    if path.suffix == ".html":
        return page(problem, schedules, head, rows)
    name, last = list(schedules.items())[-1]
    return svg(problem, last, title=name)


def _write(path: Path, text: str) -> None:
    from isthmus.domain.errors import Invalid

    try:
        path.write_text(text)
    except OSError as error:
        raise Invalid(f"{error.strerror}.", place=str(path)) from error
    print(f"wrote {path}", file=sys.stderr)
