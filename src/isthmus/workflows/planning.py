"""A plan: where each step would go and why, before anything runs."""

from collections.abc import Mapping
from typing import Any

from isthmus.workflows.dataflow.graph import Graph, Step
from isthmus.workflows.placing import ANYWHERE, Bindings, Lying


def plan(graph: Graph, bindings: Bindings) -> list[dict[str, Any]]:
    """A row for each step that runs something: where it goes, why, and what it reads that lies elsewhere."""
    return list(_rows(graph, bindings, "", bindings.lying(graph)))


def _rows(graph: Graph, bindings: Bindings, around: str, lying: Mapping[str, Lying]) -> Any:
    for name, step in graph.steps.items():
        path = f"{around}/{name}" if around else name
        if isinstance(step.body, Graph):
            yield from _rows(step.body, bindings, path, _within(step, lying))
            continue
        target = bindings.target(path)
        moves = []
        for source in sorted({source.step for feed in step.inputs.values() for source in feed.sources if source.step}):
            other = f"{around}/{source}" if around else source
            if bindings.target(other).sites != target.sites:
                moves.append(f"what {other} leaves")
        moves += [
            f"{name} from {each.site}:{each.folder}"
            for name, each in sorted(_within(step, lying).items())
            if target.sites != (each.site,)
        ]
        yield {
            "step": path,
            "where": _where(target.sites),
            "why": _why(bindings, path),
            "scatter": bool(step.scatter),
            "moves": moves,
        }


def _within(step: Step, lying: Mapping[str, Lying]) -> dict[str, Lying]:
    """Where the files of a step's ports lie, for those that the graph around it was given."""
    fed = {port: [source.port for source in feed.sources if not source.step] for port, feed in step.inputs.items()}
    return {port: lying[name] for port, names in fed.items() for name in names if name in lying}


def _where(sites: tuple[str, ...]) -> str:
    return "any site" if sites == (ANYWHERE,) else " or ".join(sites)


def _why(bindings: Bindings, path: str) -> str:
    found = path
    while found:
        if found in bindings.choices:
            return "by its inputs"
        if found in bindings.steps:
            return "bound" if found == path else f"within {found}"
        found = found.rpartition("/")[0]
    return "not bound"
