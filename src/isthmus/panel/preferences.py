"""Settings: how the panel looks to one, one's password, secrets and browsers; what server this is."""

from collections import defaultdict

from starlette.responses import RedirectResponse, Response

from isthmus.domain.errors import Invalid, IsthmusError
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()


@pages.get("/settings")
async def settings(visitor: Visitor) -> Response:
    """What one may set."""
    return await _page(visitor)


async def _page(visitor: Visitor, *, error: IsthmusError | None = None, form: dict[str, str] | None = None) -> Response:
    signing, caller = visitor.panel.signing, visitor.caller
    return visitor.page(
        "settings.html",
        status=error.status if error else 200,
        sessions=await signing.sessions(caller),
        has_password=caller.user.name in await signing.with_password(caller),
        secrets=await visitor.services.identity.secrets(caller),
        views=await signing.saved_views(caller),
        server=visitor.services.server,
        openid=visitor.panel.parts["openid"],
        error=error,
        form=defaultdict(str, form or {}),
    )


@pages.post("/settings/theme")
async def theme(visitor: Visitor) -> Response:
    """Light, dark, or as the system says."""
    chosen = (await visitor.form()).get("theme", "auto")
    response = RedirectResponse("/settings", status_code=303)
    visitor.panel.set_cookie(response, "theme", chosen if chosen in ("dark", "light") else "auto", max_age=86400 * 400)
    return response


@pages.post("/settings/password")
async def password(visitor: Visitor) -> Response:
    """One's own password."""
    form = await visitor.form()
    try:
        if form.get("remove"):
            await visitor.panel.signing.remove_password(visitor.caller)
            return visitor.go("/settings", said="You have no password any more.")
        if form.get("password", "") != form.get("again", ""):
            raise Invalid("The two are not the same.", place="again")
        await visitor.panel.signing.set_password(
            visitor.caller, form.get("password", ""), old=form.get("old"), visit=visitor.visit
        )
    except IsthmusError as error:
        return await _page(visitor, error=error)
    return visitor.go("/settings", said="Your password is set. Other browsers of yours are signed out.")


@pages.post("/settings/sessions")
async def end(visitor: Visitor) -> Response:
    """Sign another browser out."""
    form = await visitor.form()
    try:
        await visitor.panel.signing.end_session(visitor.caller, int(form.get("session", "0") or 0))
    except (IsthmusError, ValueError) as error:
        told = error if isinstance(error, IsthmusError) else Invalid("That is no session.")
        return visitor.go("/settings", error=told)
    return visitor.go("/settings", said="That browser is signed out.")


@pages.post("/settings/secrets")
async def secret(visitor: Visitor) -> Response:
    """Keep a secret, or forget one."""
    form = await visitor.form()
    identity = visitor.services.identity
    try:
        if form.get("remove"):
            await identity.remove_secret(visitor.caller, form["remove"])
            return visitor.go("/settings#secrets", said=f"Secret {form['remove']} is gone.")
        await identity.set_secret(visitor.caller, form.get("name", "").strip(), form.get("value", ""))
    except IsthmusError as error:
        return await _page(visitor, error=error, form={"name": form.get("name", "")})
    return visitor.go("/settings#secrets", said=f"Secret {form.get('name', '').strip()} is kept.")


@pages.post("/settings/rekey")
async def rekey(visitor: Visitor) -> Response:
    """A new key for all that is kept encrypted."""
    try:
        count = await visitor.services.identity.rotate_key(visitor.caller)
    except IsthmusError as error:
        return visitor.go("/settings", error=error)
    return visitor.go("/settings", said=f"A new key is made; {count} secrets and credentials are encrypted by it.")
