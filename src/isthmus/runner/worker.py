"""A worker of the keeper: a process forked from its warm interpreter that runs one attempt after another.

It learns of each through a socket, tells there of every report, and goes on alone if the keeper dies.
"""

import os
import socket

from isthmus.runner import attempt as attempts
from isthmus.runner import folder as files
from isthmus.runner import process
from isthmus.runner.signals import Signals

START, KILL = b"s", b"k"  # what the keeper says
NEWS, DONE, REFUSED = b"n", b"d", b"r"  # what a worker says of its attempt: refused is one that another has
MESSAGE_BYTES = 4096


def serve(link, workdir: str, base: dict) -> None:
    """Run attempts until the keeper closes the socket."""
    signals = Signals()
    process.adopt_orphans()
    signals.watch(link.fileno())
    while True:
        ready = signals.wait(3600)
        signals.take()  # nobody's: no attempt is running
        if not ready:
            continue
        message = _receive(link)
        if not message:
            return
        if message[:1] != START:
            continue  # the attempt that was to be killed has ended by itself
        key, gpus, *more = message[1:].decode("utf-8").split(" ")
        env = dict(word.split("=", 1) for word in more)
        if not _run(link, os.path.join(workdir, files.JOBS, key), signals, dict(base, **env) if env else base, gpus):
            return


def start_message(key: str, gpus, env: dict) -> bytes:
    """What makes a worker run an attempt. ``gpus``: what it may see of them as CUDA names it; None: all.

    ``env``: further variables, without blanks.
    """
    words = [key, "-" if gpus is None else gpus] + ["%s=%s" % pair for pair in sorted(env.items())]
    return START + " ".join(words).encode("utf-8")


def _run(link, path, signals, base, gpus):
    """Run one attempt; whether the keeper is still there for another."""
    folder = files.Folder(path)
    if gpus != "-":
        base = dict(base, CUDA_VISIBLE_DEVICES=gpus)
    link_state = _Link(link, folder.key, signals)
    attempt = attempts.Attempt(folder, folder.key, signals, base, [link_state.news], link_state.look)
    code = attempt.run()
    if attempt.reported:
        return link_state.over(DONE)
    if code == attempts.REFUSED:
        return link_state.over(REFUSED)
    return False  # as long as this process lives, its claim would say that the attempt runs


class _Link(object):
    """The socket to the keeper while an attempt runs."""

    def __init__(self, link, key, signals):
        self._link = link
        self._key = key.encode("utf-8")
        self._signals = signals
        self._there = True

    def news(self):
        """Tell that there is a new report. A keeper that is gone or too busy finds it in the folder."""
        self._send(NEWS, socket.MSG_DONTWAIT)

    def look(self):
        """Take what the keeper said: it said so because there is a kill file now."""
        if not _receive(self._link):
            self._there = False
            self._signals.forget(self._link.fileno())

    def over(self, kind):
        """Tell that this worker is free again; whether the keeper heard it."""
        return self._there and self._send(kind, 0)

    def _send(self, kind, flags):
        try:
            self._link.send(kind + self._key, flags)
        except OSError:
            return False
        return True


def _receive(link):
    try:
        return link.recv(MESSAGE_BYTES)
    except OSError:
        return b""
