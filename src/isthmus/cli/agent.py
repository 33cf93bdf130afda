"""`isthmus agent`: serve functions on request, and talk to agents that do."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.calling import command
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.tasks.agents.line import Line

app = typer.Typer(help="Serve functions on request, near and far: agents that share their tasks.", no_args_is_help=True)

Url = Annotated[str, typer.Option("--agent", help="The agent's URL; its token is in ISTHMUS_AGENT_TOKEN.")]
_RUN_HEAD = ("ID", "FUNCTION", "STATE", "SECONDS", "RESULT")


@app.command("serve")
def serve(
    modules: Annotated[list[str] | None, typer.Argument(help="Modules whose functions may be asked for.")] = None,
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT; port 0 is any free one.")] = "127.0.0.1:8090",
    name: Annotated[str, typer.Option("--name", help="What it is called; else this machine's name.")] = "",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Tasks at once; 0: one a processor.")] = 0,
    token: Annotated[str, typer.Option("--token", help="Its token.", envvar="ISTHMUS_AGENT_TOKEN")] = "",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Where its token is, or is kept when it makes one.")
    ] = None,
    tls: Annotated[str, typer.Option("--tls", help="self-signed: make a certificate, which others pin.")] = "",
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Your certificate, in PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key, in PEM.")] = None,
    neighbour: Annotated[
        list[str] | None, typer.Option("--neighbour", help="NAME=URL, with the same token. May be given again.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The folder for its token and certificate.")] = None,
) -> None:
    """Start an agent on this machine. Ends with Ctrl-C or SIGTERM."""
    import platform

    from isthmus.agents import serving
    from isthmus.api import tls as certificates
    from isthmus.domain.errors import Invalid, nearest
    from isthmus.settings import data_home, listen_address
    from isthmus.tasks.agents.line import Line

    host, port = listen_address(listen)
    folder = (data or data_home() / "agent").absolute()
    if tls not in ("", "self-signed"):
        raise Invalid(f"{tls!r} is no way to TLS.", place="--tls", hint=nearest(tls, ["self-signed"]))
    certificate = None
    if tls_cert is not None:
        certificate = certificates.load(tls_cert, tls_key or tls_cert)
    elif tls:
        certificate = certificates.self_signed(folder, [host])
    elif host not in ("127.0.0.1", "::1", "localhost"):
        output.note("Without --tls the token and all data pass readable over the network.")
    file = token_file or folder / "token"
    secret = serving.token_of(token, file)
    pinned = certificate.pem if certificate and certificate.self_signed else ""
    others = {}
    for one in neighbour or []:
        called, separator, url = one.partition("=")
        if not separator:
            raise Invalid(f"{one!r} is no neighbour.", place="--neighbour", hint="Write NAME=URL.")
        others[called] = Line(url, secret, pinned if url.startswith("https") else "")

    def announce(url: str) -> None:
        print(f"Agent {plan.name} is up at {url}")
        print(f"Serves:       {', '.join(plan.modules) or 'tasks of other agents only'}")
        if certificate is not None:
            print(f"Certificate:  {certificate.fingerprint} ({certificate.cert})")
        print(f"Token:        {'as given' if token else file}", flush=True)

    plan = serving.Plan(
        name=name or platform.node().split(".")[0] or "agent",
        host=host,
        port=port,
        token=secret,
        modules=list(modules or []),
        workers=workers,
        certificate=certificate,
        neighbours=others,
    )
    serving.serve(plan, announce)


@app.command("status")
@command
async def status(agent: Url = "", form: Output = Format.TABLE) -> None:
    """What an agent has and does, and its neighbours."""
    async with _line(agent) as line:
        found = await line.status()

    def text() -> None:
        print(f"{found['name']}: {found['busy']}/{found['workers']} workers busy, {found['queued']} tasks wait")
        print(f"Done: {found['done']['here']} here, {found['done']['elsewhere']} elsewhere")
        print(f"Serves: {', '.join(found['serves']) or '-'}")
        _neighbours(found["neighbours"])

    output.show(found, dict[str, Any], form, text)


@app.command("run")
@command
async def run(
    function: Annotated[str, typer.Argument(help="module:name")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Each as JSON; a plain word is a text.")] = None,
    agent: Url = "",
    wait: Annotated[bool, typer.Option(help="Until it has ended.")] = True,
    form: Output = Format.TABLE,
) -> None:
    """Have an agent run a function. Exit code 1 where it fails."""
    async with _line(agent) as line:
        body = {"function": function, "args": [_value(word) for word in arguments or []]}
        found = await line.ask("POST", "/v1/runs", body)
        while wait and found["state"] == "RUNNING":
            found = await line.ask("GET", f"/v1/runs/{found['id']}?wait_s=30", timeout_s=60)

    def text() -> None:
        if found["state"] == "COMPLETED":
            print(json.dumps(found["result"], ensure_ascii=False))
        elif found["state"] == "RUNNING":
            print(found["id"])
        else:
            output.note(f"{found['function']} {found['state']}: {found['error']}\n{found['log'][-2000:]}")

    output.show(found, dict[str, Any], form, text)
    if found["state"] in ("FAILED", "CANCELLED"):
        raise typer.Exit(1)


@app.command("runs")
@command
async def runs(agent: Url = "", form: Output = Format.TABLE) -> None:
    """The runs that an agent knows, newest first."""
    async with _line(agent) as line:
        found = await line.ask("GET", "/v1/runs")
    output.show(
        found,
        list[dict[str, Any]],
        form,
        lambda: output.table(
            _RUN_HEAD,
            [
                (one["id"], one["function"], one["state"], f"{one['seconds']:.1f}", json.dumps(one["result"])[:60])
                for one in found
            ],
            empty="No function was asked for yet.",
        ),
    )


@app.command("cancel")
@command
async def cancel(
    id: Annotated[str, typer.Argument(help="The run.")], agent: Url = "", form: Output = Format.TABLE
) -> None:
    """End a run."""
    async with _line(agent) as line:
        found = await line.ask("DELETE", f"/v1/runs/{id}")
    output.show(found, dict[str, Any], form, lambda: output.note(f"{id} is {found['state']}."))


@app.command("resize")
@command
async def resize(
    workers: Annotated[int, typer.Argument(min=1, help="Tasks at once.")], agent: Url = "", form: Output = Format.TABLE
) -> None:
    """Give an agent more workers, or fewer, while it runs."""
    async with _line(agent) as line:
        found = await line.ask("PUT", "/v1/resources", {"workers": workers})
    output.show(found, dict[str, Any], form, lambda: output.note(f"{found['name']} has {found['workers']} workers."))


@app.command("connect")
@command
async def connect(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    url: Annotated[str, typer.Argument(help="The other agent.")],
    token: Annotated[
        str, typer.Option("--token", help="Its token, if not the same.", envvar="ISTHMUS_NEIGHBOUR_TOKEN")
    ] = "",
    certificate: Annotated[Path | None, typer.Option("--certificate", help="Its own, where it is self-signed.")] = None,
    agent: Url = "",
    form: Output = Format.TABLE,
) -> None:
    """Make another agent a neighbour: tasks may go there."""
    from isthmus.client.config import pem

    async with _line(agent) as line:
        body = {
            "name": name,
            "url": url,
            "token": token or line.token,
            "certificate": pem(certificate, "--certificate") if certificate else "",
        }
        found = await line.ask("POST", "/v1/neighbours", body)
    output.show(found, dict[str, Any], form, lambda: _neighbours([found]))


@app.command("disconnect")
@command
async def disconnect(
    name: Annotated[str, typer.Argument(help="The neighbour.")], agent: Url = "", form: Output = Format.TABLE
) -> None:
    """Send a neighbour nothing more; what is there comes back."""
    async with _line(agent) as line:
        found = await line.ask("DELETE", f"/v1/neighbours/{name}")
    output.show(found, dict[str, Any], form, lambda: _neighbours(found["neighbours"]))


class _line:
    """The agent of --agent or ISTHMUS_AGENT, for a while."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> "Line":
        from isthmus.cli.calling import _lighten

        _lighten()
        from isthmus.tasks.agents.line import Line

        self._made = Line.of_environment(self._url)
        return self._made

    async def __aexit__(self, *trouble: object) -> None:
        await self._made.close()


def _neighbours(found: Sequence[dict[str, Any]]) -> None:
    output.table(
        ("NEIGHBOUR", "URL", "STATE", "WORKERS", "LOAD S", "TRIP MS", "WHY"),
        [
            (
                one["name"],
                one["url"],
                one["state"],
                str(one["workers"]),
                f"{one['load_s']:.2f}",
                f"{one['trip_s'] * 1000:.1f}",
                one["trouble"],
            )
            for one in found
        ],
        empty="It has no neighbours.",
    )


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word
