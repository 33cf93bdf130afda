"""/v1/users and /v1/whoami: who may use this control plane, and as what."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Body
from starlette.responses import Response

from isthmus.api.routes import STRICT, Name, answer, router
from isthmus.api.services import By, Use
from isthmus.domain.users import Role
from isthmus.domain.views import CallerView, SignInLink, UserView

routes = router("", "users")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to be added."""

    __pydantic_config__ = STRICT

    name: Annotated[str, Body(min_length=1, max_length=100)]
    role: Role = Role.MEMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeUser:
    """What is to change; null: it stays."""

    __pydantic_config__ = STRICT

    role: Role | None = None
    disabled: bool | None = None


@routes.get("/whoami", response_model=CallerView)
async def whoami(services: Use, caller: By) -> Response:
    """Who the token belongs to, and what it may be used for."""
    return answer(services.identity.whoami(caller))


@routes.get("/users", response_model=list[UserView])
async def list_users(services: Use, caller: By) -> Response:
    """All users, by name."""
    return answer(await services.identity.users(caller), list[UserView])


@routes.post("/users", status_code=201, response_model=UserView)
async def add(request: NewUser, services: Use, caller: By) -> Response:
    """Add a user."""
    return answer(await services.identity.add_user(caller, request.name, request.role), status=201)


@routes.get("/users/{name}", response_model=UserView)
async def get(name: Name, services: Use, caller: By) -> Response:
    """One user."""
    return answer(await services.identity.user(caller, name))


@routes.put("/users/{name}", response_model=UserView)
async def change(name: Name, request: ChangeUser, services: Use, caller: By) -> Response:
    """Give a user another role; disable or enable them."""
    return answer(await services.identity.change_user(caller, name, role=request.role, disabled=request.disabled))


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """A new password."""

    __pydantic_config__ = STRICT

    password: Annotated[str, Body(max_length=1000)]


@routes.put("/users/{name}/password", status_code=204, response_class=Response)
async def set_password(name: Name, request: Password, services: Use, caller: By) -> Response:
    """Give oneself, or for admins another, a password for the panel. It ends that user's sessions there."""
    await services.signing.set_password(caller, request.password, user=name)
    return Response(status_code=204)


@routes.delete("/users/{name}/password", status_code=204, response_class=Response)
async def remove_password(name: Name, services: Use, caller: By) -> Response:
    """Take a password away: other ways to sign in stay."""
    await services.signing.remove_password(caller, name)
    return Response(status_code=204)


@routes.post("/sign-in-links", status_code=201, response_model=SignInLink)
async def sign_in_link(services: Use, caller: By) -> Response:
    """A link to the panel that signs a browser in once, within 15 minutes, with the rights of this token."""
    link = await services.signing.link(caller)
    return answer(link, status=201, headers={"Cache-Control": "no-store"})
