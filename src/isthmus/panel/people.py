"""People and their tokens: who may use the control plane, as what, and with what."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from isthmus import codec
from isthmus.domain.errors import Invalid, IsthmusError
from isthmus.domain.units import Seconds
from isthmus.domain.users import Role, Scope
from isthmus.domain.views import NewToken
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()


@pages.get("/people")
async def people(visitor: Visitor) -> Response:
    """Everybody, and (for admins) everybody's tokens."""
    return await _page(visitor)


async def _page(
    visitor: Visitor, *, error: IsthmusError | None = None, form: dict[str, str] | None = None, made: object = None
) -> Response:
    identity, caller = visitor.services.identity, visitor.caller
    everybodys = visitor.may("admin") and Scope.ADMIN in caller.scopes
    return visitor.page(
        "people.html",
        status=error.status if error else 200,
        users=await identity.users(caller),
        with_password=await visitor.panel.signing.with_password(caller),
        tokens=await identity.tokens(caller, "*" if everybodys else ""),
        roles=list(Role),
        scopes=list(Scope),
        error=error,
        form=defaultdict(str, form or {}),
        made=made,
    )


@pages.post("/people")
async def add(visitor: Visitor) -> Response:
    """A new user, with a first token that is shown this once."""
    form = await visitor.form()
    name = form.get("name", "").strip()
    try:
        role = codec.read(Role, form.get("role", ""))
        await visitor.services.identity.add_user(visitor.caller, name, role)
        made: NewToken | None = None
        if form.get("token"):
            made = await visitor.services.identity.create_token(visitor.caller, "first token", user=name)
    except IsthmusError as error:
        return await _page(visitor, error=error, form=dict(form))
    return await _page(visitor, made=made) if made else visitor.go("/people", said=f"{name} is added.")


@pages.post("/people/{name}/{verb}")
async def change(visitor: Visitor) -> Response:
    """Another role, disabled or enabled, another password."""
    name, verb = visitor.path["name"], visitor.path["verb"]
    form = await visitor.form()
    identity, caller = visitor.services.identity, visitor.caller
    try:
        if verb == "role":
            user = await identity.change_user(caller, name, role=codec.read(Role, form.get("role", "")))
            said = f"{name} is {user.role.value}."
        elif verb in ("disable", "enable"):
            await identity.change_user(caller, name, disabled=verb == "disable")
            said = f"{name} is {verb}d."
        elif verb == "no-password":
            await visitor.panel.signing.remove_password(caller, name)
            said = f"{name} has no password any more."
        elif verb == "password":
            await visitor.panel.signing.set_password(caller, form.get("password", ""), user=name, visit=visitor.visit)
            said = f"{name} can sign in with the new password."
        else:
            raise Invalid(f"{verb[:40]!r} can't be done to people.")
    except IsthmusError as error:
        return visitor.go("/people", error=error)
    return visitor.go("/people", said=said)


@pages.post("/tokens")
async def token(visitor: Visitor) -> Response:
    """A new token, shown this once."""
    form = await visitor.form()
    try:
        expires = form.get("expires", "").strip()
        until = datetime.now(UTC) + timedelta(seconds=_span(expires)) if expires else None
        scopes = tuple(codec.read(Scope, word) for word in form.getlist("scope"))
        name = form.get("name", "").strip()
        if not 1 <= len(name) <= 200:
            raise Invalid("Say what it is for.", place="token-name")
        made = await visitor.services.identity.create_token(
            visitor.caller, name, user=form.get("user", "").strip(), scopes=scopes, expires_at=until
        )
    except IsthmusError as error:
        return await _page(visitor, error=error, form=dict(form))
    return await _page(visitor, made=made)


def _span(text: str) -> int:
    try:
        return Seconds.parse(text)
    except Invalid as error:
        error.place = "expires"
        raise


@pages.post("/tokens/{token:int}/revoke")
async def revoke(visitor: Visitor) -> Response:
    """It is refused from now on."""
    try:
        view = await visitor.services.identity.revoke_token(visitor.caller, visitor.path["token"])
    except IsthmusError as error:
        return visitor.go("/people#tokens", error=error)
    return visitor.go("/people#tokens", said=f"Token {view.id} ({view.name}) is revoked.")
