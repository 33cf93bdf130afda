"""The server as others see it: streams, ranges, uploads in pieces, an orderly stop, a restart under waiting clients."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from isthmus.client import Client
from isthmus.domain.errors import Unavailable
from isthmus.domain.jobs import JobRequest, Output
from isthmus.domain.states import JobState
from isthmus.serving import GRACE_S, PORT_FILE, _listen
from isthmus.settings import Settings
from tests.testbed.control import ControlPlane
from tests.testbed.waiting import wait_for

SLEEP = JobRequest(command=("sleep", "600"))


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path) as opened:
        yield opened


@pytest.fixture
def client(plane: ControlPlane) -> Iterator[Client]:
    with Client(plane.url, plane.token, patience_s=60) as opened:
        yield opened


@pytest.fixture
def http(plane: ControlPlane) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {plane.token}"}
    with httpx.Client(base_url=plane.url, headers=headers, timeout=60) as opened:
        yield opened


def test_events_are_streamed_and_gone_on_with(client: Client, http: httpx.Client, plane: ControlPlane) -> None:
    job = client.jobs.submit(JobRequest(command=("true",)))
    client.jobs.wait(job.id)
    last = ""
    with http.stream("GET", "/v1/events/stream", params={"noun": "job", "job": job.id}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("id: "):
                last = line.removeprefix("id: ")
            if line.startswith("data: "):
                break
    event = json.loads(line.removeprefix("data: "))
    assert (event["noun"], event["job_id"], event["verb"]) == ("job", job.id, "created")
    with http.stream("GET", "/v1/events/stream", headers={"Last-Event-ID": last}) as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("id: "))
        assert int(first.removeprefix("id: ")) == int(last) + 1
    told = []
    with http.stream("GET", "/v1/events/stream", params={"noun": "secret"}) as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": isthmus"
        client.secrets.set("key", "value")
        for line in lines:
            told.append(line)
            if line.startswith("data: "):
                break
        plane.stop()  # ends the stream in order, not by cutting it
        told.extend(lines)
    assert "event: secret" in told


def test_a_stop_ends_what_waits_and_leaves_jobs(client: Client, http: httpx.Client, plane: ControlPlane) -> None:
    job = client.jobs.submit(SLEEP)
    while client.jobs.get(job.id).state is not JobState.RUNNING:
        client.events.list(wait_s=1, after=client.events.list(newest=True, limit=1).events[-1].id)
    before = _connections(plane)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(http.get, f"/v1/jobs/{job.id}", params={"wait_s": 300})
        wait_for(lambda: _connections(plane) > before, "the request to arrive")
        began = time.monotonic()
        plane.stop()
        assert time.monotonic() - began < GRACE_S
        answer = waiting.result(10)
    assert (answer.status_code, answer.json()["code"]) == (503, "stopping")
    plane.start()
    with Client(plane.url, plane.token) as again:
        assert again.jobs.get(job.id).state is JobState.RUNNING
        again.jobs.kill(job.id)
        assert again.jobs.wait(job.id).state is JobState.KILLED


def test_who_waits_does_not_notice_a_restart(client: Client, plane: ControlPlane) -> None:
    job = client.jobs.submit(SLEEP)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.jobs.wait, job.id)
        plane.kill()
        plane.start()
        with Client(plane.url, plane.token) as again:
            again.jobs.kill(job.id)
        assert waiting.result(60).state is JobState.KILLED


def test_three_hundred_wait_for_one_job(client: Client, plane: ControlPlane, http: httpx.Client) -> None:
    job = client.jobs.submit(SLEEP)
    found: list[JobState] = []

    def wait() -> None:
        with Client(plane.url, plane.token, patience_s=60) as mine:
            found.append(mine.jobs.wait(job.id).state)

    threads = [threading.Thread(target=wait) for _ in range(300)]
    for thread in threads:
        thread.start()
    assert http.get("/v1/ping").status_code == 200
    client.jobs.kill(job.id)
    for thread in threads:
        thread.join(60)
    assert found == [JobState.KILLED] * 300


def test_ranges(client: Client, http: httpx.Client) -> None:
    job = client.jobs.submit(JobRequest(command=("sh", "-c", "printf 0123456789 > f; : > empty"), outputs=(
        Output(path="f"), Output(path="empty"))))  # fmt: skip
    assert client.jobs.wait(job.id).state is JobState.COMPLETED
    paths = {each.path: f"/v1/jobs/{job.id}/outputs/{each.id}/content" for each in client.jobs.outputs(job.id)}

    def get(span: str, path: str = "f") -> tuple[int, bytes, str]:
        answer = http.get(paths[path], headers={"Range": span} if span else {})
        return answer.status_code, answer.content, answer.headers.get("content-range", "")

    assert get("") == (200, b"0123456789", "")
    assert get("bytes=2-4") == (206, b"234", "bytes 2-4/10")
    assert get("bytes=7-") == (206, b"789", "bytes 7-9/10")
    assert get("bytes=8-99") == (206, b"89", "bytes 8-9/10")
    assert get("bytes=-3") == (200, b"0123456789", "")  # a range that need not be heeded
    assert get("bytes=4-2") == (200, b"0123456789", "")
    status, body, span = get("bytes=10-")
    assert (status, span) == (416, "bytes */10")
    assert json.loads(body)["code"] == "http-416"
    assert get("bytes=0-", "empty") == (200, b"", "")
    answer = http.get(paths["f"])
    assert answer.headers["isthmus-digest"] == "sha256:" + hashlib.sha256(b"0123456789").hexdigest()
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''f"


def test_an_upload_in_pieces(http: httpx.Client) -> None:
    content = b"abcdefghij" * 1000
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    what = {"name": "pieces", "version": "1", "digest": digest, "size": len(content)}
    begun = http.post("/v1/uploads", params={"kind": "dataset"}, json=what).json()

    def patch(offset: int, data: bytes) -> httpx.Response:
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
        return http.patch(f"/v1/uploads/{begun['id']}", content=data, headers=headers)

    assert patch(0, content[:4000]).json()["offset"] == 4000
    wrong = patch(5000, content[5000:])
    assert (wrong.status_code, wrong.json()["code"]) == (409, "offset")
    assert http.get(f"/v1/uploads/{begun['id']}").json()["offset"] == 4000
    again = http.post("/v1/uploads", params={"kind": "dataset"}, json=what).json()
    assert (again["id"], again["offset"]) == (begun["id"], 4000)
    early = http.post(f"/v1/uploads/{begun['id']}/finish", json={})
    assert early.status_code in (409, 422)
    assert patch(4000, content[4000:]).json()["offset"] == len(content)
    made = http.post(f"/v1/uploads/{begun['id']}/finish", json={"digest": digest})
    assert (made.status_code, made.json()["digest"]) == (201, digest)
    assert http.get("/v1/datasets/pieces/content").content == content


def test_a_bad_digest_leaves_nothing(http: httpx.Client) -> None:
    what = {"name": "wrong", "digest": "sha256:" + "0" * 64, "size": 3}
    begun = http.post("/v1/uploads", params={"kind": "dataset"}, json=what).json()
    headers = {"Upload-Offset": "0", "Content-Type": "application/octet-stream"}
    assert http.patch(f"/v1/uploads/{begun['id']}", content=b"abc", headers=headers).status_code == 200
    refused = http.post(f"/v1/uploads/{begun['id']}/finish", json={})
    assert refused.status_code == 422
    assert refused.json()["code"] == "digest"
    assert hashlib.sha256(b"abc").hexdigest() in refused.json()["detail"]
    assert http.get("/v1/datasets/wrong").status_code == 404
    assert http.get(f"/v1/uploads/{begun['id']}").json()["offset"] == 0
    for digest in ("md5:x", "sha256:12", "0" * 64 + "g"):
        answer = http.post("/v1/uploads", params={"kind": "dataset"}, json={"name": "x", "digest": digest})
        assert (answer.status_code, answer.json()["place"]) == (422, "digest")


def test_the_next_free_port_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with _listen(Settings(host="127.0.0.1", port=port)) as listening:
            assert port < listening.getsockname()[1] <= port + 20
            assert listening.proto == socket.IPPROTO_TCP  # without it each answer waits 40 ms for Nagle's algorithm
        with pytest.raises(Unavailable, match=rf"It can't listen on 127\.0\.0\.1:{port}: Address already in use"):
            _listen(Settings(host="127.0.0.1", port=port, port_is_fixed=True))


def test_the_port_of_the_last_time_is_taken_again(tmp_path: Path) -> None:
    with _listen(Settings(host="127.0.0.1", port=0)) as last, _listen(Settings(host="127.0.0.1", port=0)) as first:
        wanted, port = last.getsockname()[1], first.getsockname()[1]
        settings = Settings(host="127.0.0.1", port=port, data=tmp_path)
        (tmp_path / PORT_FILE).write_text(f"{wanted}\n")
        last.close()
        with _listen(settings) as again:
            assert again.getsockname()[1] == wanted
            # It is taken now: the next free one has to do. And one that was asked for is the one.
            with _listen(settings) as other:
                assert port < other.getsockname()[1] <= port + 20
            first.close()
            with _listen(replace(settings, port_is_fixed=True)) as asked:
                assert asked.getsockname()[1] == port
        (tmp_path / PORT_FILE).write_text("much")
        with _listen(settings) as free:
            assert port <= free.getsockname()[1] <= port + 20


def test_up_remembers_its_port(plane: ControlPlane) -> None:
    assert (plane.data / PORT_FILE).read_text().strip() == plane.url.rpartition(":")[2]


def _connections(plane: ControlPlane) -> int:
    """How many clients are connected to the server."""
    port = f":{int(plane.url.rpartition(':')[2]):04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(port) and line.split()[3] == "01" for line in lines)
