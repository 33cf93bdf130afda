"""Where steps go: which sites, with what, by the step's path in the workflow. What a binding file comes to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.workflows.dataflow.graph import Graph
from isthmus.workflows.work import Image, StepFailed

if TYPE_CHECKING:
    from isthmus.domain.sites import SiteSpec

HERE = "here"
ANYWHERE = "anywhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a step may run: sites by name, ``here`` among them for the driver's own machine; none is anywhere."""

    sites: tuple[str, ...] = (HERE,)
    options: Mapping[str, Any] = field(default_factory=dict)  # of the batch system: {"slurm": {"qos": "long"}}
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)  # over those that the step asks for
    image: Image | None = None  # instead of what the step names
    place: str = ""  # where it is written

    @property
    def here(self) -> bool:
        """Whether it stays on the driver's machine."""
        return self.sites == (HERE,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    """Where the files of a workflow's input lie: their relative paths are below this folder of this site."""

    site: str  # HERE is the driver's own machine
    folder: str
    place: str = ""  # where it is written


@dataclass(frozen=True, slots=True)
class Choice:
    """A target for those runs of a step whose inputs have these values, as texts; none: for all."""

    when: Mapping[str, str]
    target: Target

    def fits(self, inputs: Mapping[str, Any]) -> bool:
        """Whether a run with these inputs may go there."""
        return all(name in inputs and str(inputs[name]) == value for name, value in self.when.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Bindings:
    """All bindings of a workflow. ``sites``: those that the file itself describes."""

    steps: Mapping[str, Target] = field(default_factory=dict)
    sites: "Mapping[str, SiteSpec]" = field(default_factory=dict)
    choices: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)  # by step, where its inputs decide
    images: Mapping[str, str] = field(default_factory=dict)  # a reference that a step names -> a registered image
    otherwise: Target = Target()
    data: Mapping[str, Lying] = field(default_factory=dict)  # by input, or by a step's port that an input feeds

    def target(self, step: str) -> Target:
        """Where the step of this path goes: by its own binding, or that of the nearest step around it."""
        path = step
        while path:
            if path in self.steps:
                return self.steps[path]
            if path in self.choices:
                return _any_of([choice.target for choice in self.choices[path]])
            path = path.rpartition("/")[0]
        return self.otherwise

    def chosen(self, step: str, inputs: Mapping[str, Any]) -> Target:
        """Where a run of the step with these inputs goes: to any of the choices that ask the most of them and fit.

        Raises StepFailed where none fits.
        """
        path = step
        while path and path not in self.steps:
            if path in self.choices:
                fitting = [choice for choice in self.choices[path] if choice.fits(inputs)]
                if not fitting:
                    raise StepFailed(
                        f"None of the targets of {path} is for these inputs ({self.choices[path][0].target.place})."
                    )
                most = max(len(each.when) for each in fitting)
                return _any_of([each.target for each in fitting if len(each.when) == most])
            path = path.rpartition("/")[0]
        return self.target(step)

    @property
    def targets(self) -> list[Target]:
        """All that are named."""
        chosen = (choice.target for choices in self.choices.values() for choice in choices)
        return [*self.steps.values(), *chosen, self.otherwise]

    def named_sites(self) -> set[str]:
        """Every site that a binding names."""
        named = {site for target in self.targets for site in target.sites}
        named |= {lying.site for lying in self.data.values()}
        return named - {HERE, ANYWHERE}

    @property
    def remote(self) -> bool:
        """Whether any step may leave the driver's machine."""
        return bool(self.named_sites()) or any(not target.here for target in self.targets)

    def lying(self, graph: Graph) -> dict[str, Lying]:
        """Where the files of the graph's inputs lie, for those that are not here. Raises Invalid."""
        return {_input_of(graph, path, lying): lying for path, lying in self.data.items()}

    def check(self, graph: Graph, known: Iterable[str] | None = None) -> None:
        """Raise Invalid where a binding names a step, a port or a site that does not exist."""
        self.lying(graph)
        paths = set(step_paths(graph))
        written = {**self.steps, **{step: choices[0].target for step, choices in self.choices.items()}}
        for step, target in written.items():
            if step not in paths:
                raise Invalid(
                    f"There is no step {step!r} in this workflow.", place=target.place, hint=nearest(step, paths)
                )
        if known is None:
            return
        sites = {*known, *self.sites, HERE, ANYWHERE}
        named = [(site, target.place) for target in self.targets for site in target.sites]
        for site, place in (*named, *((lying.site, lying.place) for lying in self.data.values())):
            if site not in sites:
                raise Invalid(f"There is no site {site!r}.", place=place, hint=nearest(site, sites))


def _any_of(targets: Sequence[Target]) -> Target:
    """Several targets as one, where only their sites differ; else the first."""
    first = targets[0]
    if any(replace(each, sites=first.sites, place=first.place) != first for each in targets):
        return first
    return replace(first, sites=tuple(dict.fromkeys(site for each in targets for site in each.sites)))


def _input_of(graph: Graph, path: str, lying: Lying) -> str:
    """The input of the graph that a path means: its own name, or a step's port that it feeds. Raises Invalid."""
    step, slash, rest = path.partition("/")
    if not slash:
        if path in graph.inputs:
            return path
        raise Invalid(f"There is no input {path!r}.", place=lying.place, hint=nearest(path, graph.inputs))
    found = graph.steps.get(step)
    if found is None:
        raise Invalid(
            f"There is no step {step!r} in this workflow.", place=lying.place, hint=nearest(step, graph.steps)
        )
    if rest in found.outputs:
        raise Invalid(
            f"{path} is an output: it stays at the site where its step runs.",
            place=lying.place,
            hint="Only data that the workflow is given can be said to lie at a site.",
        )
    port = _input_of(found.body, rest, lying) if isinstance(found.body, Graph) else rest
    if port not in found.inputs:
        raise Invalid(f"The step {step!r} has no port {port!r}.", place=lying.place, hint=nearest(port, found.inputs))
    sources = found.inputs[port].sources
    if len(sources) != 1 or sources[0].step:
        said = f"from the step {sources[0].step!r}" if sources and sources[0].step else "from several places"
        raise Invalid(
            f"{path} gets its value {said if sources else 'from the document'}.",
            place=lying.place,
            hint="Only data that the workflow is given can be said to lie at a site.",
        )
    return sources[0].port


def step_paths(graph: Graph, around: str = "") -> list[str]:
    """The paths of all steps, those within others too."""
    found = []
    for name, step in graph.steps.items():
        path = f"{around}/{name}" if around else name
        found.append(path)
        if isinstance(step.body, Graph):
            found += step_paths(step.body, path)
    return found


def step_of(task: str) -> str:
    """The step's path of a task, without scatter positions and rounds: ``train[3]/fit#1`` is ``train/fit``."""
    return "/".join(part.partition("[")[0].partition("#")[0] for part in task.split("/"))
