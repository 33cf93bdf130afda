"""`isthmus site`: the places that run jobs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.calling import client, command
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.client import AsyncClient
    from isthmus.domain.sites import SiteSpec
    from isthmus.domain.views import SiteView

app = typer.Typer(help="The places that run jobs.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The site's name.")]


@app.command("add")
@command
async def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    where: Annotated[
        str,
        typer.Argument(
            metavar="URL|FILE",
            help="local: | ssh://user@host | slurm: | slurm+ssh://user@host:22/workdir?jump=user@gate&qos=long | "
            "gridengine+ssh://… | a YAML file.",
        ),
    ],
    trust: Annotated[
        bool, typer.Option("--trust-host-keys", help="Pin the host keys that it shows, without asking.")
    ] = False,
    form: Output = Format.TABLE,
) -> None:
    """Reach a place, see what it has, and keep it as a site.

    Host keys are shown to be compared, and pinned. Where the control plane has made a key pair for you, its public
    half is shown, to be put into authorized_keys there.
    """
    from isthmus.client import addresses
    from isthmus.domain.views import SiteView

    spec = addresses.read(name, where)
    async with client() as isthmus:
        site = await _add(isthmus, spec, trust)
    output.show(site, SiteView, form, lambda: _one(site))


async def _add(isthmus: "AsyncClient", spec: "SiteSpec", trust: bool) -> "SiteView":
    """Add it; on a terminal, ask what the server wants to know."""
    import sys

    from isthmus.domain.errors import Conflict

    while True:
        try:
            return await isthmus.sites.add(spec, trust_host_keys=trust)
        except Conflict as error:
            asking = sys.stdin.isatty() and sys.stderr.isatty()
            if error.code == "host-key-unknown" and asking and not trust:
                output.note(error.message)
                trust = typer.confirm("Are these the site's own keys?", err=True)
                if not trust:
                    raise
            elif error.code == "key-not-authorised" and asking:
                output.note(f"{error.message}\n{error.hint}\n")
                typer.confirm("Is it there now?", err=True, default=True, abort=True)
            else:
                if error.code == "host-key-unknown":
                    error.hint = "Compare them with what the site publishes, then add it with --trust-host-keys."
                raise


@app.command("ls")
@command
async def ls(form: Output = Format.TABLE) -> None:
    """List the sites."""
    from isthmus.domain.views import SiteView

    async with client() as isthmus:
        sites = await isthmus.sites.list()
    rows = [
        [
            site.name,
            site.kind,
            site.state.value if site.state.value != "ENABLED" else site.health.value,
            *_capacity(site),
            str(site.running),
            str(site.waiting),
            site.spec.zone if site.spec else "",
            site.health_message,
        ]
        for site in sites
    ]
    head = ("NAME", "KIND", "STATE", "NODES", "CPUS", "GPUS", "RUNNING", "WAITING", "ZONE", "MESSAGE")
    output.show(
        sites, list[SiteView], form, lambda: output.table(head, rows, empty="There is no site: isthmus site add")
    )


@app.command("show")
@command
async def show(name: Name, form: Output = Format.TABLE) -> None:
    """Show what was said of a site, and what was found there."""
    from isthmus.domain.views import SiteView

    async with client() as isthmus:
        site = await isthmus.sites.get(name)
    output.show(site, SiteView, form, lambda: _one(site))


@app.command("test")
@command
async def test(name: Name, form: Output = Format.TABLE) -> None:
    """Reach a site and look again at what it has."""
    from isthmus.domain.views import SiteView

    async with client() as isthmus:
        site = await isthmus.sites.test(name)
    output.show(site, SiteView, form, lambda: _one(site))


@app.command("update")
@command
async def update(
    name: Name,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="All that is to be said of it, as YAML.")] = None,
    put: Annotated[
        list[str] | None, typer.Option("--set", metavar="PLACE=VALUE", help="labels.location=DE, price.gpu_hour=1.2, …")
    ] = None,
    leave: Annotated[
        list[str] | None, typer.Option("--unset", metavar="PLACE", help="As if it had never been said.")
    ] = None,
    form: Output = Format.TABLE,
) -> None:
    """Change what was said of a site: labels, prices, limits, metrics, policy. Jobs that are there go on."""
    from isthmus.client import files, revisions
    from isthmus.domain.errors import Invalid
    from isthmus.domain.sites import SiteSpec

    if file is None and not put and not leave:
        raise Invalid("Nothing is to change.", hint=f"isthmus site update {name} --set labels.location=DE, or a FILE.")
    async with client() as isthmus:
        if file is not None:
            spec = files.read(SiteSpec, file, name=name)
        else:
            site = await isthmus.sites.get(name)
            if site.spec is None:
                raise Invalid("What was said of it is not shown.", place=name, hint="Say all of it in a FILE.")
            spec = site.spec
        site = await isthmus.sites.update(revisions.revise(spec, put or (), leave or ()))
    _told(site, form, f"{name} is changed.")


@app.command("drain")
@command
async def drain(name: Name, form: Output = Format.TABLE) -> None:
    """Start nothing new at a site; what runs there ends."""
    async with client() as isthmus:
        site = await isthmus.sites.drain(name)
    _told(site, form, f"{name} takes no new jobs; {site.running + site.waiting} are still there.")


@app.command("resume")
@command
async def resume(name: Name, form: Output = Format.TABLE) -> None:
    """Let a site take jobs again."""
    async with client() as isthmus:
        site = await isthmus.sites.resume(name)
    _told(site, form, f"{name} takes jobs again.")


@app.command("remove")
@command
async def remove(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Though jobs are there: they become LOST.")] = False,
    form: Output = Format.TABLE,
) -> None:
    """Take a site out."""
    async with client() as isthmus:
        site = await isthmus.sites.remove(name, force=force)
    _told(site, form, f"{name} is removed.")


@app.command("key")
@command
async def key(
    name: Name,
    login: Annotated[str, typer.Option("--login", help="Your account's name there.")] = "",
) -> None:
    """Print your public key for a site, made on first use: put it into ~/.ssh/authorized_keys there."""
    async with client() as isthmus:
        print(await isthmus.sites.public_key(name, login=login))


def _told(site: "SiteView", form: Format, line: str) -> None:
    from isthmus.domain.views import SiteView

    output.show(site, SiteView, form, lambda: output.note(line))


def _capacity(site: "SiteView") -> tuple[str, str, str]:
    """Nodes, CPUs and GPUs in all its queues; a node that several queues share counts once."""
    kinds = {node.name: node for queue in site.inventory.queues for node in queue.nodes}
    nodes = sum(node.count for node in kinds.values())
    cpus = sum(node.count * node.cpus for node in kinds.values())
    gpus: dict[str, int] = {}
    for node in kinds.values():
        for gpu in node.gpus:
            gpus[gpu.type] = gpus.get(gpu.type, 0) + node.count * gpu.count
    shown = ", ".join(f"{count}×{kind}" if kind else str(count) for kind, count in sorted(gpus.items()))
    return str(nodes or ""), str(cpus or ""), shown


def _one(site: "SiteView") -> None:
    from isthmus.domain.units import show_bytes

    found, spec = site.inventory, site.spec
    reach = ""
    if spec and spec.reach:
        reach = " → ".join(f"{hop.user}@{hop.host}:{hop.port}".lstrip("@") for hop in spec.reach.hops)
    output.facts(
        [
            ("name", f"{site.name} ({site.kind})"),
            ("state", f"{site.state.value}, {site.health.value}" + _more(site.health_message)),
            ("reached", reach),
            (
                "host",
                f"{found.host} as {found.user}, Python {found.python}, {found.architecture}" if found.host else "",
            ),
            ("work folder", found.workdir + (f", {show_bytes(found.free_bytes)} free" if found.free_bytes else "")),
            ("scratch", found.scratch),
            ("batch system", found.batch + _more(f"accounting: {found.accounting}" if found.accounting else "")),
            ("accounts", ", ".join(found.accounts)),
            ("QoS", ", ".join(found.qos)),
            ("engines on nodes", _engines(found.engines)),
            ("engines on login", _engines(found.login_engines)),
            ("nodes reach API", {True: "yes", False: "no", None: "not known yet"}[found.nodes_reach_api]),
            ("zone", spec.zone if spec else ""),
            ("seen", output.when(site.seen_at)),
            ("jobs", f"{site.running} running, {site.waiting} waiting"),
            ("notes", "\n".join(found.notes)),
        ]
    )
    rows = [row for queue in found.queues for row in _queue(queue)]
    if rows:
        print()
        output.table(("QUEUE", "NODES", "TYPE", "CPUS", "MEMORY", "GPUS", "MAX TIME", "FEATURES"), rows)


def _queue(queue: Any) -> list[list[str]]:
    from isthmus.domain.units import show_bytes, show_seconds

    name = queue.name + ("*" if queue.default else "") + ("" if queue.up else " (down)")
    limit = show_seconds(queue.max_time) if queue.max_time else ""
    rows = []
    for node in queue.nodes:
        gpus = ", ".join(
            f"{gpu.count}×{gpu.type or 'GPU'}" + (f" {show_bytes(gpu.mem)}" if gpu.mem else "") for gpu in node.gpus
        )
        features = ",".join(node.features)
        memory = show_bytes(node.mem) if node.mem else ""
        rows.append([name, str(node.count), node.name, str(node.cpus), memory, gpus, limit, features])
    return rows or [[name, "", "", "", "", "", limit, ""]]


def _engines(engines: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}".strip() for name, version in sorted(engines.items()))


def _more(text: str) -> str:
    return f" ({text})" if text else ""
