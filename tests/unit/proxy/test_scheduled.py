"""A batch system seen through the proxy: each attempt handed over once, whatever is cut in between."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from isthmus.proxy import scheduled
from isthmus.proxy.batch import Answer, Native, find_module, reason_of, state_of
from isthmus.proxy.cleaning import clean
from isthmus.proxy.errors import ProxyError
from isthmus.proxy.scheduled import Scheduled
from isthmus.proxy.server import Requests
from isthmus.proxy.submission import submit
from isthmus.proxy.workdir import Workdir
from isthmus.runner import claim
from isthmus.runner.folder import Folder
from tests.testbed.waiting import wait_for


class Crash(BaseException):
    """The proxy is killed at this point."""


class Batch:
    """A batch system in memory: a module of `isthmus.proxy.batch` as the proxy sees it."""

    STATES = {"PD": "pending", "R": "running", "CD": "ended", "F": "ended", "CANCELLED": "ended"}
    REASONS = {"Priority": ("SITE_QUEUE", "Jobs of higher priority go first."), "F": ("", "It failed.")}

    def __init__(self) -> None:
        self.jobs: dict[str, Native] = {}
        self.names: dict[str, str] = {}
        self.submitted: list[str] = []
        self.asked: list[list[str]] = []
        self.killed: list[list[str]] = []
        self.fail: ProxyError | None = None
        self.crash = ""
        self.lock = threading.Lock()

    def submit(self, folder: str, argv: Sequence[str]) -> str:
        if self.crash == "before":
            raise Crash
        if self.fail:
            raise self.fail
        assert (Path(folder) / "batch.sh").read_text() == "script"
        with self.lock:
            native_id = str(100 + len(self.submitted))
            self.submitted.append(os.path.basename(folder))
            self.names["isthmus-" + os.path.basename(folder)] = native_id
            self.jobs[native_id] = Native("PD", "Priority")
        if self.crash == "after":
            raise Crash
        return native_id

    def find(self, job_name: str, options: object) -> str | None:
        if self.fail:
            raise self.fail
        return self.names.get(job_name)

    def query(self, ids: Sequence[str], options: object) -> Answer:
        self.asked.append(list(ids))
        if self.fail:
            raise self.fail
        return Answer({one: self.jobs[one] for one in ids if one in self.jobs}, 3)

    def kill(self, ids: Sequence[str], options: object) -> None:
        if self.fail:
            raise self.fail
        self.killed.append(list(ids))


class Arrays(Batch):
    """One that takes arrays of up to ``limit``."""

    def __init__(self, limit: int = 100) -> None:
        super().__init__()
        self.limit = limit
        self.submissions = 0
        self.sizes: list[int] = []

    def submit(self, folder: str, argv: Sequence[str]) -> str:
        self.submissions += 1
        if not argv[-1].startswith("--array"):
            return super().submit(folder, argv)
        if self.crash == "before":
            raise Crash
        if self.fail:
            raise self.fail
        size = int(argv[-1].partition("=")[2])
        assert (Path(folder) / "batch.sh").read_text() == "script, 1 of them each"
        native_id = str(100 + len(self.submitted))
        for index in range(size):
            element = Path(folder, str(index)).resolve()
            assert (element / "batch.sh").read_text() == "script"
            self.submitted.append(element.name)
            self.jobs[f"{native_id}_{index}"] = Native("PD", "Priority")
        self.sizes.append(size)
        self.names["isthmus-" + os.path.basename(folder)] = native_id
        if self.crash == "after":
            raise Crash
        return native_id

    def array_limit(self, options: object) -> int:
        return self.limit

    def array(self, text: str, count: int) -> tuple[str, list[str]]:
        return text + ", 1 of them each", [f"--array={count}"]

    def element(self, native_id: str, index: int) -> str:
        return f"{native_id}_{index}"


class World:
    """A site with that batch system. A new proxy is a new `Scheduled`."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.workdir = Workdir(str(path))
        self.workdir.make()
        self.batch = Batch()
        self.options = options
        self.pipe, self.control_plane = os.pipe()
        self.system = self.proxy()

    def proxy(self) -> Scheduled:
        return Scheduled(self.batch, self.workdir, self.options)

    def submit(self, *keys: str, system: Scheduled | None = None) -> dict[str, Any]:
        jobs = [{"key": key, "job": {"command": ["true"]}, "batch": "script", "argv": ["-p", "x"]} for key in keys]
        return submit(self.workdir, system or self.system, jobs)

    def poll(self, key: str, wait_s: float = 0.0, system: Scheduled | None = None, **known: Any) -> dict[str, Any]:
        asked = {"native_id": "100", "reports": 0, "native_state": "", **known}
        return (system or self.system).poll({key: asked}, wait_s, True, Requests(self.pipe))

    def folder(self, key: str) -> Folder:
        return self.workdir.job(key)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "w")


REFUSED = ProxyError("batch-refused", "Invalid account")
UNSURE = ProxyError("batch-unavailable", "socket timed out", transient=True)


def test_once_for_each_key(world: World) -> None:
    first = world.submit("1.1-a", "2.1-a")
    assert first == {"1.1-a": {"ok": {"native_id": "100"}}, "2.1-a": {"ok": {"native_id": "101"}}}
    assert world.submit("1.1-a", "2.1-a", system=world.proxy()) == first
    assert world.batch.submitted == ["1.1-a", "2.1-a"]


@pytest.mark.parametrize("crash", ["before", "after"])
def test_a_crash_around_the_submission_neither_loses_nor_doubles(world: World, crash: str) -> None:
    world.batch.crash = crash
    with pytest.raises(Crash):
        world.submit("1.1-a")
    world.batch.crash = ""
    assert world.submit("1.1-a", system=world.proxy()) == {"1.1-a": {"ok": {"native_id": "100"}}}
    assert world.batch.submitted == ["1.1-a"]


def test_after_a_crash_nothing_is_submitted_while_nobody_can_be_asked(world: World) -> None:
    world.batch.crash = "after"
    with pytest.raises(Crash):
        world.submit("1.1-a")
    world.batch.crash, world.batch.fail = "", UNSURE
    error = world.submit("1.1-a")["1.1-a"]["error"]
    assert (error["code"], error["transient"]) == ("batch-unavailable", True)
    assert world.batch.submitted == ["1.1-a"]
    world.batch.fail = None
    assert world.submit("1.1-a")["1.1-a"] == {"ok": {"native_id": "100"}}
    assert world.batch.submitted == ["1.1-a"]


def test_a_job_that_the_batch_system_has_forgotten_but_a_runner_claimed(world: World) -> None:
    world.batch.crash = "after"
    with pytest.raises(Crash):
        world.submit("1.1-a")
    world.batch.crash = ""
    world.batch.names.clear()
    assert claim.take(world.folder("1.1-a"), "100")
    assert world.submit("1.1-a")["1.1-a"] == {"ok": {"native_id": "100"}}
    assert world.batch.submitted == ["1.1-a"]


def test_an_unsure_answer_is_cleared_up_before_the_next_try(world: World) -> None:
    world.batch.fail = UNSURE
    assert world.submit("1.1-a")["1.1-a"]["error"]["code"] == "batch-unavailable"
    world.batch.fail = None
    world.batch.names["isthmus-1.1-a"] = "77"  # it had taken it all the same
    assert world.submit("1.1-a")["1.1-a"] == {"ok": {"native_id": "77"}}
    assert world.batch.submitted == []


def test_a_certain_refusal_is_tried_again_without_a_search(world: World) -> None:
    world.batch.fail = REFUSED
    error = world.submit("1.1-a")["1.1-a"]["error"]
    assert (error["code"], error["message"]) == ("batch-refused", "Invalid account")
    world.batch.fail = None
    world.batch.names["isthmus-1.1-a"] = "77"
    assert world.submit("1.1-a")["1.1-a"] == {"ok": {"native_id": "100"}}


def test_two_proxies_at_once(world: World) -> None:
    """In processes of their own, as locks between proxies are."""
    keys = [f"{number}.1-a" for number in range(8)]
    counter = Path(world.workdir.path) / "calls"

    class Slow(Batch):
        def submit(self, folder: str, argv: Sequence[str]) -> str:
            with counter.open("a") as calls:
                calls.write(os.path.basename(folder) + "\n")
            return "7"

        def find(self, job_name: str, options: object) -> str | None:
            return None

    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                system = Scheduled(Slow(), world.workdir, {})
                answers = world.submit(*keys, system=system)
                code = 0 if all(answers[key] == {"ok": {"native_id": "7"}} for key in keys) else 2
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert sorted(counter.read_text().splitlines()) == sorted(keys)


def test_several_at_a_time_where_the_module_allows_it(world: World) -> None:
    world.batch.PARALLEL = 4  # type: ignore[attr-defined]
    keys = [f"{number}.1-a" for number in range(20)]
    answers = world.submit(*keys)
    assert sorted(answer["ok"]["native_id"] for answer in answers.values()) == [str(100 + n) for n in range(20)]


KEYS = [f"{number}.1-a" for number in range(1, 8)]


@pytest.fixture
def arrays(world: World) -> Arrays:
    world.batch = batch = Arrays()
    world.system = world.proxy()
    return batch


def test_attempts_that_are_alike_go_as_one_array(world: World, arrays: Arrays) -> None:
    first = world.submit(*KEYS)
    assert first == {key: {"ok": {"native_id": f"100_{index}"}} for index, key in enumerate(KEYS)}
    assert (arrays.sizes, arrays.submissions) == ([7], 1)
    assert world.submit(*KEYS, system=world.proxy()) == first
    assert arrays.submitted == KEYS
    assert world.poll(KEYS[3], native_id="100_3")["attempts"][KEYS[3]]["state"] == "pending"


def test_arrays_are_no_larger_than_the_site_takes_and_a_rest_goes_alone(world: World, arrays: Arrays) -> None:
    arrays.limit = 5
    done = world.submit(*KEYS)
    assert arrays.sizes == [5]
    assert arrays.submissions == 3
    assert len({answer["ok"]["native_id"] for answer in done.values()}) == 7


def test_attempts_that_differ_are_in_no_array_together(world: World, arrays: Arrays) -> None:
    jobs = [{"key": key, "job": {}, "batch": "script", "argv": ["-p", key[0]]} for key in KEYS]
    submit(world.workdir, world.system, jobs)
    assert arrays.sizes == []
    assert arrays.submitted == KEYS


@pytest.mark.parametrize("crash", ["before", "after"])
def test_a_crash_around_an_array_neither_loses_nor_doubles(world: World, arrays: Arrays, crash: str) -> None:
    arrays.crash = crash
    with pytest.raises(Crash):
        world.submit(*KEYS)
    arrays.crash = ""
    done = world.submit(*KEYS, system=world.proxy())
    assert sorted(arrays.submitted) == KEYS
    assert len({answer["ok"]["native_id"] for answer in done.values()}) == 7


def test_an_unsure_answer_about_an_array_is_cleared_up_before_the_next_try(world: World, arrays: Arrays) -> None:
    arrays.fail = UNSURE
    assert all(answer["error"]["transient"] for answer in world.submit(*KEYS).values())
    arrays.names[f"isthmus-{KEYS[0]}.array"] = "55"  # it had been taken
    arrays.fail = None
    done = world.submit(*KEYS)
    assert done == {key: {"ok": {"native_id": f"55_{index}"}} for index, key in enumerate(KEYS)}
    assert arrays.submitted == []


def test_where_an_array_is_refused_each_goes_alone(world: World, arrays: Arrays) -> None:
    arrays.fail = REFUSED
    assert all(answer["error"]["message"] == "Invalid account" for answer in world.submit(*KEYS).values())
    assert arrays.submissions == 8
    arrays.fail = None
    world.submit(*KEYS)
    assert arrays.sizes == [7]


def test_one_that_is_fenced_or_known_is_in_no_array(world: World, arrays: Arrays) -> None:
    alone = world.submit(KEYS[0])
    os.makedirs(world.folder(KEYS[1]).path)
    claim.fence(world.folder(KEYS[1]))
    done = world.submit(*KEYS)
    assert done[KEYS[0]] == alone[KEYS[0]]
    assert done[KEYS[1]]["error"]["code"] == "fenced"
    assert arrays.sizes == [5]


def test_an_array_s_folder_goes_with_its_last_attempt(world: World, arrays: Arrays) -> None:
    world.submit(*KEYS)
    folder = Path(world.workdir.path, "arrays", f"{KEYS[0]}.array")
    clean(world.workdir, KEYS[:6], [])
    assert sorted(os.listdir(folder)) == ["6", "batch.sh"]
    clean(world.workdir, KEYS[6:], [])
    assert not folder.exists()


def test_two_proxies_at_once_hand_over_one_array(world: World, arrays: Arrays) -> None:
    """Locks are a process's own: the second proxy is another process."""
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.read(ready, 1)
            arrays.submit = None  # type: ignore[assignment,method-assign]  # it must find all of them handed over
            code = 0 if len(world.submit(*reversed(KEYS), system=world.proxy())) == 7 else 2
        finally:
            os._exit(code)
    submit_one = arrays.submit

    def slow(folder: str, argv: Sequence[str]) -> str:
        os.write(go, b"!")  # all locks are held now
        return submit_one(folder, argv)

    arrays.submit = slow  # type: ignore[method-assign]
    world.submit(*KEYS)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert arrays.submitted == KEYS


def test_a_fenced_attempt_is_not_submitted(world: World) -> None:
    os.makedirs(world.folder("1.1-a").path)
    assert claim.fence(world.folder("1.1-a"))
    assert world.submit("1.1-a")["1.1-a"]["error"]["code"] == "fenced"
    assert world.batch.submitted == []
    assert not claim.take(world.folder("1.1-a"), "100"), "and no runner starts it"


def test_states_with_their_reasons(world: World) -> None:
    world.submit("1.1-a")
    answer = world.poll("1.1-a")
    seen = answer["attempts"]["1.1-a"]
    assert (answer["queried"], answer["query_error"], answer["others"]) == (True, "", 3)
    assert (seen["native_state"], seen["state"], seen["reason"]) == ("PD", "pending", "SITE_QUEUE")
    assert seen["message"] == "Jobs of higher priority go first. (Priority)" and seen["claimed"] is False
    world.batch.jobs["100"] = Native("CANCELLED by 1000", message="the reason", exit_code=0, signal=15, nodes=["n1"])
    seen = world.poll("1.1-a", system=world.proxy())["attempts"]["1.1-a"]
    assert (seen["native_state"], seen["state"], seen["signal"], seen["nodes"]) == (
        "CANCELLED by 1000",
        "ended",
        15,
        ["n1"],
    )
    world.batch.jobs["100"] = Native("WEIRD")
    seen = world.poll("1.1-a", system=world.proxy())["attempts"]["1.1-a"]
    assert (seen["native_state"], seen["state"], seen["reason"]) == ("WEIRD", "unknown", "UNKNOWN")
    del world.batch.jobs["100"]
    seen = world.poll("1.1-a", system=world.proxy())["attempts"]["1.1-a"]
    assert seen["state"] == "gone"


def test_a_question_that_fails_is_never_an_end(world: World) -> None:
    world.submit("1.1-a")
    world.batch.fail = UNSURE
    answer = world.poll("1.1-a", native_state="PD")
    assert (answer["queried"], answer["query_error"]) == (False, "socket timed out")
    assert answer["attempts"] == {}
    Path(world.folder("1.1-a").at("reports")).write_text('{"kind":"started","t":1}\n')
    seen = world.poll("1.1-a", system=world.proxy())["attempts"]["1.1-a"]
    assert seen["state"] == "" and "started" in seen["reports"], "what the runner reported is news all the same"


def test_only_news(world: World) -> None:
    world.submit("1.1-a")
    assert world.poll("1.1-a", native_state="PD")["attempts"] == {}
    world.batch.jobs["100"] = Native("CD", exit_code=0)
    assert list(world.poll("1.1-a", native_state="CD", system=world.proxy())["attempts"]) == ["1.1-a"], (
        "an end is told at each question until it is judged"
    )


def test_the_batch_system_is_asked_seldom(world: World, tmp_path: Path) -> None:
    world = World(tmp_path / "other", poll=1000)
    world.submit("1.1-a")
    for _ in range(20):
        world.poll("1.1-a", native_state="PD")
    assert len(world.batch.asked) == 1
    answer = world.poll("1.1-a", native_state="PD", query=False)
    assert answer["queried"] is False


def test_a_new_attempt_is_asked_about_sooner(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduled, "SOON_S", 0.0)
    world = World(tmp_path / "other", poll=1000)
    world.submit("1.1-a", "2.1-a")
    world.poll("1.1-a")
    world.poll("2.1-a", native_id="101")
    assert world.batch.asked == [["100"], ["101"]]


def test_waiting_ends_with_a_report(world: World) -> None:
    world.submit("1.1-a")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(world.poll, "1.1-a", 60.0, None, native_state="PD")
        wait_for(lambda: world.batch.asked, "the first question")
        Path(world.folder("1.1-a").at("reports")).write_text('{"kind":"started","t":1}\n')
        assert "started" in waiting.result(30)["attempts"]["1.1-a"]["reports"]


def test_waiting_ends_with_another_request(world: World) -> None:
    world.submit("1.1-a")
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(world.poll, "1.1-a", 60.0, None, native_state="PD")
        wait_for(lambda: world.batch.asked, "the first question")
        os.write(world.control_plane, b'{"id": 2}\n')
        assert waiting.result(30)["attempts"] == {} and time.monotonic() - began < 30


def test_kill(world: World) -> None:
    world.submit("1.1-a", "2.1-a")
    assert world.system.kill({"1.1-a": "100", "2.1-a": "101", "3.1-a": ""}) == {}
    assert world.batch.killed == [["100", "101"]]
    world.batch.fail = UNSURE
    assert world.system.kill({"1.1-a": "100"}) == {"1.1-a": UNSURE}
    assert world.system.kill({"3.1-a": ""}) == {}


def test_locate(world: World) -> None:
    world.submit("1.1-a")
    world.batch.jobs["100"] = Native("R", nodes=["n7"])
    assert world.system.locate("1.1-a", "100") == ["n7"]
    assert world.system.locate("1.1-a", "999") == [] == world.system.locate("1.1-a", "")


def test_what_is_written_is_whole(world: World) -> None:
    world.submit("1.1-a")
    folder = Path(world.folder("1.1-a").path)
    assert (folder / "native_id").read_text() == "100"
    assert json.loads((folder / "job.json").read_text())["key"] == "1.1-a"
    assert not list(folder.glob("*.tmp"))


def test_the_built_in_batch_systems_offer_what_they_must() -> None:
    for name in ("slurm", "gridengine"):
        module = find_module(name)
        for function in ("submit", "query", "find", "kill", "probe"):
            assert callable(getattr(module, function)), (name, function)
        assert set(module.STATES.values()) <= {"pending", "running", "ended"}
        from isthmus.domain.reasons import Reason

        for reason, sentence in module.REASONS.values():
            assert reason in Reason.__members__.values() and isinstance(sentence, str)


def test_a_batch_system_with_a_bad_name() -> None:
    for name in ("", "../x", "Slurm", "nothing"):
        with pytest.raises(ProxyError):
            find_module(name)


def test_lookups() -> None:
    batch = Batch()
    assert state_of(batch, Native("CANCELLED by 5")) == "ended"
    assert reason_of(batch, Native("F", why="Weird"), "ended") == ("", "It failed. (Weird)")
    assert reason_of(batch, Native("PD", why="QOSMax"), "pending") == ("SITE_QUEUE", "QOSMax")
