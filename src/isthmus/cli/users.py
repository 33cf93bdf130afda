"""`isthmus user`, `isthmus token`, `isthmus secret`: who may use the control plane, and with what."""

from typing import Annotated

import typer

from isthmus.cli import output
from isthmus.cli.calling import client, command
from isthmus.cli.output import Format, Output
from isthmus.domain.users import Role, Scope

users = typer.Typer(help="Who may use the control plane.", no_args_is_help=True)
tokens = typer.Typer(help="Access tokens.", no_args_is_help=True)
secrets = typer.Typer(help="Credentials for jobs, kept encrypted.", no_args_is_help=True)

UserName = Annotated[str, typer.Argument(help="The user's name.")]
SecretName = Annotated[str, typer.Argument(help="The secret's name.")]


@users.command("add")
@command
async def add_user(
    name: UserName,
    role: Annotated[Role, typer.Option("--role", help="What they may do.")] = Role.MEMBER,
    token: Annotated[bool, typer.Option("--token/--no-token", help="Make a first token for them.")] = True,
    form: Output = Format.TABLE,
) -> None:
    """Add a user, and print a first token for them."""
    from isthmus.domain.views import NewToken, UserView

    async with client() as isthmus:
        user = await isthmus.users.add(name, role)
        made = await isthmus.tokens.create("first token", user=name) if token else None
    if made is None:
        output.show(user, UserView, form, lambda: output.note(f"{name} is {role.value}."))
        return
    output.note(f"{name} is {role.value}. Their token, shown this once:")
    output.show(made, NewToken, form, lambda: print(made.token))


@users.command("ls")
@command
async def list_users(form: Output = Format.TABLE) -> None:
    """List the users."""
    from isthmus.domain.views import UserView

    async with client() as isthmus:
        found = await isthmus.users.list()
    rows = [
        [user.name, user.role.value, "disabled" if user.disabled else "", output.when(user.created_at)]
        for user in found
    ]
    output.show(found, list[UserView], form, lambda: output.table(("NAME", "ROLE", "", "ADDED"), rows))


@users.command("set")
@command
async def set_user(
    name: UserName,
    role: Annotated[Role | None, typer.Option("--role", help="Another role.")] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Refuse their tokens, or take them again.")
    ] = None,
    form: Output = Format.TABLE,
) -> None:
    """Give a user another role; disable or enable them."""
    from isthmus.domain.views import UserView

    async with client() as isthmus:
        user = await isthmus.users.change(name, role=role, disabled=disabled)
    line = f"{user.name} is {user.role.value}" + (", disabled." if user.disabled else ".")
    output.show(user, UserView, form, lambda: output.note(line))


@users.command("password")
@command
async def password(
    name: UserName,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away: other ways to sign in stay.")] = False,
) -> None:
    """Set a password for the panel: your own, or for admins another's. It is read from stdin, or asked for."""
    import sys

    if remove:
        async with client() as isthmus:
            await isthmus.users.remove_password(name)
        output.note(f"{name} has no password any more.")
        return
    if sys.stdin.isatty():
        value = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        value = sys.stdin.readline().rstrip("\n")
    async with client() as isthmus:
        await isthmus.users.set_password(name, value)
    output.note(f"{name} can sign in to the panel with it.")


@tokens.command("add")
@command
async def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="What it may be used for; none: all that you may.")
    ] = None,
    expires: Annotated[str, typer.Option("--expires", help="After how long, such as 30d.")] = "",
    user: Annotated[str, typer.Option("--user", help="For somebody else (admins).")] = "",
    form: Output = Format.TABLE,
) -> None:
    """Make a token and print it: it can't be read again."""
    from datetime import UTC, datetime, timedelta

    from isthmus.domain.units import Seconds
    from isthmus.domain.views import NewToken

    until = datetime.now(UTC) + timedelta(seconds=Seconds.parse(expires)) if expires else None
    async with client() as isthmus:
        made = await isthmus.tokens.create(name, user=user, scopes=scope or (), expires_at=until)
    output.show(made, NewToken, form, lambda: print(made.token))


@tokens.command("ls")
@command
async def list_tokens(
    user: Annotated[str, typer.Option("--user", help="Somebody else's (admins); * is everybody's.")] = "",
    form: Output = Format.TABLE,
) -> None:
    """List tokens, without themselves."""
    from isthmus.domain.views import TokenView

    async with client() as isthmus:
        found = await isthmus.tokens.list(user=user)
    rows = [
        [
            str(token.id),
            token.name,
            token.user,
            ",".join(scope.value for scope in token.scopes),
            output.when(token.created_at),
            output.when(token.last_used_at),
            f"revoked {output.when(token.revoked_at)}" if token.revoked_at else output.when(token.expires_at),
        ]
        for token in found
    ]
    head = ("ID", "NAME", "USER", "SCOPES", "MADE", "LAST USED", "ENDS")
    output.show(found, list[TokenView], form, lambda: output.table(head, rows))


@tokens.command("revoke")
@command
async def revoke_token(
    token: Annotated[int, typer.Argument(help="The token's id.")], form: Output = Format.TABLE
) -> None:
    """Revoke a token: it is refused from now on."""
    from isthmus.domain.views import TokenView

    async with client() as isthmus:
        view = await isthmus.tokens.revoke(token)
    line = f"Token {view.id} ({view.name}) of {view.user} is revoked."
    output.show(view, TokenView, form, lambda: output.note(line))


@secrets.command("set")
@command
async def set_secret(name: SecretName, form: Output = Format.TABLE) -> None:
    """Keep a secret. Its value is read from stdin, or asked for; never from the command line, which others see."""
    import sys

    from isthmus.domain.views import SecretView

    if sys.stdin.isatty():
        value = typer.prompt("Value", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    async with client() as isthmus:
        kept = await isthmus.secrets.set(name, value)
    line = f"Secret {name} is kept. Give it to a job with --secret VARIABLE={name}."
    output.show(kept, SecretView, form, lambda: output.note(line))


@secrets.command("ls")
@command
async def list_secrets(form: Output = Format.TABLE) -> None:
    """List your secrets, without their values."""
    from isthmus.domain.views import SecretView

    async with client() as isthmus:
        found = await isthmus.secrets.list()
    rows = [[secret.name, output.when(secret.created_at)] for secret in found]
    output.show(found, list[SecretView], form, lambda: output.table(("NAME", "SET"), rows))


@secrets.command("rm")
@command
async def remove_secret(name: SecretName) -> None:
    """Forget a secret."""
    async with client() as isthmus:
        await isthmus.secrets.remove(name)
    output.note(f"Secret {name} is gone.")
