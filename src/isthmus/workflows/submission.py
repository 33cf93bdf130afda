"""A run as a job: its documents, inputs and bindings handed to a server, whose job drives the graph.

The job's program is `isthmus.cli.drive`. Its run lies in the job's checkpoint folder: another attempt goes on with it.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.data import digests
from isthmus.domain.errors import Forbidden, Invalid, NotFound
from isthmus.domain.jobs import Input, JobRequest, Output, Resources, Retry
from isthmus.domain.reasons import Reason
from isthmus.workflows.cwl.opening import Opened
from isthmus.workflows.driver.results import located
from isthmus.workflows.hidden import MASK
from isthmus.workflows.locations import DATASET, path_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.client import AsyncClient
    from isthmus.domain.views import JobView

BUNDLE, ORDER, OUT, CRATE = "bundle", "order.json", "out", "crate"
LABEL, SUBMITTED = "isthmus.workflow", "isthmus.submitted"
WITHHELD = "ISTHMUS_WORKFLOW_SECRETS"
TOKEN_DAYS = 90
RETRY_DAYS = 7


async def submit(
    client: "AsyncClient",
    opened: Opened,
    *,
    bindings: Path | None = None,
    workflow: str = "",
    site: str = "local",
    cpus: int = 1,
    reuse: bool = True,
    stop_early: bool = True,
) -> "JobView":
    """Hand a run to a server; its job. The site must be on the server's machine, for it runs the server's own Python.

    Raises Invalid where documents lie on the network.
    """
    server = await client.server()
    run = secrets.token_hex(6)
    await sweep(client)
    withheld = {name: opened.given[name] for name in opened.program.secrets() if name in opened.given}
    given, inputs = await _inputs(client, {**opened.given, **dict.fromkeys(withheld, MASK)}, run, bindings is None)
    expires = datetime.now(UTC) + timedelta(days=TOKEN_DAYS)
    token = await client.tokens.create(named(run), scopes=("read", "jobs", "data"), expires_at=expires)
    kept = {"ISTHMUS_TOKEN": (named(run), token.token)}
    if withheld:
        kept[WITHHELD] = (f"{named(run)}-inputs", json.dumps(withheld))
    with tempfile.TemporaryDirectory() as folder:
        process = _documents(opened, Path(folder))
        if bindings is not None:
            shutil.copyfile(bindings, Path(folder) / "bindings.yml")
        if client.connection.config.ca:
            (Path(folder) / "ca.pem").write_text(client.connection.config.ca)
        order = {
            "name": opened.program.name,
            "process": process,
            "given": given,
            "requirements": opened.requirements,
            "bindings": bindings is not None,
            "workflow": workflow,
            "reuse": reuse,
            "run": run,
            "token": token.id,
            "secrets": [name for name, _ in kept.values()],
            "settings": {"cpus": float(cpus), "stop_early": stop_early},
        }
        (Path(folder) / ORDER).write_text(json.dumps(order))
        bundle = await _dataset(client, folder, run)
    for name, value in kept.values():
        await client.secrets.set(name, value)
    try:
        return await client.jobs.submit(
            JobRequest(
                name=f"workflow {opened.program.name}"[:190],
                command=(server.python, "-m", "isthmus.cli.drive"),
                env={"ISTHMUS_URL": client.connection.config.url, "PYTHONUNBUFFERED": "1"},
                secrets={variable: name for variable, (name, _) in kept.items()},
                resources=Resources(cpus=cpus),
                inputs=(Input(path=BUNDLE, dataset=bundle), *inputs),
                outputs=(Output(path=OUT, optional=True), Output(path=CRATE, optional=True)),
                sites=(site,),
                checkpoint=True,
                retry=Retry(attempts=20, on=(Reason.SIGNAL,)),
                labels={LABEL: opened.program.name, SUBMITTED: run},
            )
        )
    except BaseException:
        await forget(client, token.id, [name for name, _ in kept.values()])
        raise


def named(run: str) -> str:
    """The name of a run's token, and of the secret that holds it."""
    return f"workflow-{run}"


async def forget(client: "AsyncClient", token: int, names: "Iterable[str]") -> None:
    """Remove what a run was given to speak with the server: its secrets, and then its token, by itself if need be."""
    for name in names:
        with contextlib.suppress(NotFound):
            await client.secrets.remove(name)
    with contextlib.suppress(NotFound):
        await client.tokens.revoke(token)


async def sweep(client: "AsyncClient") -> None:
    """Remove tokens and secrets of one's runs that have ended without doing so: killed ones, and long failed ones.

    A failed run keeps its own for a while, since `isthmus job retry` goes on with it.
    """
    left = {each.name: each.id for each in await client.tokens.list() if _of_a_run(each.name) and not each.revoked_at}
    if not left:
        return
    names = [each.name for each in await client.secrets.list()]
    for name, token in left.items():
        page = await client.jobs.list(label={SUBMITTED: name.removeprefix(named(""))}, limit=1)
        if page.jobs and not _over(page.jobs[0]):
            continue
        try:
            await forget(client, token, [each for each in names if each.startswith(name)])
        except Forbidden:
            return  # this token may not revoke others: they end by themselves


def _of_a_run(name: str) -> bool:
    return re.fullmatch(named("[0-9a-f]{12}"), name) is not None


def _over(job: "JobView") -> bool:
    if not job.state.ended:
        return False
    if job.state.value != "FAILED" or job.ended_at is None:
        return True
    return datetime.now(UTC) - job.ended_at > timedelta(days=RETRY_DAYS)


def _documents(opened: Opened, folder: Path) -> str:
    """Copy what the process consists of; its address in the bundle."""
    address, hash_, name = opened.address.partition("#")
    documents = [os.path.abspath(each) for each in {address, *opened.documents}]
    far = [each for each in opened.documents if each.startswith(("http://", "https://"))]
    if far:
        raise Invalid(f"{far[0]} is on the network: bring it here first.", place="process")
    root = os.path.commonpath([os.path.dirname(each) for each in documents])
    for each in documents:
        target = folder / "documents" / os.path.relpath(each, root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(each):
            shutil.copytree(each, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(each, target)
    return f"documents/{os.path.relpath(address, root)}{hash_}{name}"


async def _inputs(
    client: "AsyncClient", given: dict[str, Any], run: str, stays: bool
) -> tuple[dict[str, Any], list[Input]]:
    """The inputs with files by the paths that they get in the job's work folder, and the job's inputs.

    Registered data goes to the sites of the steps that read it; where all steps stay with the driver, to it.
    """
    found = json.loads(json.dumps(given))
    inputs: list[Input] = []
    for number, file in enumerate(located(found)):
        place = str(file["location"])
        path = path_of(place)
        if path or (stays and place.startswith(DATASET)):
            # Beside each other, for files that belong together are found by that.
            inside = f"inputs/{number if 'secondaryFiles' in file else 'f' + str(number)}/{file['basename']}"
            data = await _dataset(client, path, run) if path else place.removeprefix(DATASET)
            inputs.append(Input(path=inside, dataset=data))
            file["location"] = inside
    return found, inputs


async def _dataset(client: "AsyncClient", path: str, run: str) -> str:
    name = f"workflow-{digests.measure_now(Path(path)).digest.removeprefix('sha256:')[:40]}"
    try:
        await client.datasets.get(f"{name}@1")
    except NotFound:
        await client.datasets.register(name, path, version="1", labels={"isthmus.run": run})
    return f"{name}@1"
