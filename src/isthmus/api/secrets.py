"""/v1/secrets: credentials for jobs, kept encrypted. Their values go in and never come out."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Body
from starlette.responses import Response

from isthmus.api.routes import STRICT, Name, answer, router
from isthmus.api.services import By, Use
from isthmus.domain.views import SecretView

routes = router("/secrets", "secrets")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretValue:
    """The value of a secret."""

    __pydantic_config__ = STRICT

    value: Annotated[str, Body(max_length=65536)]


@routes.get("", response_model=list[SecretView])
async def list_secrets(services: Use, caller: By) -> Response:
    """The caller's secrets, without their values."""
    return answer(await services.identity.secrets(caller), list[SecretView])


@routes.put("/{name}", response_model=SecretView)
async def put(name: Name, request: SecretValue, services: Use, caller: By) -> Response:
    """Keep a secret, or give it another value."""
    return answer(await services.identity.set_secret(caller, name, request.value))


@routes.delete("/{name}", status_code=204, response_class=Response)
async def remove(name: Name, services: Use, caller: By) -> Response:
    """Forget a secret."""
    await services.identity.remove_secret(caller, name)
    return Response(status_code=204)
