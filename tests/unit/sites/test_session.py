"""The session against a proxy that a test scripts: what it starts, how it recovers, what it makes of broken replies."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from isthmus.domain.errors import BadReply, Invalid, IsthmusError, NotFound, Refused, Unreachable
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health
from isthmus.sites.backoff import Backoff
from isthmus.sites.base import Kill, Known, LogPart, Site, Stat, Submission, Submitted
from isthmus.sites.session import SUBMIT_AT_ONCE, SiteSession
from isthmus.testing import Cut, FakeProgram, ManualClock
from tests.unit.sites.scripted import HELLO, Said, ScriptedProxy, always, frame

KEY = "1.1-abcd"


@pytest.fixture
def proxy() -> ScriptedProxy:
    return ScriptedProxy()


@pytest.fixture
async def site(proxy: ScriptedProxy) -> AsyncIterator[SiteSession]:
    session = session_of(proxy)
    yield session
    await session.close()


def session_of(proxy: ScriptedProxy, **options: Any) -> SiteSession:
    session = SiteSession("hpc", proxy.transport, proxy.launch, batch="slurm", **options)
    site: Site = session
    assert site is session
    return session


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def accepting(proxy: ScriptedProxy) -> None:
    async def submit(program: FakeProgram, request: dict[str, Any]) -> Any:
        return {"results": {job["key"]: {"ok": {"native_id": f"n{job['key']}"}} for job in request["jobs"]}}

    proxy.answers["submit"] = submit


# ---- the archive and the start


async def test_first_contact_sends_the_archive_and_the_second_does_not(proxy: ScriptedProxy) -> None:
    proxy.installed = False
    site = session_of(proxy)
    assert (await site.hello()).workdir == HELLO["workdir"]
    await site.close()
    assert (await site.hello()).host == "login1"
    await site.close()
    assert (proxy.installs, proxy.starts) == (1, 2)


async def test_noise_before_and_between_replies_is_ignored(proxy: ScriptedProxy, site: SiteSession) -> None:
    async def hello(program: FakeProgram, request: dict[str, Any]) -> Any:
        program.write(b"\nmodule: loading\n\x00\xff\n" + str(request).encode())
        program.write_stderr("warning: locale\n")
        return HELLO

    proxy.answers["hello"] = hello
    assert (await site.hello()).user == "alice"
    assert (await site.hello()).user == "alice"


@pytest.mark.parametrize(
    ("status", "stderr", "code", "text"),
    [
        (127, "sh: 1: exec: python3: not found", "no-python", "python3: not found"),
        (1, 'File "isthmus", line 1\nSyntaxError: invalid syntax', "proxy-failed", "Python 3.6 or newer"),
        (1, "ImportError: no ssl", "proxy-failed", "no ssl"),
    ],
)
async def test_a_proxy_that_does_not_start_says_why(
    proxy: ScriptedProxy, site: SiteSession, status: int, stderr: str, code: str, text: str
) -> None:
    async def start(program: FakeProgram) -> int:
        program.write_stderr(stderr)
        return status

    proxy.start = start
    with pytest.raises(Unreachable) as caught:
        await site.hello()
    assert caught.value.code == code
    assert text in str(caught.value)
    assert site.contact.health is Health.UNREACHABLE
    assert site.contact.reason == caught.value.message


async def test_an_unreachable_site_is_left_alone_for_a_while_unless_somebody_asks(proxy: ScriptedProxy) -> None:
    clock = ManualClock()
    site = session_of(proxy, backoff=Backoff(clock=clock, uniform=lambda low, high: high))
    proxy.transport.refusals = [Unreachable("login1 refuses connections.", code="refused")] * 2
    accepting(proxy)
    for _ in range(3):
        with pytest.raises(Unreachable, match="refuses connections"):
            await site.submit([Submission(KEY, {})])
    assert len(proxy.transport.refusals) == 1
    with pytest.raises(Unreachable):
        await site.hello(now=True)
    assert site.contact.failures == 2
    await clock.advance(2)
    await site.submit([Submission(KEY, {})])
    assert site.contact.health is Health.UP
    await site.close()


async def test_many_calls_at_once_start_one_proxy(proxy: ScriptedProxy, site: SiteSession) -> None:
    await asyncio.gather(*(site.hello() for _ in range(20)))
    assert proxy.starts == 1
    assert len(proxy.requests) == 21


# ---- requests


async def test_the_protocol_s_requests_and_replies(proxy: ScriptedProxy, site: SiteSession) -> None:
    proxy.answers |= {
        "submit": always({"results": {KEY: {"native_id": "77"}, "2.1-x": {"error": Said("batch-refused", "no").body}}}),
        "kill": always({"results": {KEY: {}, "2.1-x": {"error": Said("fenced", "no").body}}}),
        "locate": always({"results": {KEY: {"nodes": ["n1", "n2"]}}}),
        "logs": always({"offset": 5, "data": "aGVsbG8=", "size": 10}),
        "stat": always({"results": {"a": {"size": 1, "kind": "file", "digest": "d"}, "b": None}}),
        "list": always({"entries": [{"path": "a", "size": 1, "kind": "socket", "mtime": 1.5}]}),
        "clean": always({}),
        "probe": always({"host": "login1", "queues": [{"name": "q", "nodes": [{"name": "n", "cpus": 4}]}], "new": 1}),
    }
    jobs = [
        Submission(KEY, {"command": ["true"]}, {"TOKEN": "s3cret"}, "#!/bin/sh", ("-p", "long")),
        Submission("2.1-x", {}),
    ]
    answer = await site.submit(jobs)
    assert answer[KEY] == Submitted("77")
    assert isinstance(answer["2.1-x"], Refused) and answer["2.1-x"].code == "batch-refused"
    request = proxy.requests[-1]
    assert request == {
        "id": request["id"],
        "verb": "submit",
        "jobs": [
            {
                "key": KEY,
                "job": {"command": ["true"]},
                "secrets": {"TOKEN": "s3cret"},
                "batch": "#!/bin/sh",
                "argv": ["-p", "long"],
            },
            {"key": "2.1-x", "job": {}, "secrets": {}, "batch": "", "argv": []},
        ],
    }
    killed = await site.kill({KEY: Kill("77", 5), "2.1-x": Kill("78")}, fence=True)
    assert killed[KEY] is None and isinstance(killed["2.1-x"], Refused)
    assert proxy.requests[-1]["keys"][KEY] == {"native_id": "77", "grace_s": 5}
    assert await site.locate({KEY: "77"}) == {KEY: ("n1", "n2")}
    assert await site.logs(KEY, offset=5) == LogPart(5, b"hello", 10)
    assert await site.stat(["a", "b"]) == {"a": Stat(1, "file", "d"), "b": None}
    assert (await site.list(""))[0].kind == "other"
    await site.clean([KEY], checkpoints=[1])
    inventory = await site.probe()
    assert inventory.queues[0].nodes[0].cpus == 4


async def test_poll_reads_what_is_new(proxy: ScriptedProxy, site: SiteSession) -> None:
    line = '{"kind": "metrics", "values": {"verlust \u00e4": 1}}\n'
    proxy.answers["poll"] = always(
        {
            "attempts": {
                KEY: {
                    "native_state": "OUT_OF_MEMORY",
                    "state": "ended",
                    "reason": "OOM",
                    "message": "too much",
                    "exit_code": 0,
                    "signal": 9,
                    "nodes": ["n1"],
                    "from": 12,
                    "reports": line,
                    "claimed": True,
                },
                "2.1-x": {
                    "native_state": "WEIRD",
                    "state": "unknown",
                    "reason": "NEW_REASON",
                    "from": 0,
                    "reports": "",
                },
            },
            "queried": True,
            "query_error": "",
            "others": 3,
        }
    )
    polled = await site.poll({KEY: Known("77", 12, "RUNNING")}, wait_s=3, query=False)
    seen = polled.attempts[KEY]
    assert (seen.reason, seen.exit_code, seen.signal, seen.offset) == (Reason.OOM, 0, 9, 12)
    assert seen.reports == line.encode()
    assert polled.attempts["2.1-x"].reason is Reason.UNKNOWN
    assert "NEW_REASON" in polled.attempts["2.1-x"].message
    assert polled.others == 3
    request = proxy.requests[-1]
    assert (request["attempts"], request["wait_s"], request["query"]) == (
        {KEY: {"native_id": "77", "reports": 12, "native_state": "RUNNING"}},
        3,
        False,
    )


@pytest.mark.parametrize(
    ("code", "kind", "transient"),
    [
        ("bad-request", Invalid, False),
        ("outside-workdir", Invalid, False),
        ("not-found", NotFound, False),
        ("disk-full", Refused, False),
        ("batch-refused", Refused, False),
        ("batch-unavailable", BadReply, True),
        ("something-new", Refused, True),
    ],
)
async def test_the_proxy_s_errors_are_ours(
    proxy: ScriptedProxy, site: SiteSession, code: str, kind: type[IsthmusError], transient: bool
) -> None:
    async def no(program: FakeProgram, request: dict[str, Any]) -> Any:
        raise Said(code, "because", transient)

    proxy.answers["stat"] = no
    with pytest.raises(kind, match="because") as caught:
        await site.stat(["x"])
    assert (caught.value.code, caught.value.transient) == (code, transient)
    assert site.contact.health is Health.UP
    await site.hello()


async def test_requests_are_pipelined_and_answered_to_who_asked(proxy: ScriptedProxy, site: SiteSession) -> None:
    gate = asyncio.Event()

    async def locate(program: FakeProgram, request: dict[str, Any]) -> Any:
        await gate.wait()
        return {"results": {key: {"nodes": [f"node-of-{key}"]} for key in request["keys"]}}

    proxy.answers["locate"] = locate
    asked = [asyncio.create_task(site.locate({f"{n}.1-x": "1"})) for n in range(5)]
    await until(lambda: "locate" in proxy.verbs())
    asked[1].cancel()
    gate.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers.pop(1), asyncio.CancelledError)
    assert answers == [{f"{n}.1-x": (f"node-of-{n}.1-x",)} for n in (0, 2, 3, 4)]
    assert proxy.starts == 1


async def test_many_submissions_go_in_parts_and_what_came_before_a_fault_counts(
    proxy: ScriptedProxy, site: SiteSession
) -> None:
    accepting(proxy)
    jobs = [Submission(f"{number}.1-x", {}) for number in range(2 * SUBMIT_AT_ONCE + 1)]
    answer = await site.submit(jobs)
    assert [len(request["jobs"]) for request in proxy.requests[1:]] == [SUBMIT_AT_ONCE, SUBMIT_AT_ONCE, 1]
    assert list(answer) == [job.key for job in jobs]

    good = proxy.answers["submit"]

    async def third_breaks(program: FakeProgram, request: dict[str, Any]) -> Any:
        if len(request["jobs"]) == 1:
            raise Cut
        return await good(program, request)

    proxy.answers["submit"] = third_breaks
    answer = await site.submit(jobs)
    assert isinstance(answer[jobs[0].key], Submitted)
    assert isinstance(answer[jobs[-1].key], Unreachable)
    with pytest.raises(Unreachable):
        await site.submit(jobs[-1:])


async def test_large_submissions_are_few_in_a_request(proxy: ScriptedProxy, site: SiteSession) -> None:
    accepting(proxy)
    await site.submit([Submission(f"{n}.1-x", {"script": "x" * 3_000_000}) for n in range(3)])
    assert [len(request["jobs"]) for request in proxy.requests[1:]] == [1, 1, 1]


# ---- broken conversations


Break = Any
GARBAGE = [b"not json", b'{"id": 1', b"[]", b"null", b'{"id": 99, "ok": {}}', b'{"ok": {}}', b'{"id": 2}', b"\xff"]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_between_tokens_is_a_bad_reply_and_the_next_request_has_a_new_proxy(
    proxy: ScriptedProxy, site: SiteSession, garbage: bytes
) -> None:
    async def broken(program: FakeProgram, request: dict[str, Any]) -> Any:
        token = program.argv[10].encode()
        program.write(token + garbage + token + b"\n")
        await asyncio.Event().wait()

    proxy.answers["stat"] = broken
    with pytest.raises(BadReply):
        await site.stat(["x"])
    proxy.answers["stat"] = always({"results": {}})
    assert await site.stat(["x"]) == {}
    assert proxy.starts == 2


@pytest.mark.parametrize("cut_at", [0, 1, 20, 40, 60, 100])
@pytest.mark.parametrize("how", ["cut", "killed", "closed"])
async def test_half_a_reply_is_never_a_result(proxy: ScriptedProxy, site: SiteSession, cut_at: int, how: str) -> None:
    async def half(program: FakeProgram, request: dict[str, Any]) -> Any:
        whole = frame(program.argv[10], {"id": request["id"], "ok": {"results": {KEY: {"native_id": "77"}}}})
        assert len(whole) > 101
        program.write(whole[:cut_at])
        program.write_stderr("the node goes down NOW")
        if how == "cut":
            raise Cut
        if how == "killed":
            raise asyncio.CancelledError
        raise EOFError

    async def program(it: FakeProgram) -> int:
        try:
            return await ScriptedProxy.run(proxy, it)
        except EOFError:
            return 0

    proxy.transport.function = program
    proxy.answers["submit"] = half
    with pytest.raises((BadReply, Unreachable)) as caught:
        await site.submit([Submission(KEY, {})])
    assert caught.value.transient
    if how != "cut" and not cut_at:
        assert "the node goes down NOW" in str(caught.value)
    assert site.contact.health is Health.UNREACHABLE
    accepting(proxy)
    assert (await site.submit([Submission(KEY, {})])) == {KEY: Submitted(f"n{KEY}")}
    assert site.contact.health is Health.UP


async def test_all_who_wait_learn_of_the_break(proxy: ScriptedProxy, site: SiteSession) -> None:
    gate = asyncio.Event()

    async def cut(program: FakeProgram, request: dict[str, Any]) -> Any:
        await gate.wait()
        raise Cut

    proxy.answers["locate"] = cut
    asked = [asyncio.create_task(site.locate({KEY: "1"})) for _ in range(5)]
    await until(lambda: "locate" in proxy.verbs())
    gate.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, Unreachable) for answer in answers)
    assert len({id(answer) for answer in answers}) == 5


async def test_a_reply_that_leaves_out_a_key_is_not_taken(proxy: ScriptedProxy, site: SiteSession) -> None:
    proxy.answers["submit"] = always({"results": {}})
    with pytest.raises(BadReply, match="leaves out"):
        await site.submit([Submission(KEY, {})])


@pytest.mark.parametrize(
    "reply",
    [
        {"attempts": {KEY: {"state": "finished"}}, "queried": True},
        {"attempts": {KEY: "ended"}, "queried": True},
        {"attempts": {KEY: {"state": "ended", "from": "x"}}, "queried": True},
        {"attempts": []},
        {},
        [],
    ],
)
async def test_a_poll_of_another_shape_is_a_bad_reply(proxy: ScriptedProxy, site: SiteSession, reply: Any) -> None:
    proxy.answers["poll"] = always(reply)
    with pytest.raises(BadReply):
        await site.poll({KEY: Known("1")})


async def test_a_proxy_that_does_not_answer_is_given_up(proxy: ScriptedProxy, site: SiteSession) -> None:
    async def never(program: FakeProgram, request: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    proxy.answers["locate"] = never
    await site.hello()
    conversation = site._lines._conversations["commands"]
    first = asyncio.create_task(conversation.ask("locate", {"keys": {}}, 0.05))
    second = asyncio.create_task(conversation.ask("locate", {"keys": {}}, 60))
    for asked in (first, second):
        with pytest.raises(Unreachable, match=r"did not answer 'locate' within 0\.05 s"):
            await asked
    assert not conversation.alive
    await site.hello()
    assert proxy.starts == 2


# ---- proxies are kept, shared and ended


async def test_a_poll_that_waits_does_not_hold_up_commands(proxy: ScriptedProxy, site: SiteSession) -> None:
    async def wait(program: FakeProgram, request: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    proxy.answers["poll"] = wait
    polling = asyncio.create_task(site.poll({KEY: Known("1")}, wait_s=30))
    await until(lambda: "poll" in proxy.verbs())
    await site.hello()
    assert proxy.starts == 2
    polling.cancel()


async def test_idle_proxies_and_the_connection_are_closed(proxy: ScriptedProxy) -> None:
    site = session_of(proxy, idle_s=0.05)
    await site.hello()
    assert proxy.transport.slots.used == 1
    await until(lambda: proxy.transport.closed)
    assert proxy.transport.slots.used == 0
    await site.hello()
    assert proxy.starts == 2
    await site.close()


async def test_what_waits_is_not_idle(proxy: ScriptedProxy) -> None:
    site = session_of(proxy, idle_s=0.02)
    gate = asyncio.Event()

    async def wait(program: FakeProgram, request: dict[str, Any]) -> Any:
        await gate.wait()
        return {"attempts": {}, "queried": False}

    proxy.answers["poll"] = wait
    polling = asyncio.create_task(site.poll({KEY: Known("1")}, wait_s=30))
    await until(lambda: "poll" in proxy.verbs())
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await until(lambda: loop.time() > begin + 0.1)
    assert not proxy.transport.closed
    gate.set()
    await polling
    await site.close()


@pytest.mark.parametrize("limit", [1, 2])
async def test_few_channels_are_shared_and_transfers_get_their_turn(limit: int) -> None:
    proxy = ScriptedProxy(limit=limit)
    site = session_of(proxy)
    sent = b"x" * 1000

    async def poll(program: FakeProgram, request: dict[str, Any]) -> Any:
        return {"attempts": {}, "queried": False}

    async def put(program: FakeProgram, token: str) -> int:
        data = await program.read()
        program.write(frame(token, {"ok": {"size": len(data), "complete": data == sent}}))
        return 0

    proxy.answers |= {"poll": poll, "stat": always({"results": {}})}
    proxy.other["put"] = put
    accepting(proxy)
    digest = hashlib.sha256(sent).hexdigest()

    async def source(offset: int) -> AsyncIterator[bytes]:
        yield sent

    async with asyncio.timeout(20):
        for _ in range(3):
            await asyncio.gather(
                site.submit([Submission(KEY, {})]),
                site.poll({KEY: Known("1")}),
                site.stat(["x"]),
                *(site.put(source, f"cache/{n}", size=1000, digest=digest) for n in range(3)),
            )
    assert proxy.programs["put"] == 9
    await site.close()
    assert proxy.transport.slots.used == 0


# ---- bytes


class Store:
    """The site's side of `put` and `get`."""

    def __init__(self, proxy: ScriptedProxy) -> None:
        self.parts: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.cut_after: int | None = None
        self.full = False
        proxy.other |= {"put": self.put, "get": self.get}
        proxy.answers["stat"] = self.stat

    async def stat(self, program: FakeProgram, request: dict[str, Any]) -> Any:
        found = {**self.files, **{f"{path}.part": data for path, data in self.parts.items()}}
        return {
            "results": {
                path: {"size": len(found[path]), "kind": "file"} if path in found else None for path in request["paths"]
            }
        }

    async def put(self, program: FakeProgram, token: str) -> int:
        options = dict(zip(program.argv[11::2], program.argv[12::2], strict=False))
        path = options["--path"]
        part = self.parts.get(path, b"")[: int(options["--offset"])]
        while data := await program.read(1000):
            part += data
            self.parts[path] = part
            if self.full:
                program.write(frame(token, {"error": Said("disk-full", "No space left").body}))
                return 1
            if self.cut_after is not None and len(part) >= self.cut_after:
                self.cut_after = None
                raise Cut
        good = hashlib.sha256(part).hexdigest() == options["--digest"]
        del self.parts[path]
        if not good:
            program.write(b"motd\n" + frame(token, {"error": Said("digest", "another digest").body}))
            return 1
        self.files[path] = part
        program.write(b"motd\n" + frame(token, {"ok": {"size": len(part), "complete": True}}))
        return 0

    async def get(self, program: FakeProgram, token: str) -> int:
        options = dict(zip(program.argv[11::2], program.argv[12::2], strict=False))
        data = self.files.get(options["--path"])
        if data is None:
            program.write(frame(token, {"error": Said("not-found", "nothing there").body}))
            return 1
        program.write(b"motd" + frame(token, {"ok": {"size": len(data), "kind": "file"}}))
        rest = data[int(options["--offset"]) :]
        for begin in range(0, len(rest), 1000):
            if self.cut_after is not None and begin >= self.cut_after:
                self.cut_after = None
                raise Cut
            program.write(rest[begin : begin + 1000])
            await asyncio.sleep(0)
        return 0


def pieces(data: bytes, begun: list[int]) -> Any:
    async def source(offset: int) -> AsyncIterator[bytes]:
        begun.append(offset)
        for at in range(offset, len(data), 700):
            yield data[at : at + 700]

    return source


DATA = bytes(range(256)) * 64
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("cut_after", [1, 5000, len(DATA) - 1])
async def test_put_goes_on_where_it_was_cut(proxy: ScriptedProxy, site: SiteSession, cut_after: int) -> None:
    store, begun, seen = Store(proxy), [], []
    store.cut_after = cut_after
    with pytest.raises(Unreachable):
        await site.put(pieces(DATA, begun), "cache/x", size=len(DATA), digest=DIGEST)
    assert store.files == {}
    await site.put(pieces(DATA, begun), "cache/x", size=len(DATA), digest=DIGEST, progress=seen.append)
    assert store.files == {"cache/x": DATA}
    assert begun[0] == 0 and begun[1] >= cut_after
    assert seen[0] == begun[1] and seen[-1] == len(DATA) and seen == sorted(seen)


async def test_put_of_what_is_there_sends_nothing(proxy: ScriptedProxy, site: SiteSession) -> None:
    store, begun, seen = Store(proxy), [], []
    store.files[f"cache/{DIGEST}"] = DATA
    await site.put(pieces(DATA, begun), f"cache/{DIGEST}", size=len(DATA), digest=DIGEST, progress=seen.append)
    assert (begun, seen, proxy.programs["put"]) == ([], [len(DATA)], 0)


@pytest.mark.parametrize("full", [True, False])
async def test_put_says_what_the_site_said(proxy: ScriptedProxy, site: SiteSession, full: bool) -> None:
    store = Store(proxy)
    store.full = full
    with pytest.raises(Refused) as caught:
        await site.put(pieces(DATA, []), "cache/x", size=len(DATA), digest="0" * 64)
    assert caught.value.code == ("disk-full" if full else "digest")


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
async def test_a_source_of_another_size_is_not_sent_as_whole(
    proxy: ScriptedProxy, site: SiteSession, size: int
) -> None:
    store = Store(proxy)
    with pytest.raises(Invalid, match=f"instead of {size}"):
        await site.put(pieces(DATA, []), "cache/x", size=size, digest=DIGEST)
    assert store.files == {}


async def test_a_source_that_fails_is_its_own_fault_and_ends_at_once(proxy: ScriptedProxy, site: SiteSession) -> None:
    """Another site, say, whose connection was lost: nobody waits for a reply to what was never sent whole."""
    store = Store(proxy)

    async def source(offset: int) -> AsyncIterator[bytes]:
        yield DATA[:5000]
        raise Unreachable("The other site is gone.", code="other")

    async with asyncio.timeout(10):
        with pytest.raises(Unreachable, match="The other site"):
            await site.put(source, "cache/x", size=len(DATA), digest=DIGEST)
    assert store.files == {}
    assert proxy.transport.slots.used == 1
    assert site.contact.health is Health.UP


async def test_closing_ends_what_waits_and_starts_nothing(proxy: ScriptedProxy) -> None:
    async def never(program: FakeProgram, request: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    site = session_of(proxy)
    proxy.answers["locate"] = never
    asked = asyncio.create_task(site.locate({KEY: "1"}))
    await until(lambda: "locate" in proxy.verbs())
    await site.close()
    with pytest.raises(Unreachable, match="was ended"):
        await asked
    assert (proxy.starts, proxy.transport.slots.used) == (1, 0)


async def test_a_source_file_that_is_missing(proxy: ScriptedProxy, site: SiteSession, tmp_path: Any) -> None:
    Store(proxy)
    with pytest.raises(NotFound, match="No such file"):
        await site.put(tmp_path / "none", "cache/x", size=1, digest=DIGEST)
    assert proxy.transport.slots.used == 1


@pytest.mark.parametrize("offset", [0, 1, 5000, len(DATA)])
async def test_get_from_an_offset(proxy: ScriptedProxy, site: SiteSession, offset: int) -> None:
    Store(proxy).files["a"] = DATA
    assert b"".join([data async for data in site.get("a", offset=offset)]) == DATA[offset:]


async def test_get_that_is_cut_gives_what_came_and_raises(proxy: ScriptedProxy, site: SiteSession) -> None:
    store, got = Store(proxy), b""
    store.files["a"] = DATA
    store.cut_after = 3000
    with pytest.raises(Unreachable):
        async for data in site.get("a"):
            got += data
    assert 0 < len(got) < len(DATA) and DATA.startswith(got)
    async for data in site.get("a", offset=len(got)):
        got += data
    assert got == DATA
    with pytest.raises(NotFound, match="nothing there"):
        await anext(site.get("b"))


async def test_prepare_asks_once(proxy: ScriptedProxy, site: SiteSession) -> None:
    async def prepare(program: FakeProgram, token: str) -> int:
        request = json.loads(await program.read())
        program.write(b"pulling...\n" + frame(token, {"ok": {"to": request["to"]}}))
        return 0

    proxy.other["prepare"] = prepare
    assert await site.prepare({"op": "run", "to": "x"}) == {"to": "x"}


async def test_a_program_that_is_gone_is_sent_again(proxy: ScriptedProxy, site: SiteSession) -> None:
    store = Store(proxy)
    store.files["a"] = DATA
    await site.hello()
    proxy.installed = False
    with pytest.raises(BadReply, match="not at hpc any more"):
        await anext(site.get("a"))
    assert b"".join([data async for data in site.get("a")]) == DATA
    assert proxy.installs == 1
