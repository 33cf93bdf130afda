"""Words of the panel that follow from the domain's: how states look, what a person may do to a job in each."""

from datetime import UTC, datetime

from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, SiteState
from isthmus.domain.states import JobState
from isthmus.domain.units import show_seconds
from isthmus.domain.views import JobView, SiteView

# The tone of a state: its colour. The shape before its word tells it without colours.
TONES = {
    "QUEUED": "wait",
    "STAGING": "wait",
    "PENDING": "wait",
    "CREATED": "wait",
    "SUBMITTED": "wait",
    "RUNNING": "run",
    "COLLECTING": "run",
    "COMPLETED": "good",
    "FAILED": "bad",
    "LOST": "bad",
    "KILLED": "dull",
}

# Their messages say all that their sentences do.
_SAID = (Reason.EXIT_CODE, Reason.SIGNAL, Reason.SITE_QUEUE)

# Here one need not be told of a command.
_SENTENCES = {Reason.NONE: "", Reason.NO_SITE: "No site fits it: Explain says why for each."}

JOB_STATES = tuple(JobState)
LIVE = tuple(state for state in JobState if not state.ended)


def tone(state: object) -> str:
    return TONES.get(str(state), "dull")


def why(job: JobView) -> str:
    """Why it is in its state, in one line: the message where there is one, else the reason's sentence."""
    return reason(job.reason.value, job.message)


def can_end(job: JobView) -> bool:
    return not job.state.ended and not job.kill_by


def can_retry(job: JobView) -> bool:
    return job.state in (JobState.FAILED, JobState.KILLED)


def site_tone(site: SiteView) -> str:
    if site.health is Health.UNREACHABLE:
        return "bad"
    if site.state is SiteState.DRAINING:
        return "dull"
    return "good" if site.health is Health.UP else "wait"


def site_word(site: SiteView) -> str:
    if site.state is SiteState.DRAINING:
        return "draining" if site.health is not Health.UNREACHABLE else "draining, unreachable"
    return {Health.UP: "up", Health.UNREACHABLE: "unreachable", Health.UNKNOWN: "not probed"}[site.health]


def ago(moment: datetime | None) -> float:
    """Seconds since then."""
    return (datetime.now(UTC) - moment).total_seconds() if moment else 0.0


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    return show_seconds(seconds)


def reason(word: str, message: str) -> str:
    """A reason's sentence with what is to be said beyond it."""
    try:
        known = Reason(word)
    except ValueError:
        return f"{word} {message}".strip()
    if known is Reason.KILLED and message.startswith("by "):
        return f"Its end was asked for {message}."
    sentence = _SENTENCES.get(known, known.sentence)
    if message and (known in _SAID or message == known.sentence):
        return message if known in _SAID else sentence
    return f"{sentence} {message}".strip()
