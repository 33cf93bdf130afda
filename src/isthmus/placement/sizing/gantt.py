"""A schedule as a picture: time from left to right, a band for each node, a bar for each run as high as it has GPUs."""

import html
from collections.abc import Mapping, Sequence

from isthmus.placement.sizing.problem import Problem
from isthmus.placement.sizing.schedule import Run, Schedule

WIDTH = 1200
LEFT, TOP, GPU_PX, GAP = 70, 34, 7, 8
HUES = 12


def svg(problem: Problem, schedule: Schedule, *, title: str = "") -> str:
    """The chart as one SVG document. Each bar names its job, GPUs and times when pointed at; late ends are red."""
    most = max(problem.most_gpus.values())
    end = max((run.end_s for run in schedule.runs), default=1.0)
    nodes = sorted({one.node for one in schedule.opens})
    band = most * GPU_PX
    height = TOP + len(nodes) * (band + GAP) + 30
    scale = (WIDTH - LEFT - 20) / end
    row = {node: TOP + number * (band + GAP) for number, node in enumerate(nodes)}
    sizes = {vm.name: vm.gpus for vm in problem.vms}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f"<title>{html.escape(title)}</title>",
        f'<text x="{LEFT}" y="18" font-size="13">{html.escape(title)}</text>',
    ]
    for node, y in row.items():
        parts.append(f'<text x="8" y="{y + band / 2 + 4:.1f}">node {node}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - 20}" height="{band}" fill="#f3f4f6"/>')
    for one in schedule.opens:
        x, wide = LEFT + one.start_s * scale, (one.end_s - one.start_s) * scale
        parts.append(
            f'<rect x="{x:.2f}" y="{row[one.node]}" width="{wide:.2f}" height="{sizes[one.vm] * GPU_PX}" '
            f'fill="#dfe3e8"><title>{html.escape(one.vm)}</title></rect>'
        )
    due = {job.id: job.deadline_s for job in problem.jobs}
    last = _last(schedule.runs)
    order = {job.id: number for number, job in enumerate(problem.jobs)}
    for run, lane in _lanes(schedule.runs):
        x, wide = LEFT + run.start_s * scale, max(0.4, (run.end_s - run.start_s) * scale)
        late = last[run.job] == run.end_s and run.end_s > due[run.job] + 1e-3
        hue = order[run.job] % HUES * 360 // HUES
        words = f"job {run.job}: {run.gpus} GPUs of node {run.node}, {run.start_s:.0f} to {run.end_s:.0f} s"
        edge = ' stroke="#c00" stroke-width="1.5"' if late else ""
        parts.append(
            f'<rect x="{x:.2f}" y="{row[run.node] + lane * GPU_PX + 0.5:.1f}" width="{wide:.2f}" '
            f'height="{run.gpus * GPU_PX - 1}" fill="hsl({hue},55%,60%)"{edge}>'
            f"<title>{html.escape(words)}{', late' if late else ''}</title></rect>"
        )
    base = height - 16
    for number in range(7):
        at = end * number / 6
        x = LEFT + at * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{base - 8}" stroke="#bbb" stroke-width="0.5"/>'
        )
        parts.append(f'<text x="{x:.1f}" y="{base + 4}" text-anchor="middle">{_time(at)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def page(problem: Problem, charts: Mapping[str, Schedule], head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML page with the table of costs and one chart for each schedule; needs nothing else."""
    return page_of([svg(problem, schedule, title=name) for name, schedule in charts.items()], head, rows)


def page_of(pictures: Sequence[str], head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML page of a table and of charts that are drawn already."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Schedules</title>'
        "<style>body{font-family:sans-serif;margin:2em}table{border-collapse:collapse;margin-bottom:2em}"
        "td,th{padding:.3em .8em;text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child{text-align:left}svg{display:block;margin-bottom:2em}</style>"
        f"<table><tr>{cells}</tr>{body}</table>{''.join(pictures)}</html>\n"
    )


def _last(runs: Sequence[Run]) -> dict[int | str, float]:
    ends: dict[int | str, float] = {}
    for run in runs:
        ends[run.job] = max(run.end_s, ends.get(run.job, 0.0))
    return ends


def _lanes(runs: Sequence[Run]) -> list[tuple[Run, int]]:
    """Each run with the first of its node's GPUs that the chart shows it on."""
    lanes: list[tuple[Run, int]] = []
    busy: dict[int, list[tuple[float, int, int]]] = {}  # node -> end, lane, GPUs
    for run in sorted(runs, key=lambda one: (one.start_s, -one.gpus)):
        there = [one for one in busy.get(run.node, []) if one[0] > run.start_s + 1e-6]
        taken = {lane + offset for _, lane, gpus in there for offset in range(gpus)}
        lane = 0
        while any(lane + offset in taken for offset in range(run.gpus)):
            lane += 1
        busy[run.node] = [*there, (run.end_s, lane, run.gpus)]
        lanes.append((run, lane))
    return lanes


def _time(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} d"
