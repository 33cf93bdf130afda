"""/v1/sites: add, test, look at, drain, remove."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from isthmus.api.routes import Name, answer, router
from isthmus.api.services import By, Use
from isthmus.domain.errors import Invalid
from isthmus.domain.sites import SiteSpec
from isthmus.domain.views import SiteView

routes = router("/sites", "sites")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A public key to be put into authorized_keys at the site."""

    key: str


@routes.get("", response_model=list[SiteView])
async def list_sites(services: Use, caller: By) -> Response:
    """All sites, by name."""
    return answer(await services.sites.list(caller), list[SiteView])


@routes.post("", status_code=201, response_model=SiteView)
async def add(
    spec: SiteSpec,
    services: Use,
    caller: By,
    trust_host_keys: Annotated[
        bool, Query(description="Pin the host keys that it shows now. Compare their fingerprints first.")
    ] = False,
) -> Response:
    """Reach a place, probe it, and keep it as a site.

    Answers 409 with code `host-key-unknown` and the fingerprints, or with code `key-not-authorised` and the public key
    to be authorised there, where that stands in the way.
    """
    return answer(await services.sites.add(caller, spec, trust_host_keys=trust_host_keys), status=201)


@routes.get("/{name}", response_model=SiteView)
async def get(name: Name, services: Use, caller: By) -> Response:
    """One site: what was said of it, what was found there, and how it is now."""
    return answer(await services.sites.get(caller, name))


@routes.put("/{name}", response_model=SiteView)
async def update(name: Name, spec: SiteSpec, services: Use, caller: By) -> Response:
    """Say another thing of a site. Its name and kind stay."""
    if spec.name != name:
        raise Invalid(f"The path says {name[:40]!r}, the body {spec.name[:40]!r}.", place="name")
    return answer(await services.sites.update(caller, spec))


@routes.delete("/{name}", response_model=SiteView)
async def remove(
    name: Name,
    services: Use,
    caller: By,
    force: Annotated[bool, Query(description="Though jobs are there: they become LOST.")] = False,
) -> Response:
    """Take a site out."""
    return answer(await services.sites.remove(caller, name, force=force))


@routes.post("/{name}/test", response_model=SiteView)
async def test(name: Name, services: Use, caller: By) -> Response:
    """Probe it again and keep what was found."""
    return answer(await services.sites.test(caller, name))


@routes.post("/{name}/drain", response_model=SiteView)
async def drain(name: Name, services: Use, caller: By) -> Response:
    """Start nothing new there; what runs there ends."""
    return answer(await services.sites.drain(caller, name))


@routes.post("/{name}/resume", response_model=SiteView)
async def resume(name: Name, services: Use, caller: By) -> Response:
    """Let it take jobs again."""
    return answer(await services.sites.resume(caller, name))


@routes.get("/{name}/key", response_model=PublicKey)
async def public_key(
    name: Name,
    services: Use,
    caller: By,
    login: Annotated[str, Query(max_length=100, description="Your account's name there.")] = "",
) -> Response:
    """Your public key for the site, made on first use."""
    return answer(PublicKey(key=await services.sites.public_key(caller, name, login=login)))
