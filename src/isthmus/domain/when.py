"""Moments as people write them: a time, or how long from now on."""

from datetime import datetime, timedelta

from isthmus.domain.errors import Invalid
from isthmus.domain.units import Seconds


def parse(text: str, place: str, now: datetime) -> datetime:
    """``2030-01-31T12:00:00Z`` (without a zone: this machine's), or ``+3h``. Raises Invalid."""
    if text.startswith("+"):
        try:
            return now + timedelta(seconds=Seconds.parse(text[1:]))
        except Invalid as error:
            error.place = place
            raise
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            f"{text!r} is not a time.", place=place, hint="Write it like 2030-01-31T12:00:00Z or +3h."
        ) from None
    return found if found.tzinfo is not None else found.astimezone()
