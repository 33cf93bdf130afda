"""Where a run's time went."""

from collections import defaultdict
from typing import Any

from isthmus.workflows.driver.book import Entry
from isthmus.workflows.placing import step_of

WIDTH = 50
MOST_LINES = 60


def summary(facts: dict[str, Any], entries: list[Entry]) -> dict[str, Any]:
    """Counts, times and use, by step and in all."""
    steps: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = step_of(entry.task)
        one = steps.setdefault(
            name,
            {
                "tasks": 0,
                "reused": 0,
                "failed": 0,
                "wall_s": 0.0,
                "cpu_s": 0.0,
                "wait_s": 0.0,
                "peak_mem": 0,
                "moved": 0,
                "cost": 0.0,
                "places": {},
            },
        )
        one["tasks"] += 1
        one["reused"] += entry.state == "reused"
        one["failed"] += entry.state == "failed"
        one["wall_s"] += entry.wall_s
        one["cpu_s"] += entry.cpu_s
        one["moved"] += entry.moved
        one["cost"] += entry.cost
        one["peak_mem"] = max(one["peak_mem"], entry.peak_mem)
        if entry.started and entry.queued:
            one["wait_s"] += max(0.0, entry.started - entry.queued)
        if entry.place:
            one["places"][entry.place] = one["places"].get(entry.place, 0) + 1
    took = (facts.get("ended") or 0) - facts["started"] if facts.get("ended") else None
    return {
        "took_s": took,
        "tasks": len(entries),
        "reused": sum(one["reused"] for one in steps.values()),
        "cpu_s": sum(one["cpu_s"] for one in steps.values()),
        "moved": sum(one["moved"] for one in steps.values()),
        "cost": sum(one["cost"] for one in steps.values()),
        "steps": steps,
    }


def lines(facts: dict[str, Any], entries: list[Entry]) -> list[str]:
    """The report as text: a summary by step, then a time line."""
    told = summary(facts, entries)
    took = f"{told['took_s']:.1f} s" if told["took_s"] is not None else "not ended"
    cost = f", cost {told['cost']:.4g}" if told["cost"] else ""
    found = [
        f"{facts['run']}: {facts['state']}, {took}, {told['tasks']} tasks ({told['reused']} reused), "
        f"{told['cpu_s']:.1f} s of CPU, {_bytes(told['moved'])} moved{cost}",
        "",
        f"{'STEP':30} {'TASKS':>6} {'REUSED':>6} {'RAN':>9} {'WAITED':>9} {'CPU':>9} {'PEAK':>8} {'MOVED':>8} "
        f"{'COST':>8}  WHERE",
    ]
    for name, one in told["steps"].items():
        where = ", ".join(f"{place} {count}" for place, count in sorted(one["places"].items()))
        found.append(
            f"{name[:30]:30} {one['tasks']:6} {one['reused']:6} {one['wall_s']:7.1f} s {one['wait_s']:7.1f} s "
            f"{one['cpu_s']:7.1f} s {one['peak_mem'] / 1e6:5.0f} MB {_bytes(one['moved']):>8} "
            f"{one['cost']:8.3g}  {where}"
        )
    return [*found, "", *_time_line(facts, entries)]


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} B"


def _time_line(facts: dict[str, Any], entries: list[Entry]) -> list[str]:
    shown = [entry for entry in entries if entry.started and entry.ended]
    if not shown:
        return []
    begin = facts["started"]
    end = max(entry.ended for entry in shown)
    scale = WIDTH / max(end - begin, 1e-6)
    by_step: dict[str, list[Entry]] = defaultdict(list)
    for entry in shown:
        by_step[step_of(entry.task)].append(entry)
    found = []
    for name, members in list(by_step.items())[:MOST_LINES]:
        line = [" "] * WIDTH
        for entry in members:
            first = min(WIDTH - 1, int((entry.started - begin) * scale))
            last = min(WIDTH - 1, int((entry.ended - begin) * scale))
            line[first : last + 1] = ["#" if entry.state != "failed" else "!"] * (last + 1 - first)
        found.append(f"{name[:30]:30} |{''.join(line)}|")
    return found
