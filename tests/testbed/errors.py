"""What can go wrong with the servers of the test bed."""

from __future__ import annotations

import shutil


class ServerError(Exception):
    """A server of the test bed did not do what was asked. The message says which, what, and what its log said."""


class MissingProgram(ServerError):
    """A program that the test bed stands on is not installed. The message names the command that installs it."""


def program(name: str) -> str:
    """The absolute path of a program, looked for in the administrator's folders too.

    Raises MissingProgram if it is not installed.
    """
    path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise MissingProgram(
            f"{name} is not installed, and the system tests run the real one. "
            "Run scripts/install-system-packages as root (make test does), then run the tests again."
        )
    return path
