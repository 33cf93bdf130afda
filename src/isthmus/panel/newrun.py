"""Handing in a workflow: its files, its inputs, where steps go; checked, planned and drawn before it is sent.

It goes the way that `isthmus workflow submit` takes (`isthmus.workflows.submission`), by a client that speaks to the
API within this process. What was given lies in a folder of its own meanwhile, and nothing outside that is read.
"""

import asyncio
import contextlib
import json
import re
import tarfile
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
from markupsafe import Markup
from starlette.datastructures import MultiDict
from starlette.responses import Response

from isthmus.client import AsyncClient
from isthmus.client.config import Config
from isthmus.control.rights import require
from isthmus.documents import written
from isthmus.domain.artefacts import ArtefactKind
from isthmus.domain.errors import Invalid, IsthmusError, NotFound
from isthmus.domain.users import Role, Scope
from isthmus.panel.visitor import Pages, Visitor
from isthmus.workflows import bindings as binding_files
from isthmus.workflows import drawing, planning, submission
from isthmus.workflows.cwl import opening
from isthmus.workflows.cwl.opening import Opened
from isthmus.workflows.placing import Bindings

pages = Pages()

MOST_FILES = 200
MOST_BYTES = 8 << 20  # of a run's bundle that is read back into the form
INPUTS, BINDINGS = ".isthmus-inputs.yml", ".isthmus-bindings.yml"
FIELDS = ("process", "inputs", "bindings", "site", "cpus")


@dataclass(slots=True)
class Draft:
    """What was typed, and what is wrong with it."""

    files: list[tuple[str, str]]  # name, content
    process: str = ""
    inputs: str = ""
    bindings: str = ""
    site: str = ""
    cpus: str = "1"
    fresh: bool = False  # take no results of earlier runs
    keep_going: bool = False
    faults: dict[str, list[str]] = field(default_factory=dict)  # by field: files[0], inputs, …; "": of none

    @classmethod
    def of(cls, form: MultiDict) -> "Draft":
        rows = range(min(MOST_FILES, len(form)))
        given = [
            (str(form.get(f"files[{row}].name", "")).strip(), str(form.get(f"files[{row}].text", ""))) for row in rows
        ]
        return cls(
            files=[(name, text) for name, text in given if name or text.strip()],
            process=str(form.get("process", "")).strip(),
            inputs=str(form.get("inputs", "")).strip(),
            bindings=str(form.get("bindings", "")).strip(),
            site=str(form.get("site", "")).strip(),
            cpus=str(form.get("cpus", "")).strip(),
            fresh=bool(form.get("fresh")),
            keep_going=bool(form.get("keep_going")),
        )

    def blame(self, error: IsthmusError, folder: str = "") -> None:
        """Put what an error says to the field that it is about."""
        each = error.faults if isinstance(error, Invalid) and error.faults else (error,)
        for fault in each:
            where, line = self._field(fault.place.removeprefix(folder).lstrip("/"))
            said = " ".join(filter(None, (line, fault.message, fault.hint))).replace(
                f"{folder}/" if folder else "\0", ""
            )
            self.faults.setdefault(where, []).append(said)

    def _field(self, place: str) -> tuple[str, str]:
        """Of a place such as ``tool.cwl:12``, ``inputs.reads``, ``cpus``: the field, and what names the line in it."""
        file, colon, line = place.rpartition(":")
        if not colon or not line.isdecimal():
            file, line = place, ""
        shown = f"Line {line}:" if line else ""
        for number, (name, _) in enumerate(self.files):
            if file.partition("#")[0] == name:
                return f"files[{number}]", shown
        if file == INPUTS or place.startswith("inputs."):
            return "inputs", shown
        if file == BINDINGS or file == "steps":
            return "bindings", shown
        return (place, "") if place in FIELDS or place.startswith("files[") else ("", f"{place}:" if place else "")


@dataclass(frozen=True, slots=True)
class Checked:
    """A draft that is good."""

    opened: Opened
    bindings: Bindings | None
    folder: Path

    @property
    def plan(self) -> list[dict[str, Any]]:
        return planning.plan(self.opened.program.graph, self.bindings or Bindings())

    @property
    def picture(self) -> Markup:
        """Its graph; the drawing escapes what it is given."""
        places = {row["step"]: row["where"] for row in self.plan} if self.bindings else {}
        return Markup(drawing.svg(self.opened.program.graph, places))


@pages.get("/workflows/new")
async def blank(visitor: Visitor) -> Response:
    """The form: empty, or with what an earlier run was handed in as."""
    require(visitor.caller, Role.MEMBER, Scope.JOBS)
    number = visitor.number("job")
    return await _page(visitor, await _of_run(visitor, number) if number else Draft([]), cloned=number)


@pages.post("/workflows/new")
async def hand_in(visitor: Visitor) -> Response:
    """Submit what was typed, or only check it."""
    require(visitor.caller, Role.MEMBER, Scope.JOBS)
    form = await visitor.form()
    draft = Draft.of(form)
    with tempfile.TemporaryDirectory(prefix="isthmus-workflow-") as folder:
        try:
            known = [site.name for site in await visitor.services.sites.list(visitor.caller)]
            good = await asyncio.to_thread(checked, draft, Path(folder), known)
            if not form.get("send"):
                return await _page(visitor, draft, checked=good)
            async with _client(visitor) as client:
                job = await submission.submit(
                    client,
                    good.opened,
                    bindings=good.folder / BINDINGS if good.bindings else None,
                    site=draft.site or "local",
                    cpus=_cpus(draft.cpus),
                    reuse=not draft.fresh,
                    stop_early=not draft.keep_going,
                )
        except IsthmusError as error:
            draft.blame(error, folder)
            return await _page(visitor, draft, status=error.status, sent=bool(form.get("send")))
    return visitor.go(f"/workflows/{job.id}", said=f"The run is job {job.id}.")


def checked(draft: Draft, folder: Path, known: list[str]) -> Checked:
    """Write the draft's files down, and read the workflow as a run would. Raises Invalid."""
    if not draft.files:
        raise Invalid("There is no file yet.", place="files[0]", hint="Choose a CWL file, or paste one.")
    for number, (name, text) in enumerate(draft.files):
        if not text.strip():
            raise Invalid("It is empty.", place=f"files[{number}]")
        path = folder / _name(name, number)
        if path.exists():
            raise Invalid(f"{name} is there twice.", place=f"files[{number}]")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise Invalid(f"{name} can't be a file here: {error.strerror}.", place=f"files[{number}]") from None
    _cpus(draft.cpus)
    process = draft.process or _first(draft)
    if PurePosixPath(process.partition("#")[0]).as_posix() not in {
        PurePosixPath(name).as_posix() for name, _ in draft.files
    }:
        raise Invalid(f"{process.partition('#')[0]} is not among the files.", place="process")
    (folder / INPUTS).write_text(draft.inputs or "{}\n")
    opened = opening.opened(str(folder / process), str(folder / INPUTS), within=str(folder))
    opening.check_types(opened)
    bindings = None
    if draft.bindings:
        (folder / BINDINGS).write_text(draft.bindings)
        bindings = binding_files.read(folder / BINDINGS)
        bindings.check(opened.program.graph, known)
    return Checked(opened, bindings, folder)


def _first(draft: Draft) -> str:
    """What is run where nothing is said: the first workflow, else the first file."""
    found = (name for name, text in draft.files if re.search(r"""^class: *["']?Workflow""", text, re.MULTILINE))
    return next(found, draft.files[0][0])


def _name(name: str, number: int) -> str:
    """A name of a file within the folder. Raises Invalid."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or len(name) > 200 or name.startswith("."):
        raise Invalid(
            f"{name[:60]!r} is not a name for a file here." if name else "It needs a name.",
            place=f"files[{number}]",
            hint="Such as main.cwl or tools/align.cwl.",
        )
    return path.as_posix()


def _cpus(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise Invalid(f"{text[:40]!r} is not a number of cores.", place="cpus")
    return int(text)


@contextlib.asynccontextmanager
async def _client(visitor: Visitor) -> AsyncIterator[AsyncClient]:
    """The API of this process, as the visitor, by a token that is revoked at the end."""
    identity, panel = visitor.services.identity, visitor.panel
    made = await identity.create_token(visitor.caller, "panel, while a workflow is handed in")
    config = Config(url=panel.url, token=made.token, ca=panel.parts["ca"])
    try:
        async with AsyncClient.of(config, transport=httpx.ASGITransport(panel.parts["api"])) as client:
            yield client
    finally:
        await identity.revoke_token(visitor.caller, made.id)


async def _of_run(visitor: Visitor, number: int) -> Draft:
    """What a run was handed in as: its bundle, read back. Files that it was given are its inputs' datasets."""
    job = await visitor.services.jobs.get(visitor.caller, number)
    spec = job.spec
    bundle = next((one.dataset for one in spec.inputs if one.path == submission.BUNDLE), "") if spec else ""
    if spec is None or not bundle:
        raise NotFound(f"Job {number} was not handed in as a workflow.", place="job")
    found = await visitor.services.artefacts.download(visitor.caller, ArtefactKind.DATASET, bundle)
    if found.size > MOST_BYTES:
        raise Invalid("What it consists of is too large for the form.", place="job", hint="Hand it in anew.")
    with tempfile.TemporaryFile() as file:
        async for part in found.data:
            file.write(part)
        file.seek(0)
        texts = _members(file)
    order = json.loads(texts.get(submission.ORDER, "{}"))
    data = {one.path: one.dataset for one in spec.inputs}
    prefix = "documents/"
    return Draft(
        [(name.removeprefix(prefix), text) for name, text in texts.items() if name.startswith(prefix)],
        process=str(order.get("process", "")).removeprefix(prefix),
        inputs=written(_relocated(order.get("given", {}), data)) if order.get("given") else "",
        bindings=texts.get("bindings.yml", ""),
        site=next(iter(spec.sites), ""),
        cpus=str(spec.resources.cpus),
        fresh=not order.get("reuse", True),
        keep_going=not order.get("settings", {}).get("stop_early", True),
    )


def _members(file: Any) -> dict[str, str]:
    """The texts in a folder's tar by their names; what is no text is left out."""
    found = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                with contextlib.suppress(UnicodeDecodeError):
                    found[member.name] = content.read().decode()
    return found


def _relocated(value: Any, data: dict[str, str]) -> Any:
    """Inputs whose files lay with the run's job, by the registered data that they came from."""
    if isinstance(value, list):
        return [_relocated(each, data) for each in value]
    if isinstance(value, dict):
        found = {name: _relocated(each, data) for name, each in value.items()}
        if found.get("class") in ("File", "Directory") and found.get("location") in data:
            found["location"] = f"dataset:{data[found['location']]}"
        return found
    return value


async def _page(
    visitor: Visitor,
    draft: Draft,
    *,
    status: int = 200,
    sent: bool = False,
    checked: Checked | None = None,
    cloned: int = 0,
) -> Response:
    sites = await visitor.services.sites.list(visitor.caller)
    return visitor.page(
        "workflow-new.html",
        status=status,
        draft=draft,
        sent=sent,
        rows=[*draft.files, *([("", "")] if len(draft.files) < MOST_FILES else [])],
        checked=checked,
        cloned=cloned,
        sites=[site.name for site in sites if site.kind == "local"],
        known=[site.name for site in sites],
    )
