"""Pushing an attempt's reports and log to the API over HTTPS, from a thread, where the node can reach it.

The job's folder stays the truth: what is pushed was written there first, and what can't be pushed is carried by the
proxy. So trouble here is never the job's. A token that is refused (401, 403, 410) ends it for good.
"""

import json
import random
import threading
import time
import urllib.error
import urllib.request

from isthmus.runner import folder as files

PIECE = 256 * 1024
LOG_EVERY_S = 1.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
TIMEOUT_S = 10.0
REFUSED = (401, 403, 410)


class Push(object):
    """Sends what is new, until it is stopped or refused."""

    def __init__(self, folder: files.Folder, api: dict, token: str, random_unit=random.random) -> None:
        self._folder = folder
        self._base = "%s/v1/attempts/%s/" % (api["url"].rstrip("/"), folder.key)
        self._token = token
        self._context = _trust(api.get("ca_pem") or "") if self._base.startswith("https:") else None
        self._random = random_unit
        self._changed = threading.Condition()
        self._wake = False
        self._stopping = 0.0
        self._next = {"reports": 0, "log": 0}
        self._failures = 0
        self.refused = False
        self.reached = False
        self.first_try = threading.Event()
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """There is a new report."""
        with self._changed:
            self._wake = True
            self._changed.notify()

    def stop(self, patience_s: float) -> None:
        """End it. Where the API answered lately, what is left is sent first, within ``patience_s``."""
        with self._changed:
            self._stopping = time.monotonic() + (patience_s if self.reached and not self._failures else 0.0)
            self._wake = True
            self._changed.notify()
        if self.reached and not self._failures:
            self._thread.join(patience_s)

    def _run(self):
        last_log = 0.0
        while not self.refused:
            pause = LOG_EVERY_S
            try:
                # An empty report asks which offset is wanted, and so whether the API can be reached at all.
                if not self.reached:
                    self._send("reports", b"")
                more = self._some("reports")
                if more or self._stopping or time.monotonic() - last_log >= LOG_EVERY_S:
                    last_log = time.monotonic()
                    more = self._some("log") or more
                self._failures = 0
                if more:
                    pause = 0.0
                elif self._stopping:
                    return
            except urllib.error.HTTPError as error:
                self._answered(error.code)
                pause = self._pause()
            except (OSError, ValueError, KeyError):
                # No route, a refused or cut connection, a certificate that is not the pinned one, no JSON.
                pause = self._pause()
            finally:
                self.first_try.set()
            if self._stopping and (self._failures or time.monotonic() > self._stopping):
                return
            with self._changed:
                if pause and not (self._wake and not self._failures):
                    self._changed.wait(pause)
                self._wake = False

    def _some(self, name):
        """Send one piece of a file if there is any; whether there may be more."""
        begin = self._next[name]
        try:
            with open(self._folder.at(name), "rb") as stream:
                stream.seek(begin)
                data = stream.read(PIECE)
        except FileNotFoundError:
            return False
        if name == files.REPORTS:
            data = data[: data.rfind(b"\n") + 1]
        if not data:
            return False
        self._send(name, data)
        return self._next[name] != begin

    def _send(self, name, data):
        begin = self._next[name]
        if name == files.REPORTS:
            body = json.dumps({"from": begin, "reports": data.decode("utf-8")}).encode("utf-8")
            request = urllib.request.Request(self._base + name, body, {"Content-Type": "application/json"})
        else:
            kind = {"Content-Type": "application/octet-stream"}
            request = urllib.request.Request("%s%s?from=%d" % (self._base, name, begin), data, kind)
        request.add_header("Authorization", "Bearer " + self._token)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._context) as reply:
            self._next[name] = int(json.loads(reply.read().decode("utf-8"))["next"])
        self.reached = True

    def _answered(self, status):
        self.reached = True
        if status in REFUSED:
            self.refused = True

    def _pause(self):
        """How long to wait after a failure: longer each time, and not all nodes at once."""
        self._failures += 1
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 20))
        return longest * (0.5 + self._random() / 2)


def _trust(ca_pem):
    """TLS that trusts the pinned certificate alone, or what the node trusts where none is pinned."""
    import ssl

    if not ca_pem:
        return ssl.create_default_context()
    context = ssl.create_default_context(cadata=ca_pem)
    # The pinned certificate is the identity: nodes may reach the API by another name than it was made for.
    context.check_hostname = False
    # A certificate that signs itself is its own root, whatever it says that it may be used for.
    context.verify_flags |= 0x80000  # X509_V_FLAG_PARTIAL_CHAIN, which has a name in Python since 3.10
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
