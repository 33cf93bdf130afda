"""An OpenID provider on loopback: discovery, a sign-in page, codes with PKCE, signed ID tokens, keys."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.testbed.ports import free_port
from tests.testbed.waiting import wait_for


class OpenIdProvider:
    """It knows one client, and whoever types a name on its page. ``spoil`` changes the claims of its next token."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        self.client_id, self.client_secret = client_id, client_secret
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.spoil: dict[str, Any] = {}
        self.signing_key = self.key
        self._codes: dict[str, dict[str, str]] = {}
        routes = [
            Route("/.well-known/openid-configuration", self._configuration),
            Route("/keys", self._keys),
            Route("/authorize", self._authorize, methods=["GET", "POST"]),
            Route("/token", self._token, methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=self.port, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> OpenIdProvider:
        self._thread.start()
        wait_for(lambda: self._server.started, "the OpenID provider to listen")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def _configuration(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
            }
        )

    async def _keys(self, request: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        assert query["client_id"] == self.client_id
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        if request.method == "GET":
            return HTMLResponse(
                '<form method="post"><label>Who are you? <input name="who"></label><button>Go on</button></form>'
            )
        who = (await request.body()).decode().partition("=")[2]
        if who == "nobody":
            return self._back(query, error="access_denied", error_description="You said no.")
        code = secrets.token_urlsafe()
        self._codes[code] = {**query, "who": who}
        return self._back(query, code=code)

    def _back(self, query: dict[str, str], **more: str) -> Response:
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode({**more, 'state': query['state']})}", 303)

    async def _token(self, request: Request) -> Response:
        form = dict(pair.split("=", 1) for pair in (await request.body()).decode().split("&"))
        basic = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        asked = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            asked is None
            or request.headers["authorization"] != f"Basic {basic}"
            or challenge != asked["code_challenge"]
        ):
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": f"subject-of-{asked['who']}",
            "aud": self.client_id,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "preferred_username": asked["who"],
            **self.spoil,
        }
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.signing_key)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": token})
