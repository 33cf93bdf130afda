"""One server, spoken to: requests with retries, answers as the domain's types, problems as the domain's errors."""

import asyncio
import random
import ssl
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from isthmus import __version__, codec
from isthmus.client import pinning
from isthmus.client.config import Config
from isthmus.domain import errors

T = TypeVar("T")

REQUEST_TIMEOUT_S = 60.0  # between two signs of life; waits are longer by what they ask for
_AGAIN = frozenset({502, 503, 504})


class Connection:
    """Requests to one server. Those that may be made twice are, while `patience_s` lasts."""

    def __init__(
        self, config: Config, *, transport: httpx.AsyncBaseTransport | None = None, patience_s: float = 5.0
    ) -> None:
        self.config = config
        self.transport = transport  # None: HTTP over the network
        self.patience_s = patience_s
        self.misses = 0  # requests that had to be made again
        headers = {"User-Agent": f"isthmus/{__version__}", "Accept": "application/json"}
        if config.token:
            headers["Authorization"] = f"Bearer {config.token}"
        self._http = httpx.AsyncClient(
            base_url=config.url,
            headers=headers,
            transport=transport,
            verify=_verify(config),
            timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=10.0, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            follow_redirects=False,
            trust_env=transport is None,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        body_kind: Any = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        again: bool = True,
    ) -> T:
        """One request whose answer is a `kind`. `again`: it does no harm twice."""
        content = None
        sent = dict(headers or {})
        if body is not None:
            content = codec.write_json(body, body_kind)
            sent["Content-Type"] = "application/json"
        response = await self.send(method, path, query=query, content=content, headers=sent, wait_s=wait_s, again=again)
        if kind is type(None):
            return None
        try:
            return codec.read_json(kind, response.content)
        except errors.Invalid as error:
            raise errors.IsthmusError(
                f"The server's answer to {method} {path} can't be read: {error}",
                hint=f"This client is {__version__}: is the server older or newer?",
                code="bad-answer",
            ) from None

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        again: bool = True,
    ) -> httpx.Response:
        """One request, its answer whole. Raises the domain's errors."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.patience_s
        request = self._http.build_request(
            method,
            path,
            params=_plain(query or {}),
            content=content,
            headers=dict(headers or {}),
            timeout=httpx.Timeout(REQUEST_TIMEOUT_S + wait_s, connect=10.0, pool=None),
        )
        delay = 0.1
        while True:
            try:
                response = await self._http.send(request)
                if response.status_code < 400:
                    self._check_ours(response)
                    return response
                error = self._problem(response)
                retry = again and response.status_code in _AGAIN
            except httpx.TransportError as fault:
                error, retry = self._unreached(fault), again or isinstance(fault, httpx.ConnectError)
                retry = retry and not isinstance(error, errors.Unauthenticated)
            if not retry or loop.time() + delay > end:
                raise error
            self.misses += 1
            await asyncio.sleep(delay * random.uniform(0.7, 1.3))
            delay = min(delay * 2, 3.0)

    def _check_ours(self, response: httpx.Response) -> None:
        if "isthmus-server" not in response.headers:
            raise self._stranger(response)

    def _stranger(self, response: httpx.Response) -> errors.IsthmusError:
        return errors.Unavailable(
            f"What answers at {self.config.url} is not Isthmus (HTTP {response.status_code}).",
            hint="Check the URL; `isthmus up` prints its own.",
            code="not-isthmus",
        )

    def _problem(self, response: httpx.Response) -> errors.IsthmusError:
        """The error that the server told."""
        if not response.headers.get("content-type", "").startswith("application/problem+json"):
            return self._stranger(response)
        return error_of(response.json())

    def _unreached(self, fault: httpx.TransportError) -> errors.IsthmusError:
        cause: BaseException | None = fault
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return errors.Unauthenticated(
                    f"The certificate of {self.config.url} is not trusted: {cause.verify_message}.",
                    hint=f"Pin it: isthmus login {self.config.url} --fingerprint SHA256:… (`isthmus up` prints it).",
                    code="wrong-certificate",
                )
            cause = cause.__cause__ or cause.__context__
        if isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout):
            where = f" (from {self.config.source})" if self.config.source else ""
            return errors.Unavailable(
                f"No server answers at {self.config.url}{where}.",
                hint="Start it with `isthmus up`, or name another with `isthmus login URL`.",
                code="no-server",
            )
        return errors.Unavailable(
            f"The connection to {self.config.url} broke: {fault or type(fault).__name__}.", code="connection-broken"
        )


def error_of(body: Mapping[str, Any]) -> errors.IsthmusError:
    """The domain's error that a problem tells of."""
    kinds = {kind.kind(): kind for kind in _tree(errors.IsthmusError)}
    kind = kinds.get(str(body.get("type", "")).rpartition(":")[2], errors.IsthmusError)
    words = {name: str(body.get(name, "")) for name in ("hint", "place", "code")}
    detail = str(body.get("detail", "The server gave no reason."))
    if issubclass(kind, errors.Invalid):
        faults = tuple(
            errors.Invalid(str(each.get("detail")), place=str(each.get("place", "")), hint=str(each.get("hint", "")))
            for each in body.get("errors", [])
        )
        return kind(detail, **words, faults=faults)
    return kind(detail, **words)


def _tree(kind: type[errors.IsthmusError]) -> list[type[errors.IsthmusError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


def _plain(query: Mapping[str, Any]) -> dict[str, Any]:
    """The query without what is empty, its values as the server reads them."""
    found: dict[str, Any] = {}
    for name, value in query.items():
        if value is None or value == "" or value == () or value == []:
            continue
        if isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif hasattr(value, "isoformat"):
            found[name] = value.isoformat()
        else:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _verify(config: Config) -> ssl.SSLContext | bool:
    if config.certificate:
        return pinning.pinned(config.certificate)
    if config.ca:
        return pinning.authority(config.ca)
    return config.url.startswith("https")  # loading the system's authorities takes a while: not for plain HTTP
