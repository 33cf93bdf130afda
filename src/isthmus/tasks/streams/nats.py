"""Streams over NATS JetStream: for tasks, and programs, on several machines.

A stream is a JetStream stream with the retention of a work queue, read by one durable consumer that all readers share;
a key-value bucket beside it has who writes (`writer.*`), and whether it is ending or closed. A program deletes the
streams that it gave no name of their own.
"""

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from isthmus.domain.errors import Conflict, Invalid, NotFound, Unavailable
from isthmus.tasks.streams.broker import AT_LEAST_ONCE, UNNAMED

_ACK_S = 30.0  # a message whose reader is silent for so long goes to another
_SLICE_S = 0.25  # how long a reader waits before it looks whether the stream has been closed
_FULL = 10077  # JetStream's "maximum messages exceeded"
_LEFT = "isthmus-left"


class _Half:
    """One stream, as this process knows it."""

    def __init__(self, delivery: str, keys: Any) -> None:
        self.delivery = delivery
        self.keys = keys
        self.reader: Any = None
        self.held: dict[str, list[Any]] = {}
        self.looked = 0.0
        self.closed = False


class Nats:
    """See the module. Implements `Broker`. One connection a process, on an event loop of its own."""

    def __init__(self, address: str) -> None:
        try:
            import nats
        except ImportError:
            raise Invalid(
                "Streams over NATS need nats-py.", place="ISTHMUS_TASKS_STREAMS", hint="pip install 'isthmus[streams]'"
            ) from None
        self._address = address
        self._streams: dict[str, _Half] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="isthmus-nats", daemon=True).start()

        async def connect() -> Any:
            connection = await nats.connect(address, connect_timeout=10, max_reconnect_attempts=1, error_cb=_quiet)
            connection.options["max_reconnect_attempts"] = 60  # once it was there, it is waited for longer
            await connection.subscribe(f"{_LEFT}.>", cb=self._left)
            return connection

        try:
            self._connection = self._do(connect())
        except Exception as error:
            raise Unavailable(
                f"NATS does not answer at {address}: {error}", hint="Set ISTHMUS_TASKS_STREAMS=nats://HOST:4222."
            ) from error
        self._jetstream = self._connection.jetstream()

    def open(self, name: str, delivery: str, limit: int) -> None:
        self._do(self._open(name, delivery, limit))

    def publish(self, name: str, messages: list[bytes]) -> None:
        self._do(self._publish(name, messages))

    def poll(self, name: str, reader: str, most: int, timeout_s: float | None) -> list[bytes]:
        found: list[bytes] = self._do(self._poll(name, reader, most, timeout_s))
        return found

    def join(self, name: str, writer: str) -> None:
        self._do(self._join(name, writer))

    def finish(self, name: str, writer: str) -> None:
        self._do(self._settle(name, writer, ending=True))

    def leave(self, name: str, member: str, ok: bool) -> None:
        self._do(self._leave(name, member, ok))

    def over(self, name: str) -> bool:
        return bool(self._do(self._over(name)))

    def handle(self) -> Any:
        return Nats, (self._address,)

    def end(self) -> None:
        for name in list(self._streams):
            if name.startswith(UNNAMED):
                self.finish(name, "")

    def close(self) -> None:
        """Leave; streams without a name of their own are deleted."""
        with suppress(Exception):
            self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    # -- on the loop -------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, name: str, delivery: str, limit: int) -> None:
        from nats.js.api import DiscardPolicy, RetentionPolicy

        safe = _safe(name)
        keys = await self._jetstream.create_key_value(bucket=f"isthmus-{safe}")
        with suppress(Exception):  # another has said it before
            await keys.create("delivery", delivery.encode())
        there = (await keys.get("delivery")).value.decode()
        if there != delivery:
            raise Conflict(f"The stream {name!r} delivers {there}, not {delivery}.")
        await self._jetstream.add_stream(
            name=f"isthmus-{safe}",
            subjects=[f"isthmus.{safe}"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            max_msgs=limit or -1,
        )
        self._streams[name] = _Half(delivery, keys)

    async def _of(self, name: str) -> _Half:
        half = self._streams.get(name)
        if half is None:
            from nats.js.errors import Error

            try:
                keys = await self._jetstream.key_value(f"isthmus-{_safe(name)}")
                half = _Half((await keys.get("delivery")).value.decode(), keys)
            except Error:
                raise NotFound(f"There is no stream {name!r} at {self._address}.") from None
            self._streams[name] = half
        return half

    async def _is_closed(self, half: _Half) -> bool:
        from nats.js.errors import KeyNotFoundError

        if not half.closed:
            with suppress(KeyNotFoundError):
                await half.keys.get("closed")
                half.closed = True
        return half.closed

    async def _publish(self, name: str, messages: list[bytes]) -> None:
        from nats.js.errors import APIError

        half = await self._of(name)
        if half.closed or time.monotonic() - half.looked > 1.0:
            half.looked = time.monotonic()
            if await self._is_closed(half):
                raise Conflict(f"The stream {name!r} is closed.", hint="Its last producer has ended or closed it.")
        for message in messages:
            while True:
                try:
                    await self._jetstream.publish(f"isthmus.{_safe(name)}", message)
                    break
                except APIError as error:
                    if error.err_code != _FULL:
                        raise
                    await asyncio.sleep(0.02)

    async def _poll(self, name: str, reader: str, most: int, timeout_s: float | None) -> list[bytes]:
        from nats.errors import TimeoutError as Late

        half = await self._of(name)
        await self._deal(half, reader, ok=True)
        end = None if timeout_s is None else time.monotonic() + timeout_s
        if half.reader is None:
            half.reader = await self._reader(name)
        while True:
            left = _SLICE_S if end is None else min(_SLICE_S, max(0.01, end - time.monotonic()))
            try:
                found = await half.reader.fetch(most or 256, timeout=left)
            except (TimeoutError, Late):
                found = []
            if found:
                if half.delivery == AT_LEAST_ONCE:
                    half.held[reader] = found
                    self._loop.create_task(self._hold(half, reader, found))
                else:
                    await asyncio.gather(*(message.ack_sync() for message in found))
                return [message.data for message in found]
            if await self._over(name) or (end is not None and time.monotonic() >= end):
                return []

    async def _reader(self, name: str) -> Any:
        from nats.js.api import AckPolicy, ConsumerConfig

        return await self._jetstream.pull_subscribe(
            f"isthmus.{_safe(name)}",
            durable="readers",
            stream=f"isthmus-{_safe(name)}",
            config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=_ACK_S, max_ack_pending=-1),
        )

    async def _hold(self, half: _Half, reader: str, found: list[Any]) -> None:
        """While its reader works on them, messages stay its own."""
        while half.held.get(reader) is found:
            await asyncio.sleep(_ACK_S / 3)
            if half.held.get(reader) is found:
                for message in found:
                    await message.in_progress()

    async def _deal(self, half: _Half, reader: str, *, ok: bool) -> None:
        found = half.held.pop(reader, [])
        await asyncio.gather(*(message.ack_sync() if ok else message.nak() for message in found))

    async def _join(self, name: str, writer: str) -> None:
        half = await self._of(name)
        if await self._is_closed(half):
            raise Conflict(
                f"The stream {name!r} was closed before this producer was called.",
                hint="Let the program close it, once it has called all of its producers.",
            )
        await half.keys.put(f"writer.{writer}", b"")

    async def _leave(self, name: str, member: str, ok: bool) -> None:
        half = await self._of(name)
        await self._deal(half, member, ok=ok)
        # Whoever has the member's messages deals with them, wherever that is.
        await self._connection.publish(f"{_LEFT}.{_safe(name)}", f"{int(ok)} {member} {name}".encode())
        await self._connection.flush()
        await self._settle(name, member, ending=False, failed=not ok)

    async def _left(self, message: Any) -> None:
        ok, member, name = message.data.decode().split(" ", 2)
        half = self._streams.get(name)
        if half is not None:
            await self._deal(half, member, ok=ok == "1")

    async def _settle(self, name: str, writer: str, *, ending: bool, failed: bool = False) -> None:
        from nats.js.errors import NoKeysError

        half = await self._of(name)
        try:
            keys = set(await half.keys.keys())
        except NoKeysError:
            keys = set()
        mine = f"writer.{writer}"
        if ending or (failed and mine in keys):
            await half.keys.put("ending", b"")
            keys.add("ending")
        if mine in keys:
            await half.keys.delete(mine)
            keys = set(await half.keys.keys())
        if "ending" in keys and not any(key.startswith("writer.") for key in keys):
            await half.keys.put("closed", b"")
            half.closed = True

    async def _over(self, name: str) -> bool:
        half = await self._of(name)
        if not await self._is_closed(half):
            return False
        state = (await self._jetstream.stream_info(f"isthmus-{_safe(name)}")).state
        return bool(state.messages == 0)

    async def _close(self) -> None:
        for name in self._streams:
            if name.startswith(UNNAMED):
                with suppress(Exception):
                    await self._jetstream.delete_stream(f"isthmus-{_safe(name)}")
                    await self._jetstream.delete_key_value(f"isthmus-{_safe(name)}")
        await self._connection.close()


def _safe(name: str) -> str:
    """A name that NATS takes as one word."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        return name
    return "x" + hashlib.sha256(name.encode()).hexdigest()[:40]


async def _quiet(error: Exception) -> None:
    """Trouble on the line comes out of the calls."""
