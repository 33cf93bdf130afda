"""Agents: three processes that share tasks, grow and shrink, and lose one of them."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.testbed.ports import answers, free_port
from tests.testbed.waiting import wait_for

pytestmark = pytest.mark.system

MODULE = """
import os, time
from isthmus.tasks import FILE_OUT, INOUT, constraint, task, wait_on

@task(returns=1)
def square(x, seconds=0.0):
    time.sleep(seconds)
    return x * x

@task(returns=1)
def add(a, b):
    return a + b

@task(into=INOUT)
def put(into, x):
    into.append(x)

@task(returns=1)
def where():
    return os.environ.get("WHERE", "")

@task(path=FILE_OUT)
def write(path):
    with open(path, "w") as file:
        file.write(os.environ.get("WHERE", ""))

@constraint(computing_units=3)
@task(returns=1)
def wide():
    return os.environ.get("WHERE", "")

def squares(n, seconds=0.0):
    total = 0
    for x in range(n):
        total = add(total, square(x, seconds))
    return total

def ordered(n):
    found = []
    for x in range(n):
        put(found, x)
    return found

def widest():
    return wide()

def places(n, seconds=0.2):
    kept = [square(x, seconds) for x in range(n)]
    found = wait_on([where() for _ in range(n)])
    wait_on(kept)
    return sorted(set(found))

def files(folder, n):
    for x in range(n):
        write(f"{folder}/{x}")
    from isthmus.tasks import barrier
    barrier()
    return sorted({open(f"{folder}/{x}").read() for x in range(n)})

def breaks():
    raise ValueError("this one breaks")

def dies():
    os.kill(os.getpid(), 9)

def sleeps():
    time.sleep(600)

def not_plain():
    return object()
"""


ISTHMUS = [sys.executable, "-c", "from isthmus.cli.main import main; main()"]


class Served:
    """An agent in a process of its own."""

    def __init__(self, folder, name, workers, token, *options):
        self.name, self.token = name, token
        self.port = free_port()
        self.scheme = "https" if "--tls" in options else "http"
        self.data = folder / name
        self._log = (folder / f"{name}.log").open("wb")
        self.process = subprocess.Popen(
            [
                *(*ISTHMUS, "agent", "serve", "edgeapp", "--name", name),
                *("--listen", f"127.0.0.1:{self.port}", "--workers", str(workers), "--data", str(self.data), *options),
            ],
            cwd=folder,
            env={**os.environ, "ISTHMUS_AGENT_TOKEN": token, "WHERE": name},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, timeout=120.0):
        with httpx.Client(verify=False, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {self.token}"}
            return client.request(method, self.url + path, json=body, headers=headers, timeout=timeout)

    def status(self):
        return self.ask("GET", "/v1/agent").json()

    def run(self, function, *args):
        answer = self.ask("POST", "/v1/runs", {"function": f"edgeapp:{function}", "args": args})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def ended(self, id):
        def looked():
            found = self.ask("GET", f"/v1/runs/{id}?wait_s=20").json()
            return found if found["state"] != "RUNNING" else None

        return wait_for(looked, f"the run {id} to end", deadline_s=200)

    def knows(self, *names):
        def up():
            states = {one["name"]: one["state"] for one in self.status()["neighbours"]}
            return all(states.get(name) == "UP" for name in names)

        wait_for(up, f"{self.name} to see {names}", deadline_s=60)

    def connect(self, other):
        body = {"name": other.name, "url": other.url, "token": other.token}
        if other.scheme == "https":
            body["certificate"] = (other.data / "tls" / "server.crt").read_text()
        assert self.ask("POST", "/v1/neighbours", body).status_code == 201

    def close(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        self.process.wait()
        self._log.close()


@pytest.fixture
def agents(tmp_path):
    (tmp_path / "edgeapp.py").write_text(
        MODULE.replace(", constraint,", ",").replace(
            "from isthmus.tasks import FILE_OUT",
            "from isthmus.tasks.constraints import constraint\nfrom isthmus.tasks import FILE_OUT",
        )
    )
    made = []

    def make(*plans):
        token = secrets.token_urlsafe(24)
        new = [Served(tmp_path, name, workers, token, *options) for name, workers, *options in plans]
        made.extend(new)
        for one in new:
            wait_for(
                lambda one=one: answers("127.0.0.1", one.port) or one.process.poll() is not None,
                f"{one.name} to answer",
                deadline_s=120,
                story=lambda one=one: (tmp_path / f"{one.name}.log").read_text(),
            )
        return new

    yield make
    for one in made:
        one.close()


def test_one_agent(agents, tmp_path):
    (edge,) = agents(("edge", 2))
    assert edge.ended(edge.run("squares", 30))["result"] == sum(x * x for x in range(30))
    assert edge.ended(edge.run("ordered", 10))["result"] == list(range(10))
    broken = edge.ended(edge.run("breaks"))
    assert (broken["state"], broken["error"]) == ("FAILED", "ValueError: this one breaks")
    assert "in breaks" in broken["log"]
    assert "by signal 9" in edge.ended(edge.run("dies"))["error"]
    assert "not JSON serializable" in edge.ended(edge.run("not_plain"))["error"]
    sleeping = edge.run("sleeps")
    assert edge.ask("DELETE", f"/v1/runs/{sleeping}").json()["state"] == "CANCELLED"
    assert edge.ended(sleeping)["state"] == "CANCELLED"
    assert edge.ask("DELETE", f"/v1/runs/{sleeping}").status_code == 409
    refused = edge.ask("POST", "/v1/runs", {"function": "os:system", "args": ["id"]})
    assert (refused.status_code, refused.json()["place"]) == (403, "function")
    unknown = edge.ask("POST", "/v1/runs", {"functoin": "x"})
    assert unknown.status_code == 422
    edge.token = "another"
    assert edge.ask("GET", "/v1/agent").status_code == 401
    assert edge.ask("POST", "/v1/tasks").status_code == 401


def test_workers_come_and_go(agents):
    (edge,) = agents(("edge", 1))
    tall = edge.ended(edge.run("widest"))
    assert "takes 3 workers; the largest agent in reach has 1" in tall["error"]
    assert edge.ask("PUT", "/v1/resources", {"workers": 3}).json()["workers"] == 3
    assert edge.ended(edge.run("widest"))["result"] == "edge"
    assert edge.ask("PUT", "/v1/resources", {"workers": 0}).status_code == 422
    assert edge.ask("PUT", "/v1/resources", {"workers": 1}).json()["workers"] == 1
    assert edge.ended(edge.run("squares", 5))["result"] == 30


def test_a_chain_from_edge_to_cloud(agents, tmp_path):
    edge, fog, cloud = agents(("edge", 1), ("fog", 1), ("cloud", 3))
    fog.connect(cloud)
    fog.knows("cloud")
    edge.connect(fog)
    edge.knows("fog")
    run = edge.ended(edge.run("places", 30))
    assert "fog" in run["result"] or "cloud" in run["result"], run
    assert "cloud" in edge.ended(edge.run("widest"))["result"]  # through fog, which is too small
    # Files are of the machine: their tasks stay.
    (tmp_path / "files").mkdir()
    assert edge.ended(edge.run("files", str(tmp_path / "files"), 10))["result"] == ["edge"]


def test_a_neighbour_is_killed(agents):
    edge, fog, cloud = agents(("edge", 1), ("fog", 2), ("cloud", 2))
    edge.connect(fog)  # a tree: two neighbours, and those two know each other as well
    edge.connect(cloud)
    fog.connect(cloud)
    edge.knows("fog", "cloud")
    run = edge.run("squares", 80, 0.1)

    def at_fog():
        return next(one["sent"] for one in edge.status()["neighbours"] if one["name"] == "fog")

    wait_for(at_fog, "tasks to be at fog", deadline_s=60)
    fog.process.kill()
    ended = edge.ended(run)
    assert ended["result"] == sum(x * x for x in range(80)), ended
    wait_for(
        lambda: {one["name"]: one["state"] for one in edge.status()["neighbours"]} == {"fog": "LOST", "cloud": "UP"},
        "edge to know that fog is lost",
        deadline_s=60,
    )
    assert edge.ask("DELETE", "/v1/neighbours/fog").status_code == 200
    missing = edge.ask("DELETE", "/v1/neighbours/fgo")
    assert missing.status_code == 404


def test_the_command_line_over_tls_and_a_program_of_ones_own(agents, tmp_path):
    edge, fog = agents(("edge", 1, "--tls", "self-signed"), ("fog", 2, "--tls", "self-signed"))
    environment = {
        **os.environ,
        "ISTHMUS_AGENT": edge.url,
        "ISTHMUS_AGENT_TOKEN": edge.token,
        "ISTHMUS_AGENT_CERTIFICATE": str(edge.data / "tls" / "server.crt"),
        "ISTHMUS_NEIGHBOUR_TOKEN": fog.token,
    }

    def say(*words, code=0):
        done = subprocess.run(
            [*ISTHMUS, "agent", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout + done.stderr

    assert "1 workers busy" in say("status")
    say("connect", "fog", fog.url, "--certificate", str(fog.data / "tls" / "server.crt"))
    edge.knows("fog")
    assert json.loads(say("run", "edgeapp:squares", "10", "0.05", "-o", "json"))["result"] == 285
    assert "this one breaks" in say("run", "edgeapp:breaks", code=1)
    assert "edgeapp:squares" in say("runs")
    assert "has 2 workers" in say("resize", "2")
    assert json.loads(say("disconnect", "fog", "-o", "json"))["neighbours"] == []
    environment["ISTHMUS_AGENT"] = "https://127.0.0.1:9"
    assert "No agent answers" in say("status", code=5)

    program = tmp_path / "own.py"
    program.write_text("from isthmus.tasks import wait_on\nimport edgeapp\nprint(wait_on(edgeapp.squares(6)))\n")
    own = {**environment, "ISTHMUS_TASKS": "agent", "ISTHMUS_TASKS_ADDRESS": edge.url}
    done = subprocess.run([sys.executable, program], env=own, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "55\n"), done.stderr
    assert oct(Path(edge.data / "tls" / "server.key").stat().st_mode)[-3:] == "600"
