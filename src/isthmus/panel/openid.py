"""Signing in through an OpenID Connect provider: authorization code with PKCE, state and nonce; by Authlib.

    /sign-in/openid ─► provider ─► /sign-in/openid/callback ─► ID token checked ─► a user here, a session

What must be the same on the way back is in a short-lived cookie of this browser. The ID token is checked as OpenID
Connect Core 1.0, 3.1.3.7, says: signature by the provider's keys, issuer, audience, nonce, times.
"""

import base64
import functools
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from isthmus.control.signing import External
from isthmus.domain.errors import Forbidden, Invalid, IsthmusError, Unauthenticated, Unavailable
from isthmus.domain.users import Role
from isthmus.panel.entry import sign_in_form, signed_in
from isthmus.panel.visitor import Panel, browser_of, local, new_secret

FRESH_S = 3600.0  # for how long what the provider said of itself is believed
WAY_S = 600  # for a person to sign in there
SKEW_S = 60  # by how much its clock may differ
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@dataclass(kw_only=True)
class Provider:
    """An OpenID provider, and who we are to it."""

    issuer: str
    client_id: str
    client_secret: str = ""
    claim: str = "preferred_username"  # which claim is the name here
    role: Role | None = Role.MEMBER  # of people who are new here; None: they are refused
    label: str = ""
    redirect: str = ""
    _known: dict[str, Any] = field(default_factory=dict)
    _known_at: float = 0.0

    async def known(self) -> dict[str, Any]:
        """Its endpoints and keys. Raises Unavailable."""
        if self._known and time.monotonic() - self._known_at < FRESH_S:
            return self._known
        try:
            async with httpx.AsyncClient(timeout=15) as http:
                answer = await http.get(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
                found = answer.raise_for_status().json()
                keys = (await http.get(found["jwks_uri"])).raise_for_status().json()
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Unavailable(
                f"The provider {self.issuer} does not answer as one: {error}", hint="Try again, or sign in otherwise."
            ) from None
        if found.get("issuer", "").rstrip("/") != self.issuer.rstrip("/"):
            raise Unavailable(f"{self.issuer} says that it is {found.get('issuer')!r}.", hint="Tell an admin.")
        self._known, self._known_at = {**found, "keys": keys}, time.monotonic()
        return self._known

    def client(self) -> Any:
        """Authlib's client. Raises Unavailable where that is not installed."""
        try:
            from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
        except ImportError:
            raise Unavailable("OpenID needs the package authlib.", hint="pip install 'isthmus[oidc]'") from None
        return AsyncOAuth2Client(
            self.client_id,
            self.client_secret or None,
            scope="openid profile email",
            redirect_uri=self.redirect,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self.client_secret else "none",
            timeout=15,
        )

    async def begin(self, next_page: str, *, link: bool) -> tuple[str, str]:
        """The provider's page to go to, and what the browser is to keep meanwhile."""
        known = await self.known()
        kept = {"state": new_secret(), "nonce": new_secret(), "verifier": new_secret() * 2, "next": next_page}
        async with self.client() as client:
            url, _ = client.create_authorization_url(
                known["authorization_endpoint"],
                state=kept["state"],
                nonce=kept["nonce"],
                code_verifier=kept["verifier"],
            )
        return url, _packed({**kept, "link": link})

    async def finish(self, query: Any, kept: dict[str, Any]) -> External:
        """Who has come back. Raises Unauthenticated, Forbidden, Unavailable."""
        if query.get("error"):
            said = query.get("error_description") or query["error"]
            raise Unauthenticated(f"The provider said: {said[:300]}", hint="Try again, or sign in otherwise.")
        if not kept or not hmac.compare_digest(query.get("state", "").encode(), str(kept["state"]).encode()):
            raise Forbidden("This is not the way that was begun in this browser.", hint="Begin again.", code="state")
        known = await self.known()
        from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]

        try:
            async with self.client() as client:
                token = await client.fetch_token(
                    known["token_endpoint"], code=query.get("code", ""), code_verifier=kept["verifier"]
                )
        except (OAuthError, httpx.HTTPError) as error:
            raise Unauthenticated(f"The provider refused: {error}", hint="Try again.", code="openid") from None
        claims = self._checked(str(token.get("id_token", "")), known["keys"], str(kept["nonce"]))
        name = str(claims.get(self.claim) or "")
        if not name:
            raise Forbidden(
                f"The provider tells no {self.claim!r} of you.", hint="Ask an admin: --openid-claim names another."
            )
        if self.claim == "email" and claims.get("email_verified") is not True:
            raise Forbidden(f"The provider has not verified {name}.", hint="Verify it there first.")
        return External(issuer=self.issuer, subject=str(claims["sub"]), name=name)

    def _checked(self, token: str, keys: dict[str, Any], nonce: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        rules = jwt.JWTClaimsRegistry(
            leeway=SKEW_S,
            iss={"essential": True, "value": self._known["issuer"]},
            aud={"essential": True, "value": self.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            found = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
            rules.validate(found.claims)
        except (JoseError, ValueError) as error:
            self._known_at = 0.0  # it may have other keys by now
            raise Unauthenticated(f"The provider's token is not good: {error}", code="openid") from None
        return dict(found.claims)


def routes(panel: Panel, provider: Provider) -> list[BaseRoute]:
    """The two ends of the way."""
    return [
        Route("/sign-in/openid", functools.partial(begin, panel, provider), methods=["GET"]),
        Route("/sign-in/openid/callback", functools.partial(callback, panel, provider), methods=["GET"]),
    ]


async def begin(panel: Panel, provider: Provider, request: Request) -> Response:
    """Off to the provider. `link`: to be known by it as who one is here already."""
    next_page = local(request.query_params.get("next", "/"))
    try:
        url, kept = await provider.begin(next_page, link=bool(request.query_params.get("link")))
    except IsthmusError as error:
        return sign_in_form(panel, request, next_page=next_page, error=error, status=error.status)
    response = RedirectResponse(url, status_code=303)
    panel.set_cookie(response, "openid", kept, max_age=WAY_S)
    return response


async def callback(panel: Panel, provider: Provider, request: Request) -> Response:
    """Back from the provider."""
    kept = _unpacked(request.cookies.get(panel.cookie("openid"), ""))
    next_page = local(str(kept.get("next", "/")))
    try:
        who = await provider.finish(request.query_params, kept)
        if kept.get("link"):
            visit = await panel.signing.visit(request.cookies.get(panel.cookie("session"), ""))
            await panel.signing.add_identity(visit.caller, who)
            response: Response = RedirectResponse("/settings", status_code=303)
        else:
            session = await panel.signing.by_openid(who, browser_of(request), role=provider.role)
            response = signed_in(panel, session, next_page)
    except IsthmusError as error:
        response = sign_in_form(panel, request, next_page=next_page, error=error, status=error.status)
    panel.drop_cookie(response, "openid")
    return response


def provider_of(
    issuer: str, client_id: str, client_secret: str, claim: str, role: str, label: str, url: str
) -> Provider:
    """The provider that the settings name. Raises Invalid."""
    if not issuer.startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]")):
        raise Invalid(f"{issuer!r} is not an issuer.", place="--openid", hint="Write it like https://id.example.org.")
    if not client_id:
        raise Invalid("The provider knows us by a client id.", place="--openid-client", hint="Register us there.")
    host = issuer.partition("://")[2].partition("/")[0]
    return Provider(
        issuer=issuer,
        client_id=client_id,
        client_secret=client_secret,
        claim=claim or "preferred_username",
        role=None if role == "none" else Role(role or "member"),
        label=label or host,
        redirect=f"{url}/sign-in/openid/callback",
    )


def _packed(kept: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()


def _unpacked(text: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text)) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"state", "nonce", "verifier"} <= found.keys() else {}
