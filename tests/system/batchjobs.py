"""Batch scripts for the tests of batch systems: each in a folder of its own, as the proxy writes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from isthmus.proxy.batch import Answer, Native, reason_of, state_of
from tests.testbed.waiting import wait_for

_numbers = itertools.count(1)


class Batch:
    """A batch system's module, with the folders of its jobs in `root`."""

    def __init__(self, module: Any, root: Path, options: dict[str, Any] | None = None, head: str = "#!/bin/sh") -> None:
        self.module, self.root, self.options, self.head = module, root, options or {}, head

    def write(self, *lines: str) -> Path:
        """A new job's folder with these lines as its batch.sh."""
        folder = self.root / f"{next(_numbers)}.1-test"
        folder.mkdir()
        (folder / "batch.sh").write_text("\n".join([self.head, *lines]) + "\n")
        return folder

    def submit(self, *lines: str, argv: Sequence[str] = ()) -> str:
        """Hand a script of these lines over; its native id."""
        return str(self.module.submit(str(self.write(*lines)), list(argv)))

    def query(self, *ids: str) -> Answer:
        answer: Answer = self.module.query(list(ids), self.options)
        return answer

    def state(self, native_id: str) -> str:
        """Our word for the job's state; `gone` for one that is known nowhere."""
        native = self.query(native_id).jobs.get(native_id)
        return state_of(self.module, native) if native is not None else "gone"

    def wait(self, native_id: str, *states: str, deadline_s: float = 30.0) -> Native:
        """Wait until the job is in one of these states of ours; what the batch system says of it then."""

        def reached() -> Native | None:
            native = self.query(native_id).jobs.get(native_id)
            now = state_of(self.module, native) if native is not None else "gone"
            return (native or Native("gone")) if now in states else None

        return wait_for(
            reached,
            f"job {native_id} to be {' or '.join(states)}",
            deadline_s=deadline_s,
            story=lambda: self.story(native_id),
        )

    def reason(self, native: Native) -> str:
        """Our word for why."""
        return str(reason_of(self.module, native, state_of(self.module, native))[0])

    def story(self, native_id: str) -> str:
        return f"the batch system says {self.query(native_id).jobs.get(native_id)}"


def contains(path: Path, text: str) -> Callable[[], bool]:
    """Whether a file is there and holds the text."""
    return lambda: path.is_file() and text in path.read_text()
