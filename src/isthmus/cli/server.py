"""`isthmus up`, `login` and `doctor`: start a control plane, choose one, see whether all is well."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isthmus.cli import output
from isthmus.cli.calling import client, command
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.app import App
    from isthmus.client.config import Config


def up(
    listen: Annotated[
        str, typer.Option("--listen", help="HOST:PORT; port 0 is any free one.", envvar="ISTHMUS_LISTEN")
    ] = "",
    data: Annotated[
        Path | None, typer.Option("--data", help="The folder for all its data.", envvar="ISTHMUS_DATA")
    ] = None,
    database: Annotated[
        str,
        typer.Option("--database", help="postgresql://…; else SQLite in the data folder.", envvar="ISTHMUS_DATABASE"),
    ] = "",
    tls: Annotated[str, typer.Option("--tls", help="self-signed: make a certificate, which clients pin.")] = "",
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="Your certificate with its chain, in PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key, in PEM.")] = None,
    url: Annotated[str, typer.Option("--url", help="How others reach this server, if not as it listens.")] = "",
    store: Annotated[
        str,
        typer.Option("--store", help="s3://bucket/prefix for data; else a folder.", envvar="ISTHMUS_STORE"),
    ] = "",
    zone: Annotated[str, typer.Option("--zone", help="Residency: the zone of this server's own store.")] = "",
    openid: Annotated[
        str,
        typer.Option("--openid", help="Issuer of an OpenID provider for the panel.", envvar="ISTHMUS_OPENID"),
    ] = "",
    openid_client: Annotated[
        str,
        typer.Option(
            "--openid-client",
            help="Our client id there; its secret is in ISTHMUS_OPENID_SECRET.",
            envvar="ISTHMUS_OPENID_CLIENT",
        ),
    ] = "",
    openid_claim: Annotated[
        str, typer.Option("--openid-claim", help="Which claim is a user's name here.", envvar="ISTHMUS_OPENID_CLAIM")
    ] = "preferred_username",
    openid_role: Annotated[
        str,
        typer.Option(
            "--openid-role", help="Of who is new here: viewer, member; none refuses them.", envvar="ISTHMUS_OPENID_ROLE"
        ),
    ] = "member",
    supervisor: Annotated[
        bool, typer.Option(help="Lead when no other process does; --no-supervisor: only serve.")
    ] = True,
    local: Annotated[bool, typer.Option(help="Add this machine as a site at the first start.")] = True,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
) -> None:
    """Start a control plane: API and supervisor in one process, on SQLite unless told otherwise.

    Ends with Ctrl-C or SIGTERM. Jobs go on at their sites; the next start finds them again.
    """
    import logging
    import os

    from isthmus import serving
    from isthmus.domain.errors import Invalid, nearest
    from isthmus.settings import DEFAULT_LISTEN, Settings, data_home, listen_address

    if tls not in ("", "self-signed"):
        raise Invalid(
            f"{tls!r} is no way to TLS.", place="--tls", hint=nearest(tls, ["self-signed"]) or "Use --tls-cert."
        )
    if tls_key is not None and tls_cert is None:
        raise Invalid("A key needs its certificate.", place="--tls-key", hint="Give --tls-cert too.")
    if log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise Invalid(f"{log_level!r} is not a level.", place="--log-level", hint="Use debug, info, warning or error.")
    if openid_role not in ("viewer", "member", "none"):
        hint = nearest(openid_role, ["viewer", "member", "none"])
        raise Invalid(f"{openid_role!r} is no role for who is new.", place="--openid-role", hint=hint)
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("asyncssh", "alembic", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    host, port = listen_address(listen or DEFAULT_LISTEN)
    way: Literal["", "self-signed"] = "self-signed" if tls else ""
    settings = Settings(
        data=(data or data_home()).absolute(),
        database=database,
        host=host,
        port=port,
        port_is_fixed=bool(listen),
        tls=way,
        tls_cert=tls_cert,
        tls_key=tls_key,
        public_url=url,
        openid=openid,
        openid_client=openid_client,
        openid_secret=os.environ.get("ISTHMUS_OPENID_SECRET", ""),
        openid_claim=openid_claim,
        openid_role=openid_role,
        supervisor=supervisor,
        local_site=local,
        store=store,
        zone=zone,
    )
    last = serving.last_port(settings.data)
    serving.run(settings, lambda app: _announce(app, port, last))


def _announce(app: "App", wanted: int, last: int) -> None:
    """Say where it is and how to get in; make the next command on this machine work."""
    settings = app.settings
    if wanted and settings.port != wanted:
        why = "as the last time" if settings.port == last else f"for port {wanted} is taken"
        output.note(f"It listens on port {settings.port}, {why}.")
    kept = _keep_config(app)
    print(f"Isthmus is up at {settings.url}")
    if app.certificate is not None:
        print(f"Certificate:  {app.certificate.fingerprint}")
    print(f"Panel:        {app.link}" + ("   (signs in once)" if app.token else ""))
    print(f"Access token: {app.token}" if app.token else "Access token: ask an admin")
    print(f"Data:         {settings.data}")
    if kept:
        print(f"The command line here talks to it: {kept}")
    else:
        print(f"The command line here talks to another server; to change that: isthmus login {settings.url}")
    print("Elsewhere:    isthmus login URL   (it asks for the token)", flush=True)


def _keep_config(app: "App") -> "Path | None":
    """Write the command line's own configuration, unless somebody has logged in to another server."""
    from isthmus.client import config
    from isthmus.domain.errors import IsthmusError

    path = config.config_path()
    if path.exists():
        try:
            before = config.load({"ISTHMUS_CONFIG": str(path.parent)})
        except IsthmusError:
            return None
        if before.url != app.settings.url and before.written_by != "up":
            return None
    return config.save(
        config.Config(
            url=app.settings.url,
            token=app.token,
            certificate=app.certificate.pem if app.certificate and app.certificate.self_signed else "",
            written_by="up",
        )
    )


@command
async def login(
    url: Annotated[str, typer.Argument(help="The server's URL; none: the one that you talk to already.")] = "",
    token: Annotated[
        str, typer.Option("--token", help="- reads it from stdin; without, it is asked for.", envvar="ISTHMUS_TOKEN")
    ] = "",
    ca: Annotated[Path | None, typer.Option("--ca", help="The authority that signed its certificate, in PEM.")] = None,
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Pin its certificate: SHA256:…")] = "",
) -> None:
    """Choose the server that the command line talks to, and keep the token (0600)."""
    import asyncio
    from dataclasses import replace

    from isthmus.client import AsyncClient, config, pinning
    from isthmus.client.config import Config
    from isthmus.domain.errors import Invalid

    if url and "://" not in url:
        raise Invalid(f"{url!r} is not a URL.", place="URL", hint=f"Write http://{url} or https://{url}.")
    found = Config(url=url.rstrip("/")) if url else config.load()
    if ca is not None:
        found = replace(found, ca=config.pem(ca, "--ca"))
    elif fingerprint:
        found = replace(found, certificate=await asyncio.to_thread(pinning.fetch, found.url, fingerprint))
    elif found.url.startswith("https://") and not found.certificate:
        found = await _trusted(found)
    found = replace(found, token=_token(token))
    async with AsyncClient.of(found, patience_s=1.0) as isthmus:
        me = await isthmus.users.me()
    path = config.save(replace(found, written_by="login"))
    output.note(f"You are {me.user} ({me.role.value}) at {found.url}. Kept in {path}.")


def _token(given: str) -> str:
    if given == "-" or (not given and not sys.stdin.isatty()):
        return sys.stdin.readline().strip()
    if given:
        return given
    return str(typer.prompt("Access token", hide_input=True, err=True)).strip()


async def _trusted(found: "Config") -> "Config":
    """With the system's authorities if they know the server; else with its certificate, when a person says so."""
    import asyncio
    from dataclasses import replace

    from isthmus.client import AsyncClient, pinning
    from isthmus.domain.errors import Unauthenticated

    try:
        async with AsyncClient.of(found, patience_s=1.0) as isthmus:
            await isthmus.ping()
            return found
    except Unauthenticated as error:
        if error.code != "wrong-certificate":
            raise
        pem = await asyncio.to_thread(pinning.shown, found.url)
        shown = pinning.fingerprint(pem)
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            error.hint = f"It shows {shown}. If that is what `isthmus up` printed there: --fingerprint {shown}"
            raise
        output.note(f"No authority known here vouches for {found.url}. It shows the certificate\n  {shown}")
        if not typer.confirm("Is that what `isthmus up` printed there?", err=True):
            raise
        return replace(found, certificate=pem)


@command
async def panel(
    show: Annotated[bool, typer.Option("--print", help="Only print the link.")] = False,
) -> None:
    """Open the panel in a browser, signed in as you. The link works once, within 15 minutes."""
    import webbrowser

    async with client() as isthmus:
        link = await isthmus.users.sign_in_link()
    print(link.url, flush=True)
    # Where there is no browser (a cluster's login node), the line is what one needs.
    if not show and sys.stdout.isatty() and not webbrowser.open(link.url):
        output.note("There is no browser here: open the link where there is one.")


@command
async def doctor(form: Output = Format.TABLE) -> None:
    """Look whether all is well: configuration, server, token, sites, engines, disk. Exit code 1 if something is not."""
    from isthmus.cli import checks
    from isthmus.domain.views import Check

    found: list[Check] = []
    async for check in checks.all_of(client):
        found.append(check)
        if form is not Format.TABLE:
            continue
        mark = {"ok": "ok  ", "warn": "look", "fail": "FAIL"}[check.result]
        print(f"{mark}  {check.what.ljust(14)} {check.found}", flush=True)
        if check.hint:
            print(f"      {' ' * 14} {check.hint}", flush=True)
    if form is not Format.TABLE:
        output.show(found, list[Check], form, lambda: None)
    raise typer.Exit(1 if any(check.result == "fail" for check in found) else 0)
