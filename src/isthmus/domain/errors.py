"""The errors of Isthmus, the whole tree in one place.

    IsthmusError
    ├── Invalid             what was asked for makes no sense as it is written        422
    ├── NotFound            the thing named does not exist, or is not yours to see     404
    ├── Conflict            it exists already, or its state does not allow this        409
    ├── Unauthenticated     no token, or one that is wrong, expired or revoked         401
    ├── Forbidden           the token is good, the right is missing                    403
    ├── TooLarge            the body is over the limit                                 413
    ├── Unavailable         the control plane can't do it now; try again               503
    └── SiteError           a site said no, or could not be reached                    424
        ├── Unreachable     no connection: what runs there goes on, unseen
        ├── BadReply        the reply was cut or not ours: what it did is unknown
        └── Refused         the batch system or the proxy refused the request

Each carries a sentence for the person, a hint (what to do next) and, where the fault lies in what was sent, the
place. ``transient`` says whether the same call may work later. Caught in three places only: at the site's edge
(translated into these), in the supervisor's loop (recorded, backed off), at the API (problem+json).
"""

import difflib
from collections.abc import Iterable


class IsthmusError(Exception):
    """Something went wrong that a person should read about."""

    status = 500
    transient = False

    def __init__(self, message: str, *, hint: str = "", place: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place
        self.code = code or self.kind()

    @classmethod
    def kind(cls) -> str:
        """The name of this class of errors on the wire: ``bad-reply``."""
        return _kebab(cls.__name__)

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{where}{self.message}{hint}"


class Invalid(IsthmusError):
    """What was asked for makes no sense as it is written. ``faults`` holds each, where several were found."""

    status = 422

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        place: str = "",
        code: str = "",
        faults: "tuple[Invalid, ...]" = (),
    ) -> None:
        super().__init__(message, hint=hint, place=place, code=code)
        self.faults = faults


class NotFound(IsthmusError):
    """The thing named does not exist, or is not yours to see."""

    status = 404


class Conflict(IsthmusError):
    """It exists already, or its state does not allow this."""

    status = 409


class Unauthenticated(IsthmusError):
    """No token, or one that is wrong, expired or revoked."""

    status = 401


class Forbidden(IsthmusError):
    """The token is good, the right is missing."""

    status = 403


class TooLarge(IsthmusError):
    """The body is over the limit."""

    status = 413


class Unavailable(IsthmusError):
    """The control plane can't do it now; the same call may work later."""

    status = 503
    transient = True


class SiteError(IsthmusError):
    """A site said no, or could not be reached."""

    # 424, Failed Dependency: a 5xx would be blamed on the control plane by whatever stands before it.
    status = 424


class Unreachable(SiteError):
    """No connection: what runs there goes on, unseen."""

    transient = True


class BadReply(SiteError):
    """The reply was cut or not ours: what the request did is unknown until the site is asked again."""

    transient = True


class Refused(SiteError):
    """The batch system or the proxy refused the request; its own words are in the message."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest right word, or the choices: ``Did you mean 'gpus'?``."""
    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    if choices and len(choices) <= 12:
        return "There is: " + ", ".join(choices) + "."
    return "There is none yet." if not choices else ""


def _kebab(name: str) -> str:
    return "".join("-" + c.lower() if c.isupper() else c for c in name).lstrip("-")
