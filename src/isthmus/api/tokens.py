"""/v1/tokens: access tokens, shown once when they are made."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Body, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from isthmus.api.routes import STRICT, Id, answer, router
from isthmus.api.services import By, Use
from isthmus.domain.users import Scope
from isthmus.domain.views import NewToken, TokenView

routes = router("/tokens", "tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A token to be made. No scopes: all that the caller's own token has."""

    __pydantic_config__ = STRICT

    name: Annotated[str, Body(min_length=1, max_length=200)]
    user: Annotated[str, Body(max_length=100)] = ""  # for admins: somebody else's
    scopes: tuple[Scope, ...] = ()
    expires_at: AwareDatetime | None = None


@routes.get("", response_model=list[TokenView])
async def list_tokens(
    services: Use,
    caller: By,
    user: Annotated[str, Query(max_length=100, description="For admins: whose; * is everybody's.")] = "",
) -> Response:
    """The caller's tokens."""
    return answer(await services.identity.tokens(caller, user), list[TokenView])


@routes.post("", status_code=201, response_model=NewToken)
async def create(request: TokenRequest, services: Use, caller: By) -> Response:
    """Make a token. It is in this answer and nowhere else."""
    made = await services.identity.create_token(
        caller, request.name, user=request.user, scopes=request.scopes, expires_at=request.expires_at
    )
    return answer(made, status=201, headers={"Cache-Control": "no-store"})


@routes.delete("/{token}", response_model=TokenView)
async def revoke(token: Id, services: Use, caller: By) -> Response:
    """Revoke a token: it is refused from now on."""
    return answer(await services.identity.revoke_token(caller, token))
