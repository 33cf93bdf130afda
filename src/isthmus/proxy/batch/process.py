"""Process sites: this machine's attempts, run by its keeper. Speaks to it, and starts it where there is none."""

import json
import os
import select
import socket
import subprocess
import time

from isthmus.proxy import news
from isthmus.proxy.errors import ProxyError
from isthmus.runner import keeperfiles, program

MYPY = False
if MYPY:  # for the type checker alone: its import would cost a runner more than most of ours
    from typing import Any

START_S = 30.0  # for a keeper to start on a machine that is very busy
ANSWER_S = 60.0
RETRY_S = 1.0  # until a keeper that could not be started is tried again
POLL_S = 5.0  # between questions about attempts that are silent
# News of a start waits this long for the end: of a command that takes milliseconds one is told, and written down.
LINGER_S = 0.004
# Where many attempts are about, the news of many is told, and written down, at once.
CROWD = 8
GATHER_S = 0.02
LOST = "The runner was killed or the machine started anew: it left no result."

_STATES = {"waiting": "pending", "running": "running", "ended": "ended", "gone": "gone"}


class Process(object):
    """The batch system of a machine that has none."""

    def __init__(self, workdir, options: dict) -> None:
        self.workdir = workdir
        self.poll_s = float(options.get("poll") or POLL_S)
        self._keeper = Keeper(workdir.path)
        self._sizes: dict = {}  # key -> size of its reports at the last look
        self._asked = 0.0

    def start(self, items: dict) -> dict:
        """Hand attempts to the keeper: ``{key: native id or ProxyError}``. The native id is the key itself."""
        if not items:
            return {}
        jobs = {
            key: [int(item.job.get("gpus") or 0), int(item.job.get("cpus") or 1), item.job.get("gpu") or None]
            for key, item in items.items()
            if not item.claimed
        }
        try:
            refused = self._keeper.ask({"do": "start", "jobs": jobs})["refused"] if jobs else {}
        except ProxyError as error:
            return dict.fromkeys(items, error)
        return {key: ProxyError("batch-refused", refused[key]) if key in refused else key for key in items}

    def poll(self, attempts: dict, wait_s: float, query: bool, requests) -> dict:
        """News of attempts, as soon as there are any, after ``wait_s`` at the latest, or when a request waits."""
        end = time.monotonic() + wait_s
        reply = {"attempts": {}, "queried": False, "query_error": "", "others": 0}
        told: set = set()
        lingered = wait_s <= GATHER_S
        while True:
            told |= self._hear(reply) if attempts else set()
            found = self._look(attempts)
            if found and not lingered:
                lingered = True
                if len(attempts) > CROWD:
                    select.select([requests.fd], [], [], GATHER_S)
                    continue
                if not all(_finished(seen) for seen in found.values()):
                    self._wait(requests, LINGER_S)
                    continue
            # The keeper told of an attempt, and its reports say nothing new: its runner was killed.
            silent = any(key in attempts and key not in found for key in told)
            due = silent or wait_s <= 0 or self._next_question() <= 0
            if attempts and query and due and not reply["query_error"]:
                self._query(attempts, found, reply)
            told.clear()
            left = end - time.monotonic()
            if found or left <= 0 or requests.waiting():
                reply["attempts"] = found
                return reply
            self._wait(requests, min(left, max(0.05, self._next_question())) if attempts else left)

    def kill(self, native_ids: dict) -> dict:
        """The kill files are written: tell the keeper. Errors by key."""
        try:
            if native_ids:
                self._keeper.ask({"do": "kill", "keys": list(native_ids)})
        except ProxyError as error:
            return dict.fromkeys(native_ids, error)
        return {}

    def locate(self, key: str, native_id: str) -> list:
        """This machine, while the attempt runs."""
        state = self._keeper.ask({"do": "state", "keys": [key]})["states"][key]
        return [socket.gethostname()] if state == "running" else []

    def inventory(self, options: dict) -> dict:
        from isthmus.proxy import machine

        return machine.queue()

    def close(self) -> None:
        self._keeper.close()

    def _hear(self, reply):
        """The keys that the keeper has told of. Where it was not heard all the time, every attempt is looked at."""
        told = self._keeper.news()
        if told is None:
            self._sizes.clear()
            try:
                self._keeper.watch()
                reply["query_error"] = ""
            except ProxyError as error:
                reply["query_error"] = error.message
            return set()
        for key in told:
            self._sizes.pop(key, None)
        return told

    def _look(self, attempts):
        """News in the reports of attempts that are not known to be unchanged."""
        found = {}
        budget = news.MOST_OF_ALL
        if len(self._sizes) > 2 * len(attempts) + 1000:
            self._sizes = {key: size for key, size in self._sizes.items() if key in attempts}
        for key, known in attempts.items():
            offset = int(known.get("reports") or 0)
            if self._sizes.get(key) == offset:
                continue
            if budget <= 0:
                break
            folder = self.workdir.job(key)
            reports, size = news.reports_from(folder, offset)
            self._sizes[key] = size
            if reports:
                budget -= len(reports)
                found[key] = news.seen(folder, offset, reports)
        return found

    def _next_question(self):
        """Seconds until attempts that are silent are asked about again."""
        return self._asked + self.poll_s - time.monotonic()

    def _query(self, attempts, found, reply):
        try:
            states = self._keeper.ask({"do": "state", "keys": list(attempts)})["states"]
        except ProxyError as error:
            reply["query_error"] = error.message
            return
        self._asked = time.monotonic()
        reply["queried"] = True
        for key, state in states.items():
            if key not in found:
                # An end is news at each question: the control plane asks until it has judged it.
                if attempts[key].get("native_state") == state and state not in ("ended", "gone"):
                    continue
                folder = self.workdir.job(key)
                offset = int(attempts[key].get("reports") or 0)
                # Once more, after the state: its final report may have come in between.
                found[key] = news.seen(folder, offset, news.reports_from(folder, offset)[0])
            found[key].update(native_state=state, state=_STATES.get(state, "unknown"))
            if state == "gone":
                found[key].update(reason="LOST", message=LOST)

    def _wait(self, requests, seconds):
        sources = [requests.fd]
        if self._keeper.watching:
            sources.append(self._keeper.news_fd())
        else:
            seconds = min(seconds, RETRY_S)
        select.select(sources, [], [], max(0.0, seconds))


def _finished(seen):
    return '"kind":"finished"' in seen["reports"]


class Keeper(object):
    """Two connections to the keeper: one for requests, one on which it tells news."""

    def __init__(self, workdir: str) -> None:
        self._workdir = workdir
        self._requests: Any = None
        self._news: Any = None
        self._told: set = set()
        self._rest = b""

    @property
    def watching(self) -> bool:
        return self._news is not None

    def ask(self, request: dict) -> dict:
        """The answer to a request. If the connection is lost, a keeper is found or started, and asked once more."""
        for last in (False, True):
            try:
                if self._requests is None:
                    self._requests = self._open()
                return self._requests.ask(request)
            except OSError as error:
                self._forget("_requests")
                if last:
                    raise ProxyError(
                        "batch-unavailable",
                        "The keeper of %s does not answer: %s." % (self._workdir, error),
                        "Its own words are in %s/%s." % (self._workdir, keeperfiles.LOG),
                        transient=True,
                    )
        raise AssertionError("unreachable")

    def watch(self) -> None:
        """Have the keeper tell news from now on. Raises ProxyError."""
        try:
            self._news = self._open()
            self._news.ask({"do": "watch"})
        except OSError as error:
            self._forget("_news")
            raise ProxyError("batch-unavailable", "The keeper does not answer: %s." % error, transient=True)

    def news_fd(self) -> int:
        return self._news.socket.fileno()

    def news(self):
        """The keys that it told of since the last call; None if it was not heard all the time."""
        if self._news is None:
            return None
        try:
            for line in self._news.lines():
                self._told.update(json.loads(line.decode("utf-8"))["news"])
        except (OSError, ValueError):
            self._forget("_news")
            return None
        told, self._told = self._told, set()
        return told

    def close(self) -> None:
        self._forget("_requests")
        self._forget("_news")

    def _forget(self, name):
        connection = getattr(self, name)
        setattr(self, name, None)
        if connection is not None:
            connection.socket.close()

    def _open(self):
        """A connection to a keeper of our own version, started if there is none."""
        path = keeperfiles.socket_path(self._workdir)
        end = time.monotonic() + START_S
        while True:
            try:
                connection = _Connection(path)
                told = connection.ask({"do": "hello"})
                if told.get("archive") == program.archive():
                    return connection
                # One that another archive has started: what runs there goes on, all that is new is ours.
                connection.ask({"do": "retire"})
                connection.socket.close()
            except (FileNotFoundError, ConnectionError):
                pass
            if time.monotonic() > end:
                raise OSError("it could not be started within %g s" % START_S)
            self._start()

    def _start(self):
        with open(os.path.join(self._workdir, keeperfiles.LOG), "ab") as log:
            starter = subprocess.Popen(
                program.start("keeper", "--workdir", self._workdir),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=keeperfiles.environment(os.environ),
                cwd="/",
                start_new_session=True,
            )
        if starter.wait():
            raise ProxyError(
                "batch-unavailable",
                "The keeper could not be started: see %s/%s." % (self._workdir, keeperfiles.LOG),
                transient=True,
            )


class _Connection(object):
    """JSON lines to and from the keeper."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.settimeout(ANSWER_S)
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self._rest = b""

    def ask(self, request):
        self.socket.sendall(json.dumps(request, separators=(",", ":")).encode("utf-8") + b"\n")
        while b"\n" not in self._rest:
            data = self.socket.recv(1 << 18)
            if not data:
                raise ConnectionResetError("it closed the connection")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        answer = json.loads(line.decode("utf-8"))
        if "error" in answer:
            raise OSError(answer["error"])
        return answer

    def lines(self):
        """The whole lines that have come, without waiting."""
        while True:
            # A socket with a timeout waits in recv whatever its flags say: so it is asked for what is there already.
            if not select.select([self.socket], [], [], 0)[0]:
                break
            data = self.socket.recv(1 << 18)
            if not data:
                raise ConnectionResetError("it closed the connection")
            self._rest += data
        lines = self._rest.split(b"\n")
        self._rest = lines.pop()
        return lines
