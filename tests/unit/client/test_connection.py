"""A connection's retries and errors, against real ASGI apps and real sockets."""

import asyncio
import socket

import httpx
import pytest

from isthmus.client.config import Config
from isthmus.client.connection import Connection, error_of
from isthmus.domain import errors


class Server:
    """An ASGI app that answers each request by the next of its answers, the last one for ever."""

    def __init__(self, *answers: tuple[int, bytes, str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, scope: dict, receive: object, send: object) -> None:
        status, body, kind = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        headers = [(b"content-type", kind.encode())]
        if kind != "text/html":
            headers.append((b"isthmus-server", b"0"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


PROBLEM = "application/problem+json"
STOPPING = b'{"type": "urn:isthmus:problem:unavailable", "detail": "Stopping.", "code": "stopping", "status": 503}'
FINE = (200, b'{"isthmus": "1"}', "application/json")


def connection(server: Server, patience_s: float = 5.0) -> Connection:
    return Connection(Config(url="http://x"), transport=httpx.ASGITransport(server), patience_s=patience_s)


async def test_asks_again_while_the_server_is_away() -> None:
    server = Server((503, STOPPING, PROBLEM), (503, STOPPING, PROBLEM), FINE)
    assert await connection(server).ask(dict[str, str], "GET", "/v1/ping") == {"isthmus": "1"}
    assert server.asked == 3


async def test_gives_up_when_the_patience_is_over() -> None:
    server = Server((503, STOPPING, PROBLEM))
    with pytest.raises(errors.Unavailable, match="Stopping") as caught:
        await connection(server, patience_s=0.4).ask(dict[str, str], "GET", "/v1/ping")
    assert caught.value.code == "stopping"
    assert server.asked > 1


async def test_does_not_ask_again_what_may_not_be_done_twice() -> None:
    server = Server((503, STOPPING, PROBLEM), FINE)
    with pytest.raises(errors.Unavailable):
        await connection(server).ask(dict[str, str], "POST", "/x", again=False)
    assert server.asked == 1


async def test_problems_are_the_domain_s_errors() -> None:
    body = (
        b'{"type": "urn:isthmus:problem:invalid", "status": 422, "detail": "Bad.", "code": "invalid", "place": "a.b",'
        b' "hint": "Do so.", "errors": [{"place": "a.b", "detail": "Bad."}, {"place": "c", "detail": "Worse."}]}'
    )
    with pytest.raises(errors.Invalid) as caught:
        await connection(Server((422, body, PROBLEM))).ask(dict[str, str], "GET", "/x")
    assert (caught.value.message, caught.value.place, caught.value.hint) == ("Bad.", "a.b", "Do so.")
    assert [fault.place for fault in caught.value.faults] == ["a.b", "c"]


def test_every_kind_of_error_comes_back_as_itself() -> None:
    from isthmus.api.problems import body_of

    for kind in (
        errors.NotFound,
        errors.Conflict,
        errors.Forbidden,
        errors.TooLarge,
        errors.Refused,
        errors.Unreachable,
    ):
        found = error_of(body_of(kind("Says so.", hint="h", place="p", code="c")))
        assert type(found) is kind
        assert (found.message, found.hint, found.place, found.code) == ("Says so.", "h", "p", "c")


async def test_a_stranger_is_told_from_isthmus() -> None:
    for status in (200, 404, 500):
        with pytest.raises(errors.Unavailable, match=rf"What answers at http://x is not Isthmus \(HTTP {status}\)"):
            await connection(Server((status, b"<html>", "text/html")), patience_s=0).ask(dict[str, str], "GET", "/v1/x")


async def test_no_server_is_told_with_the_url_and_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        quiet = Connection(Config(url=url, source="ISTHMUS_URL"), patience_s=0.2)
        with pytest.raises(errors.Unavailable) as caught:
            await quiet.ask(dict[str, str], "GET", "/v1/ping")
        await quiet.close()
    assert caught.value.message == f"No server answers at {url} (from ISTHMUS_URL)."
    assert "isthmus up" in caught.value.hint
    assert caught.value.code == "no-server"


async def test_a_server_that_comes_up_late_is_found() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nisthmus-server: 0\r\ncontent-length: 14\r\n\r\n" + b'{"isthmus":""}')
        await writer.drain()
        writer.close()

    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    early = Connection(Config(url=f"http://127.0.0.1:{port}"), patience_s=20)
    asking = asyncio.create_task(early.ask(dict[str, str], "GET", "/v1/ping"))
    while not asking.done() and early.misses == 0:
        await asyncio.sleep(0)
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    assert await asking == {"isthmus": ""}
    server.close()
    await early.close()


async def test_an_answer_of_another_shape_names_the_versions() -> None:
    with pytest.raises(errors.IsthmusError, match="can't be read") as caught:
        await connection(Server((200, b'{"isthmus": 3}', "application/json"))).ask(dict[str, str], "GET", "/v1/ping")
    assert "older or newer" in caught.value.hint
