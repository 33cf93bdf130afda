"""What one agent, or a program, or a person says to an agent: its HTTP client. Errors are IsthmusErrors."""

import contextlib
import json
import os
import ssl
from pathlib import Path
from typing import Any, Self

import httpx

from isthmus.client import pinning
from isthmus.domain import errors
from isthmus.domain.errors import Invalid, IsthmusError, Unavailable

_QUICK_S = 10.0
_KINDS = {
    kind.status: kind
    for kind in (errors.Invalid, errors.NotFound, errors.Conflict, errors.Unauthenticated, errors.Forbidden)
}


class Line:
    """To the agent at a URL. Close it."""

    def __init__(self, url: str, token: str, certificate: str = "") -> None:
        """`certificate`: the PEM that a self-signed agent shows, and that is trusted; else the system's authorities."""
        if not url.startswith(("http://", "https://")):
            raise Invalid(f"{url!r} is no URL of an agent.", hint="Such as https://edge-1:8090.")
        self.url = url.rstrip("/")
        self.token = token
        self.certificate = certificate
        verify: ssl.SSLContext | bool = pinning.pinned(certificate) if certificate else True
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            verify=verify,
            timeout=httpx.Timeout(_QUICK_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
        )

    @classmethod
    def of_environment(cls, url: str = "") -> Self:
        """With ISTHMUS_AGENT, ISTHMUS_AGENT_TOKEN, and ISTHMUS_AGENT_CERTIFICATE, which names a file."""
        url = url or os.environ.get("ISTHMUS_AGENT", "http://127.0.0.1:8090")
        path = os.environ.get("ISTHMUS_AGENT_CERTIFICATE", "")
        try:
            certificate = Path(path).read_text() if path else ""
        except OSError as error:
            raise Invalid(f"{path}: {error.strerror}.", place="ISTHMUS_AGENT_CERTIFICATE") from None
        return cls(url, os.environ.get("ISTHMUS_AGENT_TOKEN", ""), certificate)

    async def ask(self, method: str, path: str, body: Any = None, *, timeout_s: float = _QUICK_S) -> Any:
        """The answer's JSON. Raises what the agent says is wrong, and Unavailable where none answers."""
        with self._trouble():
            answer = await self._http.request(method, path, json=body, timeout=timeout_s)
        _check(answer)
        return answer.json()

    async def status(self) -> dict[str, Any]:
        """What the agent says of itself."""
        found: dict[str, Any] = await self.ask("GET", "/v1/agent", timeout_s=3.0)
        return found

    async def task(self, piece: bytes, name: str, units: int, *, stays: bool = False, been: str = "") -> bytes:
        """Have the agent run a call; answers when it has ended. Raises Unavailable when the agent is lost."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Isthmus-Function": name,
            "Isthmus-Units": str(units),
            "Isthmus-Stays": str(int(stays)),
            "Isthmus-Been": been,
        }
        with self._trouble():
            answer = await self._http.post(
                "/v1/tasks", content=piece, headers=headers, timeout=httpx.Timeout(None, connect=_QUICK_S)
            )
        _check(answer)
        return answer.content

    async def close(self) -> None:
        """End its connections."""
        await self._http.aclose()

    @contextlib.contextmanager
    def _trouble(self) -> Any:
        try:
            yield
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise Unavailable(
                f"No agent answers at {self.url}: {said}", hint="isthmus agent serve starts one."
            ) from error


def _check(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        body = answer.json()
    except json.JSONDecodeError:
        body = {}
    kind: type[IsthmusError] = _KINDS.get(answer.status_code, Unavailable)
    raise kind(body.get("detail", answer.text[:300]), hint=body.get("hint", ""), place=body.get("place", ""))
