"""What keeps persistent objects: three verbs on bytes by id.

A back end is from any thread, and made anew in each process. Write your own with these three, and `use` it.
"""

from typing import Protocol


class Backend(Protocol):
    """Keeps bytes by id. Each call is atomic: nobody sees half of a `put`."""

    def put(self, id: str, data: bytes) -> None:
        """Keep it, in the place of what was there."""

    def get(self, id: str) -> bytes | None:
        """What was put last, or None."""

    def delete(self, id: str) -> bool:
        """Forget it. Whether it was there."""
