"""Servers of the test bed as context managers: started whole, or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Server:
    """What can be started and stopped. `stop` may be called again, and for one that was never whole."""

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
