"""Why an attempt can't go on, in the words of isthmus.domain.reasons.Reason."""

import errno


class Failure(Exception):
    """The attempt ends here, before or after its command: ``reason`` and a sentence for the person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def disk_full(error) -> bool:
    """Whether an error says that the disk, or the user's quota on it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def from_os(error, doing: str, reason: str):
    """An OSError as a Failure: DISK_FULL if that is what it says, else ``reason``."""
    where = " (%s)" % error.filename if error.filename else ""
    said = "%s failed: %s%s." % (doing, error.strerror or error, where)
    return Failure("DISK_FULL" if disk_full(error) else reason, said)
