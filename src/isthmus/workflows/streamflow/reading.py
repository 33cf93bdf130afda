"""`streamflow.yml` v1.0: its workflow, its inputs, and its bindings as ours.

What can be done here is done; what can't is refused by its name before anything runs. The format is that of StreamFlow
0.2's configuration schema (config_schema.json, v1.0).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.documents import Map, place_of
from isthmus.domain.errors import Invalid, nearest
from isthmus.workflows.placing import Bindings, Choice, Lying, Target
from isthmus.workflows.streamflow.deployments import Deployments

FILE = frozenset(
    {
        *("version", "workflows", "deployments", "models", "bindingFilters", "scheduling", "path", "database"),
        *("checkpointManager", "failureManager", "dataManager", "deploymentManager", "scheduler", "plugins"),
    }
)
WORKFLOW = frozenset({"type", "config", "bindings"})
CONFIG = frozenset({"file", "settings", "docker"})
BINDING = frozenset({"step", "port", "target", "filters"})
TARGET = frozenset({"deployment", "model", "service", "locations", "resources", "workdir"})
FILTERS = ("shuffle", "matching")
RULE, PREDICATE = frozenset({"target", "job"}), frozenset({"port", "match"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFlow:
    """What the file says. ``notes``: what is done otherwise here, for people."""

    name: str
    process: str
    inputs: str
    bindings: Bindings
    notes: tuple[str, ...] = ()


def is_streamflow(path: str) -> bool:
    """Whether a file looks like StreamFlow's."""
    if not path.endswith((".yml", ".yaml")) or not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8", errors="replace") as stream:
        text = stream.read(1 << 16)
    return "\nworkflows:" in f"\n{text}" and "\nversion:" in f"\n{text}"


def read(path: Path, workflow: str = "") -> StreamFlow:
    """The workflow of this name, or the only one. Raises Invalid with the line."""
    node = documents.read(path)
    if not isinstance(node, Map):
        raise Invalid("It holds no StreamFlow configuration.", place=f"{path}:1")
    _known(node, FILE)
    if str(node.get("version")) != "v1.0":
        raise Invalid(
            f"Version {node.get('version')} of StreamFlow's file is not known here; v1.0 is.", place=place_of(node)
        )
    notes = [
        f"{place_of(node, name)}: `{name}` is StreamFlow's own; Isthmus keeps, retries and schedules by its own means."
        for name in ("checkpointManager", "failureManager", "database", "scheduler", "dataManager", "deploymentManager")
        if name in node
    ]
    if node.get("plugins"):
        raise Invalid("StreamFlow's plug-ins can't be run here.", place=place_of(node, "plugins"))
    workflows = node.get("workflows") or Map()
    name = workflow or (next(iter(workflows)) if len(workflows) == 1 else "")
    if name not in workflows:
        said = f"There is no workflow {name!r} here." if name else "There are several workflows here: name one."
        raise Invalid(said, place=place_of(node, "workflows"), hint=nearest(name, workflows))
    one = workflows[name]
    _known(one, WORKFLOW)
    if one.get("type") != "cwl":
        raise Invalid(f"Workflows of type {one.get('type')!r} can't be run here; cwl can.", place=place_of(one, "type"))
    config = one.get("config") or Map()
    _known(config, CONFIG)
    if config.get("docker"):
        raise Invalid("`docker` of a workflow's config is not done here.", place=place_of(config, "docker"))
    folder = path.absolute().parent
    deployments = Deployments(node.get("deployments") or node.get("models") or Map(), folder)
    filters = _filters(node.get("bindingFilters") or Map())
    steps: dict[str, Target] = {}
    choices: dict[str, tuple[Choice, ...]] = {}
    data: dict[str, Lying] = {}
    for binding in one.get("bindings") or ():
        if "port" in binding:
            data[str(binding["port"]).strip("/")] = _port(binding, deployments)
            continue
        step, found = _binding(binding, deployments, filters)
        if isinstance(found, Target):
            steps[step] = found
        else:
            choices[step] = found
    return StreamFlow(
        name=name,
        process=str(folder / str(config["file"])),
        inputs=str(folder / str(config["settings"])) if config.get("settings") else "",
        bindings=Bindings(steps=steps, choices=choices, data=data, sites=deployments.sites()),
        notes=(*notes, *deployments.notes),
    )


Rules = list[tuple[str, str, dict[str, str]]]  # of a filter: deployment, service ("": any), values of inputs


def _binding(
    node: Map, deployments: Deployments, filters: Mapping[str, Rules | None]
) -> tuple[str, Target | tuple[Choice, ...]]:
    _known(node, BINDING)
    for name in node.get("filters") or ():
        if name not in filters:
            raise Invalid(f"There is no filter {name!r}.", place=place_of(node, "filters"), hint=nearest(name, filters))
    targets = node.get("target")
    targets = targets if isinstance(targets, list) else [targets]
    chosen = [_target(each, deployments, place_of(node, "target")) for each in targets]
    step = str(node.get("step", "")).strip("/")
    rules = [rule for name in node.get("filters") or () for rule in filters[name] or ()]
    if rules:
        return step, _choices(targets, chosen, rules, place_of(node, "filters"))
    if len(chosen) == 1:
        return step, chosen[0]
    if any(each.image or each.options or each.resources for each in chosen):
        raise Invalid(
            "Several targets of different services or images for one step can't be done.",
            place=place_of(node, "target"),
        )
    return step, Target(sites=tuple(site for each in chosen for site in each.sites), place=place_of(node, "target"))


def _port(node: Map, deployments: Deployments) -> Lying:
    """Where the files of a port lie: with StreamFlow, at the first of its targets."""
    _known(node, BINDING)
    targets = node.get("target")
    first = targets[0] if isinstance(targets, list) and targets else targets
    if not isinstance(first, Map):
        raise Invalid("A port's target names its deployment and its workdir.", place=place_of(node, "port"))
    folder = str(first.get("workdir") or "")
    if not folder.startswith("/"):
        raise Invalid(
            f"The target of the port {node['port']!r} needs the absolute path of its files' folder as `workdir`.",
            place=place_of(first, "workdir") if "workdir" in first else place_of(node, "port"),
        )
    found = _target(first, deployments, place_of(node, "target"))
    if found.image is not None:
        raise Invalid(f"The port {node['port']!r} can't lie in a container: nothing is kept there.", place=found.place)
    return Lying(site=found.sites[0], folder=folder, place=place_of(node, "port"))


def _target(node: Any, deployments: Deployments, place: str) -> Target:
    if not isinstance(node, Map):
        raise Invalid("A target names its deployment.", place=place)
    _known(node, TARGET)
    name = str(node.get("deployment") or node.get("model") or "")
    count = node.get("locations") or node.get("resources") or 1
    return deployments.target(name, str(node.get("service") or ""), int(count), place_of(node, "deployment") or place)


def _choices(targets: list[Any], chosen: list[Target], rules: Rules, place: str) -> tuple[Choice, ...]:
    """The targets that some rule of a filter lets pass, each with what it asks of the inputs."""
    found = []
    for node, target in zip(targets, chosen, strict=True):
        names = str(node.get("deployment") or node.get("model") or ""), str(node.get("service") or "")
        found += [
            Choice(when, target) for name, service, when in rules if name == names[0] and service in ("", names[1])
        ]
    if not found:
        raise Invalid("The filter lets none of the targets pass.", place=place)
    return tuple(found)


def _filters(node: Mapping[str, Any]) -> dict[str, Rules | None]:
    """The filters by name, with their rules; None: it lets all pass, in some order."""
    found: dict[str, Rules | None] = {"shuffle": None}
    for name, each in node.items():
        kind = each.get("type")
        if kind not in FILTERS:
            raise Invalid(
                f"Filters of type {kind!r} can't be done here.",
                place=place_of(node, name),
                hint=nearest(str(kind), FILTERS),
            )
        found[name] = None if kind == "shuffle" else _rules(each)
    return found


def _rules(node: Map) -> Rules:
    written = (node.get("config") or Map()).get("filters")
    if not isinstance(written, list) or not written:
        raise Invalid("A matching filter needs a list of `filters`.", place=place_of(node, "config") or place_of(node))
    found = []
    for each in written:
        _known(each, RULE)
        target = each.get("target")
        name, service = (target, "") if isinstance(target, str) else (target.get("deployment"), target.get("service"))
        when = {}
        for predicate in each.get("job") or ():
            _known(predicate, PREDICATE)
            when[str(predicate["port"]).strip("/")] = str(predicate["match"])
        found.append((str(name or ""), str(service or ""), when))
    return found


def _known(node: Map, names: frozenset[str]) -> None:
    for name in node:
        if name not in names:
            raise Invalid(f"There is no {name!r} here.", place=place_of(node, name), hint=nearest(name, names))
