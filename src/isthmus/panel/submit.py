"""Submitting: a form made from the job's type, what each site says to it before it is sent, old jobs as a beginning."""

import dataclasses
import secrets
from typing import Any

from starlette.datastructures import MultiDict
from starlette.responses import Response

from isthmus import codec
from isthmus.control.artefacts import ArtefactFilter
from isthmus.domain.artefacts import ArtefactKind
from isthmus.domain.errors import Invalid, IsthmusError
from isthmus.domain.jobs import JobRequest
from isthmus.domain.reasons import Reason
from isthmus.domain.views import Explanation
from isthmus.panel import fields, forms
from isthmus.panel.forms import Field, Filled
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

# Fields of the request by section. One that stands in none is in the last.
SECTIONS: dict[str, tuple[str, ...]] = {
    "What": ("name", "command", "script", "image"),
    "Resources": ("resources",),
    "Data": ("inputs", "outputs", "stdout", "stderr"),
    "Environment": ("env", "secrets"),
    "Where and when": ("sites", "constraints", "priority", "deadline", "after", "wait_for_site", "site_options"),
    "Number of GPUs by deadline": ("sizing",),
    "If it fails": ("retry", "checkpoint", "grace"),
    "Many at once": ("array",),
    "More": ("labels", "launcher"),
}
OPEN = ("What", "Resources")

LABELS = {
    "resources.cpus": "Cores on a node",
    "resources.mem": "Memory on a node",
    "resources.gpus": "GPUs on a node",
    "resources.gpu_type": "GPU type",
    "resources.gpu_mem": "Memory of each GPU",
    "resources.time": "Time limit",
    "resources.tasks_per_node": "Ranks on a node",
    "resources.scratch": "Local scratch",
    "env": "Environment variables",
    "after": "After other jobs",
    "retry.attempts": "Attempts at most",
    "retry.on": "Also after",
    "retry.mem_factor": "Memory times, after OOM",
    "retry.delay": "Pause before the second",
    "retry.infrastructure": "After faults of the place",
    "array.size": "Number of jobs",
    "array.parameters": "Or parameters, a list in YAML",
    "site_options": "Options of the batch system, in YAML",
    "sizing.times": "Run time with 1, 2, … GPUs, in YAML",
    "sizing.late_per_hour": "Price of an hour too late",
    "stdout": "Standard output into",
    "stderr": "Standard error into",
}
HELP = {
    "command": "Words as in a shell; no shell reads them. Or a script:",
    "script": "Its first line may name the interpreter, like #!/usr/bin/env python3; else sh.",
    "image": "A registered image, or what a site pulls, like docker://python:3.12. Empty: none.",
    "resources.mem": "Like 4GiB. Empty: the site's default.",
    "resources.time": "Like 90m or 1-00:00:00. Empty: the site's default.",
    "resources.gpu_type": "As the site names it, like a100. Empty: any.",
    "inputs": "What is put into the work folder before it starts: a dataset, or an output of another job.",
    "outputs": "Files that it leaves, brought home when it ends. A path may be a pattern, like ckpt/*.",
    "secrets": "Variable, and the name of the secret that it gets.",
    "sites": "None marked: anywhere it fits.",
    "constraints": "One a line, like: zone is EU",
    "priority": "Higher goes first.",
    "deadline": "In UTC. Not started by then, it fails.",
    "wait_for_site": "Accept it though no site of today could run it.",
    "site_options": "Like slurm: {qos: long}",
    "sizing.times": "Like a100: [9h, 5h, 4h]. For sites with the policy deadline-cost; give a deadline too.",
    "sizing.late_per_hour": "In the currency of the sites' prices.",
    "checkpoint": "Keep $ISTHMUS_CHECKPOINT across attempts.",
    "grace": "Between SIGTERM and SIGKILL. Empty: 30 seconds.",
    "array.parameters": "A list like [{lr: 0.1}, {lr: 0.3}]: {lr} in the command, $lr in the environment.",
    "after": "It waits until they have ended so.",
    "retry.on": "Reasons that are the job's own, after which it is tried again all the same.",
}
RETRY_ON = (Reason.OOM, Reason.TIMEOUT, Reason.EXIT_CODE, Reason.SIGNAL, Reason.COMMAND, Reason.CONTAINER)


def _labelled(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    found = []
    for one in fields:
        choices = tuple(reason.value for reason in RETRY_ON) if one.name == "retry.on" else one.choices
        found.append(
            dataclasses.replace(
                one, label=LABELS.get(one.name, one.label), fields=_labelled(one.fields), choices=choices
            )
        )
    return tuple(found)


FIELDS = _labelled(forms.fields_of(JobRequest))
BY_NAME = {one.name: one for one in FIELDS}


def sections() -> list[tuple[str, list[Field]]]:
    """The fields by section."""
    placed = {name for names in SECTIONS.values() for name in names}
    found = [(title, [BY_NAME[name] for name in names]) for title, names in SECTIONS.items()]
    found[-1][1].extend(one for one in FIELDS if one.name not in placed)
    return found


@pages.get("/submit")
async def blank(visitor: Visitor) -> Response:
    """The form: empty, or from an old job, or with a dataset or an image."""
    typed = MultiDict()
    if visitor.query.get("job"):
        old = await visitor.services.jobs.get(visitor.caller, visitor.number("job"))
        assert old.spec is not None
        typed = _typed_of_spec(codec.changed(old.spec))
    if visitor.query.get("image"):
        typed = MultiDict([("image", visitor.query["image"][:300])])
    if visitor.query.get("dataset"):
        name = visitor.query["dataset"][:300]
        typed = MultiDict([("inputs[0].dataset", name), ("inputs[0].path", name.partition("@")[0])])
    return await _page(visitor, Filled(typed), cloned=visitor.number("job"))


def _typed_of_spec(plain: dict[str, Any]) -> MultiDict:
    """An element of an array is cloned by itself: what its index was is no wish of its new owner."""
    env = {name: value for name, value in plain.get("env", {}).items() if name != "ISTHMUS_ARRAY_INDEX"}
    return forms.typed_of(FIELDS, {**plain, "env": env})


@pages.post("/submit")
async def submit(visitor: Visitor) -> Response:
    """Submit what was typed; or preview it, or show more rows; or take a whole job from YAML into the form."""
    typed = forms.compacted(FIELDS, await visitor.form())
    more = str(typed.get("more", ""))
    if more:
        return await _page(visitor, Filled(typed, more=more))
    try:
        if typed.get("from_yaml"):
            return await _page(visitor, Filled(_from_yaml(str(typed.get("yaml", "")))))
        request = _request(typed)
        if typed.get("preview") or visitor.partial == "preview":
            said = await visitor.services.jobs.preview(visitor.caller, request)
            return await _page(visitor, Filled(typed), explanation=said)
        key = str(typed.get("key", ""))
        jobs = await visitor.services.jobs.submit(visitor.caller, [request], request_key=f"panel-{key}" if key else "")
    except IsthmusError as error:
        faults = forms.faults_of(error) if isinstance(error, Invalid) else {error.place: str(error.message)}
        return await _page(visitor, Filled(typed, faults), error=error)
    if len(jobs) == 1:
        return visitor.go(f"/jobs/{jobs[0].id}", said=f"Job {jobs[0].id} is submitted.")
    return visitor.go(f"/jobs?array={jobs[0].id}", said=f"{len(jobs)} jobs are submitted.")


def _request(typed: MultiDict) -> JobRequest:
    """Raises Invalid."""
    plain = forms.read(FIELDS, typed)
    for name, marks in (("retry", ("infrastructure",)), ("outputs", ("collect",))):
        _negatives(plain, typed, name, marks)
    return codec.read(JobRequest, plain)


def _negatives(plain: dict[str, Any], typed: MultiDict, name: str, marks: tuple[str, ...]) -> None:
    """Marks that are set unless they are taken off: an empty box is not sent, so the form says that it was there."""
    if name == "retry":
        for one in marks:
            if typed.get(f"shown:{name}.{one}") and not typed.get(f"{name}.{one}"):
                plain.setdefault(name, {})[one] = False
        return
    for number, row in enumerate(plain.get(name, [])):
        for one in marks:
            row.pop(one, None)
            if typed.get(f"shown:{name}") and not typed.get(f"{name}[{number}].{one}"):
                row[one] = False


def _from_yaml(text: str) -> MultiDict:
    request = codec.read(JobRequest, fields.document(text, "yaml"))
    return forms.typed_of(FIELDS, codec.changed(request))


async def _page(
    visitor: Visitor,
    filled: Filled,
    *,
    error: IsthmusError | None = None,
    explanation: Explanation | None = None,
    cloned: int = 0,
) -> Response:
    context: dict[str, Any] = {}
    if visitor.partial != "preview":
        context = await _known(visitor)
    # A preview that finds faults is no failure: its words go into the page.
    status = error.status if error and visitor.partial != "preview" else 200
    return visitor.page(
        "submit.html",
        status=status,
        sections=sections(),
        open=OPEN,
        help=HELP,
        filled=filled,
        error=error,
        explanation=explanation,
        cloned=cloned,
        key=str(filled.typed.get("key", "")) or secrets.token_hex(12),
        **context,
    )


async def _known(visitor: Visitor) -> dict[str, Any]:
    """What may be named: sites, images, datasets, secrets."""
    caller, services = visitor.caller, visitor.services
    newest = ArtefactFilter(limit=200)
    images = await services.artefacts.list(caller, ArtefactKind.IMAGE, newest)
    datasets = await services.artefacts.list(caller, ArtefactKind.DATASET, newest)
    return {
        "sites": [site.name for site in await services.sites.list(caller)],
        "images": list(dict.fromkeys(one.name for one in images.artefacts)),
        "datasets": list(dict.fromkeys(one.name for one in datasets.artefacts)),
        "secrets": [one.name for one in await services.identity.secrets(caller)],
    }
