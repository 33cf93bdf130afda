"""The program ``proxy``: requests on stdin, one JSON object a line; replies between tokens on stdout, in order."""

import json
import os
import select
import sys

from isthmus.proxy.errors import ProxyError
from isthmus.proxy.workdir import Workdir, from_os

MYPY = False
if MYPY:  # for the type checker alone: its import would cost a runner more than most of ours
    from typing import Any

READ_BYTES = 1 << 18


class Requests(object):
    """Lines of stdin, as they come. What has no end of line when stdin ends was cut, and is no request."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lines: list = []
        self._rest: list = []
        self.ended = False

    def next(self) -> bytes:
        """The next line; b"" at the end."""
        while not self._lines and not self.ended:
            self._read()
        return self._lines.pop(0) if self._lines else b""

    def waiting(self) -> bool:
        """Whether another request, or the end, is there already."""
        while not self._lines and not self.ended and select.select([self.fd], [], [], 0)[0]:
            self._read()
        return bool(self._lines) or self.ended

    def _read(self):
        data = os.read(self.fd, READ_BYTES)
        if not data:
            self.ended = True
            return
        parts = data.split(b"\n")
        if len(parts) > 1:
            parts[0] = b"".join(self._rest) + parts[0]
            self._rest = []
        self._rest.append(parts.pop())
        self._lines.extend(part + b"\n" for part in parts)


class Server(object):
    """Answers requests until stdin ends."""

    def __init__(self, requests, out: int, token: str, workdir, batch: str) -> None:
        self.requests = requests
        self.out = out
        self.token = token.encode("ascii")
        self.workdir = workdir
        self.batch = batch
        self.options: dict = {}
        self.broken: Any = None  # why nothing can be done here
        self._system: Any = None

    @property
    def system(self):
        """What runs this site's jobs, the keeper or a batch system: made when it is first needed."""
        if self._system is None:
            if self.batch == "process":
                from isthmus.proxy.batch.process import Process

                self._system = Process(self.workdir, self.options)
            else:
                from isthmus.proxy.batch import find_module
                from isthmus.proxy.scheduled import Scheduled

                self._system = Scheduled(find_module(self.batch), self.workdir, self.options)
        return self._system

    def serve(self) -> None:
        """Answer every request, in order."""
        while True:
            line = self.requests.next()
            if not line:
                return
            if line.strip():
                self.send(self.answer(line))

    def send(self, reply: dict) -> None:
        text = json.dumps(reply, separators=(",", ":")).encode("utf-8")
        # The first end of line closes whatever noise stands before it.
        data = memoryview(b"\n" + self.token + text + self.token + b"\n")
        while data:
            data = data[os.write(self.out, data) :]

    def answer(self, line: bytes) -> dict:
        """The reply to one request."""
        number = None
        try:
            try:
                request = json.loads(line.decode("utf-8"))
                number = request.get("id")
                verb = _VERBS[request["verb"]]
            except (ValueError, AttributeError, KeyError, TypeError):
                raise ProxyError(
                    "bad-request", "This is no request of ours: %s" % line[:200].decode("utf-8", "replace")
                )
            if self.broken is not None:
                raise self.broken
            try:
                return {"id": number, "ok": verb(self, request)}
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ProxyError("bad-request", "%s: %s in %s" % (type(error).__name__, error, _where(error)))
        except ProxyError as error:
            return {"id": number, "error": error.as_json()}
        except OSError as error:
            return {"id": number, "error": from_os(error, "The request").as_json()}
        except Exception as error:  # noqa: BLE001  (the site's edge: what nobody foresaw is told, not lost)
            text = "The proxy failed: %r in %s" % (error, _where(error))
            return {"id": number, "error": ProxyError("internal", text).as_json()}

    # ---- verbs

    def hello(self, request):
        import platform

        if "options" in request:
            self.options = dict(request["options"] or {})
            if self._system is not None:
                self._system.close()
                self._system = None
        from isthmus.proxy.compiled import leave_compiled

        leave_compiled()
        from isthmus import __version__

        return {
            "version": __version__,
            "host": platform.node(),
            "user": _user(),
            "python": platform.python_version(),
            "workdir": self.workdir.path,
            "free_bytes": self.workdir.free_bytes(),
            "architecture": platform.machine(),
        }

    def probe(self, request):
        from isthmus.proxy import machine

        options = dict(self.options)
        options.update(request.get("options") or {})
        return machine.inventory(self.system, self.workdir, _user(), options)

    def submit(self, request):
        from isthmus.proxy.submission import submit

        return {"results": submit(self.workdir, self.system, request["jobs"])}

    def poll(self, request):
        attempts = request["attempts"]
        wait_s = float(request.get("wait_s") or 0)
        return self.system.poll(attempts, wait_s, bool(request.get("query", True)), self.requests)

    def kill(self, request):
        from isthmus.proxy.ending import kill

        return {"results": kill(self.workdir, self.system, request["keys"], bool(request.get("fence")))}

    def locate(self, request):
        from isthmus.proxy.ending import locate

        return {"results": locate(self.system, request["keys"])}

    def logs(self, request):
        from isthmus.proxy import files

        limit = int(request.get("limit") or 65536)
        return files.logs(
            self.workdir, request["key"], int(request.get("offset") or 0), limit, request.get("name", "log")
        )

    def stat(self, request):
        from isthmus.proxy import files

        return {"results": files.stat(self.workdir, request["paths"])}

    def list(self, request):
        from isthmus.proxy import files

        return {"entries": files.entries(self.workdir, request["path"], int(request.get("depth") or 1))}

    def cache(self, request):
        from isthmus.proxy import cache

        return cache.answer(self.workdir, request)

    def clean(self, request):
        from isthmus.proxy import cleaning

        return cleaning.clean(self.workdir, request.get("keys") or [], request.get("checkpoints") or [])


_VERBS = {
    name: getattr(Server, name)
    for name in ("hello", "probe", "submit", "poll", "kill", "locate", "logs", "stat", "list", "cache", "clean")
}


def _user():
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())  # a container's user that nobody has named


def _where(error):
    """The place in our code that an error came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "the proxy"
    return "%s:%d" % (os.path.basename(trace.tb_frame.f_code.co_filename), trace.tb_lineno)


def options_of(arguments: list) -> dict:
    """``--name value`` pairs, and flags without one, of a program's arguments."""
    found = {}
    words = list(arguments)
    while words:
        name = words.pop(0)
        found[name] = words.pop(0) if words and not words[0].startswith("--") else ""
    return found


def private_stdout() -> int:
    """stdout for us alone: what anything else prints goes to stderr, and spoils no reply."""
    out = os.dup(1)
    os.set_inheritable(out, False)
    os.dup2(2, 1)
    return out


def main(arguments: list) -> int:
    """The program ``proxy --token T --workdir W [--batch NAME]``; returns when stdin ends."""
    given = options_of(arguments)
    token = given.get("--token", "")
    if not token or not given.get("--workdir"):
        sys.stderr.write("isthmus proxy: needs --token and --workdir\n")
        return 64  # EX_USAGE
    out = private_stdout()
    workdir = Workdir(given["--workdir"])
    server = Server(Requests(0), out, token, workdir, given.get("--batch") or "process")
    try:
        workdir.make()
    except ProxyError as error:
        server.broken = error
    try:
        server.serve()
    except BrokenPipeError:
        return 0  # nobody reads the replies any more
    return 0
