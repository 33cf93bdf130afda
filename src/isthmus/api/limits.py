"""The limit on the size of bodies, kept before anything reads them: pure ASGI, so that streams stay streams."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.api import problems
from isthmus.domain.errors import TooLarge


class BodyLimit:
    """Refuses bodies over `limit` bytes; those of PATCH, the pieces of uploads, over `chunk_limit`.

    A length announced too large is refused before a byte is read; one that is not announced, as soon as it is over.
    """

    def __init__(self, app: ASGIApp, *, limit: int, chunk_limit: int) -> None:
        self.app = app
        self.limit = limit
        self.chunk_limit = chunk_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.chunk_limit if scope["method"] == "PATCH" else self.limit
        sentence = f"The body is over the limit of {limit} bytes."
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit() and int(announced) > limit:
            error = TooLarge(sentence, place="body", hint=problems.TOO_LARGE_HINT)
            await problems.answer(error)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # The framework lets its own exceptions alone pass out of reading a body.
                raise HTTPException(413, sentence)
            return message

        await self.app(scope, counted, send)
