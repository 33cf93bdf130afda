"""Why a job waits or ended: typed reasons, each with a sentence, and whose fault it is."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a job is in its state. ``infrastructure`` reasons are not the user's fault and may be retried."""

    NONE = ""
    # why it waits
    PRIORITY = "PRIORITY"
    CAPACITY = "CAPACITY"
    DEPENDENCY = "DEPENDENCY"
    NO_SITE = "NO_SITE"
    BACKOFF = "BACKOFF"
    LIMIT = "LIMIT"
    METRIC = "METRIC"
    SITE_QUEUE = "SITE_QUEUE"
    SITE_UNREACHABLE = "SITE_UNREACHABLE"
    # why it ended
    EXIT_CODE = "EXIT_CODE"
    SIGNAL = "SIGNAL"
    OOM = "OOM"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    LOST = "LOST"
    KILLED = "KILLED"
    SUBMIT = "SUBMIT"
    STAGE = "STAGE"
    OUTPUT = "OUTPUT"
    DISK_FULL = "DISK_FULL"
    COMMAND = "COMMAND"
    CONTAINER = "CONTAINER"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    DEADLINE = "DEADLINE"
    UNKNOWN = "UNKNOWN"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]

    @property
    def infrastructure(self) -> bool:
        """Whether the fault is the place's, not the user's."""
        return self in _INFRASTRUCTURE


_INFRASTRUCTURE = frozenset(
    {
        Reason.NODE_FAIL,
        Reason.PREEMPTED,
        Reason.LOST,
        Reason.SUBMIT,
        Reason.STAGE,
        Reason.DISK_FULL,
        Reason.UNKNOWN,
    }
)

_SENTENCES = {
    Reason.NONE: "",
    Reason.PRIORITY: "Jobs of higher priority, or older ones, go first.",
    Reason.CAPACITY: "Every site where it fits is busy.",
    Reason.DEPENDENCY: "It waits for a job that has not ended.",
    Reason.NO_SITE: "No site fits it; `isthmus job explain` says why for each.",
    Reason.BACKOFF: "It waits a while after a failure before it is tried again.",
    Reason.LIMIT: "The limit on jobs at the site, or of the user there, is reached.",
    Reason.METRIC: "A figure that it is constrained by can't be had just now.",
    Reason.SITE_QUEUE: "It waits in the site's own queue.",
    Reason.SITE_UNREACHABLE: "The site can't be reached; what runs there goes on.",
    Reason.EXIT_CODE: "The command ended with an exit code other than 0.",
    Reason.SIGNAL: "The command was ended by a signal.",
    Reason.OOM: "It used more memory than it asked for.",
    Reason.TIMEOUT: "It ran longer than its time limit.",
    Reason.NODE_FAIL: "The node it ran on failed.",
    Reason.PREEMPTED: "The site gave its place to another job.",
    Reason.LOST: "The site no longer knows it, and it left no result.",
    Reason.KILLED: "Somebody asked for its end.",
    Reason.SUBMIT: "The site's batch system refused it.",
    Reason.STAGE: "Its image or data could not be brought to the site.",
    Reason.OUTPUT: "A declared output is missing, or its digest is wrong.",
    Reason.DISK_FULL: "The disk at the site is full.",
    Reason.COMMAND: "The command could not be started.",
    Reason.CONTAINER: "The container could not be started.",
    Reason.DEPENDENCY_FAILED: "A job that it depends on did not end as it must.",
    Reason.DEADLINE: "Its deadline passed before it could start.",
    Reason.UNKNOWN: "The site gave a state that we don't know; its own words are in the message.",
}
