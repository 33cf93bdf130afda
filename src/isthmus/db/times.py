"""Times in the database are UTC seconds as floats; outside they are aware datetimes."""

from datetime import UTC, datetime
from typing import overload


@overload
def moment(at: float) -> datetime: ...
@overload
def moment(at: None) -> None: ...
def moment(at: float | None) -> datetime | None:
    """The datetime of a stored time."""
    return None if at is None else datetime.fromtimestamp(at, UTC)
