"""The proxy's replies as the dataclasses of `base`, and its errors as ours. Pure.

What does not look as docs/site-protocol.md says is BadReply: a reply is taken whole or not at all.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from isthmus.domain.errors import BadReply, Invalid, IsthmusError, NotFound, Refused
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Inventory
from isthmus.sites.base import (
    Cache,
    Cached,
    Entry,
    EntryKind,
    Hello,
    LogPart,
    Polled,
    Seen,
    Stat,
    State,
    Submitted,
)
from isthmus.sites.wire import Pace

T = TypeVar("T")

# What the proxy says no with, to ours; any other code is Refused.
_ERRORS: dict[str, type[IsthmusError]] = {
    "bad-request": Invalid,
    "outside-workdir": Invalid,
    "not-found": NotFound,
    # The batch system did not answer, or the bytes did not all come: what was done is unknown.
    "batch-unavailable": BadReply,
    "cut": BadReply,
}
_STATES = frozenset({"pending", "running", "ended", "gone", "unknown", ""})
_KINDS = frozenset({"file", "folder", "link", "other"})


def error_of(said: Mapping[str, Any]) -> IsthmusError:
    """The error that a proxy's `{"code", "message", "hint", "transient"}` stands for."""
    code = str(said.get("code", "internal"))
    message = str(said.get("message", "")) or f"The proxy refused without a reason ({code})."
    error = _ERRORS.get(code, Refused)(message, hint=str(said.get("hint", "")), code=code)
    error.transient = bool(said.get("transient", error.transient))
    return error


def read(shape: Callable[[Any], T], reply: Any) -> T:
    """`shape(reply)`, or BadReply where it does not fit."""
    try:
        return shape(reply)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise BadReply(f"The proxy's reply has another shape than ours: {error!r}.", code="garbled") from error


def hello(reply: Any) -> Hello:
    return Hello(
        version=str(reply["version"]),
        host=str(reply["host"]),
        user=str(reply["user"]),
        python=str(reply["python"]),
        workdir=str(reply["workdir"]),
        free_bytes=int(reply["free_bytes"]),
        architecture=str(reply.get("architecture", "")),
    )


def inventory(reply: Any) -> Inventory:
    """Fields that a newer or older proxy has beyond ours are left out."""
    from pydantic import TypeAdapter

    known = {name: value for name, value in reply.items() if name in Inventory.__dataclass_fields__}
    return TypeAdapter(Inventory).validate_python(known)


def results(shape: Callable[[Any], T]) -> Callable[[Any], dict[str, T | IsthmusError]]:
    """Reads `{"results": {key: {"ok"} or {"error"}}}`; the fields of an `ok` may also stand there themselves."""

    def one(said: Any) -> T | IsthmusError:
        if "error" in said:
            return error_of(said["error"])
        return shape(said.get("ok", said))

    return lambda reply: {key: one(said) for key, said in reply["results"].items()}


def submitted(said: Any) -> Submitted:
    return Submitted(str(said["native_id"]))


def nodes(said: Any) -> tuple[str, ...]:
    return tuple(str(node) for node in said["nodes"])


def seen(said: Any) -> Seen:
    state = said.get("state") or ""
    if state not in _STATES:
        raise ValueError(f"the state {state!r}")
    reason, message = said.get("reason") or "", said.get("message") or ""
    if reason not in Reason.__members__.values():
        reason, message = Reason.UNKNOWN, f"{message} ({reason})".strip()
    reports = said.get("reports") or ""
    return Seen(
        native_state=said.get("native_state") or "",
        state=cast(State, state),
        reason=Reason(reason),
        message=message,
        exit_code=said.get("exit_code"),
        signal=said.get("signal"),
        nodes=tuple(said.get("nodes") or ()),
        offset=int(said.get("from") or 0),
        reports=reports.encode(),
        claimed=bool(said.get("claimed")),
    )


async def polled(reply: Any) -> Polled:
    """In steps: there may be ten thousand of them."""
    pace = Pace()
    attempts: dict[str, Seen] = {}
    for key, said in read(lambda it: it["attempts"].items(), reply):
        attempts[key] = read(seen, said)
        await pace.step()
    return read(
        lambda it: Polled(attempts, bool(it["queried"]), str(it.get("query_error") or ""), int(it.get("others") or 0)),
        reply,
    )


def log_part(reply: Any) -> LogPart:
    return LogPart(int(reply["offset"]), base64.b64decode(reply["data"], validate=True), int(reply["size"]))


def stats(reply: Any) -> dict[str, Stat | None]:
    return {
        path: None if said is None else Stat(int(said["size"]), _kind(said), str(said.get("digest") or ""))
        for path, said in reply["results"].items()
    }


def entries(reply: Any) -> tuple[Entry, ...]:
    return tuple(
        Entry(str(said["path"]), int(said["size"]), _kind(said), float(said["mtime"])) for said in reply["entries"]
    )


def cache(reply: Any) -> Cache:
    return Cache(
        {digest: Cached(int(said["size"]), float(said["used"])) for digest, said in reply["entries"].items()},
        int(reply.get("free_bytes") or 0),
    )


def _kind(said: Any) -> EntryKind:
    return cast(EntryKind, said["kind"] if said["kind"] in _KINDS else "other")
