"""A process that has imported everything and forks control planes: each is a process of its own, started in a moment.

Reads one JSON line a command on stdin: {"settings": {…}, "log": path}; answers with {"pid", "url", "token"} once it
listens, or {"error"}. Run by `tests.testbed.control`.
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> None:
    from isthmus import app, cli, client  # noqa: F401 - imported once, for every fork
    from isthmus.api import http  # noqa: F401
    from isthmus.serving import run
    from isthmus.settings import Settings

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os.setsid()
            # Where the tests are killed, this process ends with its stdin, and with it all that it forked.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

            def announce(opened: app.App, to: int = writer) -> None:
                said = {"pid": os.getpid(), "url": opened.settings.url, "token": opened.token}
                os.write(to, json.dumps(said).encode())
                os.close(to)

            code = 1
            try:
                import logging

                logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
                values = {**order["settings"], "data": Path(order["settings"]["data"])}
                run(Settings(**values), announce)
                code = 0
            except BaseException:  # noqa: BLE001 - the fork's edge
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        sys.stdout.write(json.dumps({"forked": pid}) + "\n")
        sys.stdout.flush()
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read() or json.dumps({"error": f"it ended before it listened; see {order['log']}"}).encode()
        sys.stdout.write(said.decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
