"""`isthmus cp`: results home, files away; verified, and gone on with where it was cut."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import output
from isthmus.cli.calling import PATIENT_S, client, command

if TYPE_CHECKING:
    from isthmus.client import AsyncClient

_JOB = re.compile(r"^(\d+):(.*)$")
_NOUN = re.compile(r"^(dataset|image):(.+)$")


@command
async def cp(
    source: Annotated[
        str, typer.Argument(help="JOB:PATH, JOB: (all outputs), dataset:NAME, image:NAME, or a path here.")
    ],
    target: Annotated[
        str, typer.Argument(help="A path here, or dataset:NAME, image:NAME, each with @VERSION or without.")
    ] = ".",
) -> None:
    """Bring a job's outputs, a dataset or an image here; or register a file or folder of this machine.

    isthmus cp 17:model.pt .          isthmus cp 17: results/
    isthmus cp ./prices dataset:prices@2024
    """
    from isthmus.domain.errors import Invalid

    job, noun, away = _JOB.match(source), _NOUN.match(source), _NOUN.match(target)
    if (job or noun) and (away or _JOB.match(target)):
        raise Invalid("One of the two must be a path here.", place="TARGET")
    async with client(patience_s=PATIENT_S) as isthmus:
        if job:
            await _from_job(isthmus, int(job[1]), job[2], Path(target))
        elif noun:
            nouns = isthmus.datasets if noun[1] == "dataset" else isthmus.images
            with output.transfer(noun[2]) as progress:
                print(await nouns.download(noun[2], target, progress=progress))
        elif away:
            nouns = isthmus.datasets if away[1] == "dataset" else isthmus.images
            name, _, version = away[2].partition("@")
            with output.transfer(name) as progress:
                made = await nouns.register(name, source, version=version, progress=progress)
            print(f"{away[1]}:{made.name}@{made.version}")
        elif _JOB.match(target):
            raise Invalid(
                "A job's outputs are its own: nothing is copied there.",
                place="TARGET",
                hint="Register it (isthmus cp FILE dataset:NAME), then give it to a job with --input.",
            )
        else:
            raise Invalid(
                "Neither is a job's output, a dataset or an image.",
                place="SOURCE",
                hint="Write JOB:PATH, dataset:NAME or image:NAME.",
            )


async def _from_job(isthmus: "AsyncClient", job: int, path: str, to: Path) -> None:
    """One output, or all of them into a folder under their own paths."""
    from isthmus.client import downloads
    from isthmus.domain.errors import NotFound

    if path:
        with output.transfer(path) as progress:
            print(await isthmus.jobs.download(job, path.rstrip("/"), to, progress=progress))
        return
    found = await isthmus.jobs.outputs(job)
    if not found:
        raise NotFound(
            f"Job {job} left no outputs.", place="SOURCE", hint="Declare them with --output when you submit."
        )
    for each in found:
        with output.transfer(each.path) as progress:
            print(await downloads.output(isthmus.connection, each, to / each.path, progress=progress))
