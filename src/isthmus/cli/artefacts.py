"""`isthmus dataset` and `isthmus image`: content that jobs use, registered once, brought to sites when needed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import output
from isthmus.cli.calling import client, command
from isthmus.cli.jobrequest import pair
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.client import AsyncClient
    from isthmus.client.artefacts import Artefacts
    from isthmus.domain.artefacts import Artefact

Name = Annotated[str, typer.Argument(help="NAME (its newest version) or NAME@VERSION.")]


def _app(noun: str, what: str) -> typer.Typer:
    """The commands of one kind."""
    app = typer.Typer(help=what, no_args_is_help=True)

    def nouns(isthmus: "AsyncClient") -> "Artefacts":
        found: Artefacts = getattr(isthmus, f"{noun}s")
        return found

    @app.command(
        "add", help=f"Register a{'n' if noun[0] == 'i' else ''} {noun}: upload a file or folder, or name a reference."
    )
    @command
    async def add(
        name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION; without, the next number.")],
        path: Annotated[Path | None, typer.Argument(help="A file or folder here.", show_default=False)] = None,
        reference: Annotated[
            str, typer.Option("--reference", help="What sites pull themselves, or SITE:/path of what lies there.")
        ] = "",
        on_server: Annotated[str, typer.Option("--server-path", help="A path on the server's machine (admins).")] = "",
        zone: Annotated[list[str] | None, typer.Option("--zone", help="It may be in these zones only.")] = None,
        label: Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE.")] = None,
        description: Annotated[str, typer.Option("--description", help="What it is.")] = "",
        kind: Annotated[str, typer.Option("--image-format", help="sif, sqfs, oci-archive, …; else found out.")] = "",
        form: Output = Format.TABLE,
    ) -> None:
        from isthmus.domain.artefacts import Artefact, ImageFormat
        from isthmus.domain.errors import Invalid

        if sum(map(bool, (path, reference, on_server))) != 1:
            raise Invalid("Give one of: a path here, --reference, --server-path.", place="PATH")
        bare, _, version = name.partition("@")
        labels = dict(pair(each, "--label") for each in label or ())
        zones = tuple(zone or ())
        fmt = ImageFormat(kind) if kind else None
        async with client() as isthmus:
            if path is not None:
                with output.transfer(f"{bare}") as progress:
                    made = await nouns(isthmus).register(
                        bare, path, version=version, zones=zones, labels=labels, description=description,
                        format=fmt, progress=progress,
                    )  # fmt: skip
            else:
                register = nouns(isthmus).register_reference if reference else nouns(isthmus).register_path
                made = await register(
                    bare, reference or on_server, version=version, zones=zones, labels=labels,
                    description=description, format=fmt,
                )  # fmt: skip
        output.show(made, Artefact, form, lambda: _one(made))

    @app.command("ls", help=f"List {noun}s, the newest first.")
    @command
    async def ls(
        name: Annotated[str, typer.Argument(help="A part of the name.")] = "",
        label: Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE.")] = None,
        limit: Annotated[int, typer.Option("-n", help="How many at most.", min=1, max=1000)] = 50,
        form: Output = Format.TABLE,
    ) -> None:
        from isthmus.domain.artefacts import Artefact
        from isthmus.domain.units import show_bytes

        labels = dict(pair(each, "--label") for each in label or ())
        async with client() as isthmus:
            page = await nouns(isthmus).list(name=name, label=labels, limit=limit)
        rows = [
            [
                each.name,
                each.version,
                show_bytes(each.size) if each.digest else "",
                ("folder" if each.is_folder else "file") if each.format is None else each.format.value,
                ",".join(each.zones),
                each.owner,
                output.when(each.created_at),
                each.description or each.reference,
            ]
            for each in page.artefacts
        ]
        head = ("NAME", "VERSION", "SIZE", "KIND", "ZONES", "OWNER", "ADDED", "DESCRIPTION")
        empty = f"There is no {noun}: isthmus {noun} add"
        output.show(list(page.artefacts), list[Artefact], form, lambda: output.table(head, rows, empty=empty))

    @app.command("show", help=f"Show one {noun} and its versions.")
    @command
    async def show(name: Name, form: Output = Format.TABLE) -> None:
        from isthmus.domain.artefacts import Artefact

        async with client() as isthmus:
            found = await nouns(isthmus).get(name)
            versions = await nouns(isthmus).versions(found.name)
        output.show(found, Artefact, form, lambda: _one(found, versions))

    @app.command("replicas", help=f"Show where the copies of one {noun} lie.")
    @command
    async def replicas(name: Name, form: Output = Format.TABLE) -> None:
        from isthmus.domain.artefacts import Replica
        from isthmus.domain.units import show_bytes

        async with client() as isthmus:
            found = await nouns(isthmus).replicas(name)
        rows = [
            [
                each.site or "(this server)",
                each.state.value,
                show_bytes(each.bytes_done),
                output.when(each.last_used_at),
                each.path,
                each.error,
            ]
            for each in found
        ]
        head = ("SITE", "STATE", "THERE", "LAST USED", "PATH", "MESSAGE")
        output.show(found, list[Replica], form, lambda: output.table(head, rows, empty="It has no copies."))

    @app.command("get", help=f"Bring one {noun} here, verified; goes on where an earlier call was cut.")
    @command
    async def get(name: Name, to: Annotated[Path, typer.Argument(help="A file, or a folder to put it into.")]) -> None:
        async with client() as isthmus:
            with output.transfer(name) as progress:
                print(await nouns(isthmus).download(name, to, progress=progress))

    @app.command("rm", help=f"Take a version of a{'n' if noun[0] == 'i' else ''} {noun} out: new jobs can't name it.")
    @command
    async def rm(
        name: Name,
        force: Annotated[bool, typer.Option("--force", help="Though jobs that have not ended name it.")] = False,
        form: Output = Format.TABLE,
    ) -> None:
        from isthmus.domain.artefacts import Artefact

        async with client() as isthmus:
            gone = await nouns(isthmus).remove(name, force=force)
        line = f"{gone.name}@{gone.version} is out; its bytes go with the next `isthmus {noun} gc`."
        output.show(gone, Artefact, form, lambda: output.note(line))

    @app.command("gc", help="Take away copies that nothing needs; never what a job uses, nor a last copy.")
    @command
    async def gc(
        site: Annotated[
            str | None, typer.Option("--site", help='At this site only; "" is the server\'s store.')
        ] = None,
        unused: Annotated[str, typer.Option("--unused", help="What was not used for so long: 30d.")] = "",
        dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
        form: Output = Format.TABLE,
    ) -> None:
        from datetime import UTC, datetime, timedelta

        from isthmus.domain.units import Seconds, show_bytes
        from isthmus.domain.views import Collected

        since = datetime.now(UTC) - timedelta(seconds=Seconds.parse(unused)) if unused else None
        async with client() as isthmus:
            taken = await nouns(isthmus).collect_garbage(site=site, unused_since=since, dry_run=dry)
        verb = "would go" if dry else "gone"
        output.show(taken, Collected, form, lambda: print(f"{taken.count} copies {verb}, {show_bytes(taken.size)}"))

    return app


def _one(found: "Artefact", versions: "list[Artefact] | None" = None) -> None:
    from isthmus.domain.units import show_bytes

    others = [each.version for each in versions or () if each.version != found.version]
    output.facts(
        [
            ("name", f"{found.name}@{found.version}"),
            ("digest", found.digest),
            ("size", f"{show_bytes(found.size)}{' (a folder)' if found.is_folder else ''}" if found.digest else ""),
            ("format", found.format.value if found.format else ""),
            ("reference", found.reference),
            ("zones", ", ".join(found.zones)),
            ("labels", ", ".join(f"{name}={value}" for name, value in found.labels.items())),
            ("description", found.description),
            ("owner", found.owner),
            ("added", output.when(found.created_at)),
            ("other versions", ", ".join(others)),
        ]
    )


datasets = _app("dataset", "Datasets: files and folders that jobs read.")
images = _app("image", "Images: what jobs run in.")
