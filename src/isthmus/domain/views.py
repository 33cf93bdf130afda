"""What people see of jobs, sites and the rest: the bodies of the API's answers, and what the SDK returns.

Times are UTC. A field that is not known yet is None, or empty where its type has an empty value.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from isthmus.domain.artefacts import Artefact, ArtefactKind, ReplicaState
from isthmus.domain.jobs import JobSpec
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, Inventory, SiteSpec, SiteState
from isthmus.domain.states import AttemptState, JobState
from isthmus.domain.users import Event, Role, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the command says it is."""

    done: float = 0.0
    total: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A job holds so many GPUs of a node. Nodes are numbered as the plan fills them; the site picks the real ones."""

    job: int
    node: int
    gpus: int
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One job of a plan. Money in the currency of the sites' prices."""

    job: int
    name: str = ""
    user: str = ""
    left: float = 1.0  # of its work
    gpus: int = 0  # that it holds now
    deadline: datetime | None = None
    ends_at: datetime
    late_s: float = 0.0
    cost_so_far: float = 0.0
    cost_expected: float = 0.0  # of what is still to come, lateness not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """How the queue of one kind of GPU nodes would go on, if nothing else came and all ran as expected."""

    site: str
    queue: str
    node: str  # its name
    gpu_type: str
    nodes: int
    gpus: int  # of each node
    at: datetime
    runs: tuple[PlannedRun, ...] = ()
    jobs: tuple[PlannedJob, ...] = ()
    cost_so_far: float = 0.0
    cost_expected: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the attempt used, as last reported by its runner."""

    mem_bytes: int = 0
    peak_mem_bytes: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    gpu_util: tuple[float, ...] = ()  # 0 to 1, one for each GPU
    gpu_mem_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job as it is now."""

    id: int
    name: str = ""
    user: str = ""
    state: JobState = JobState.QUEUED
    reason: Reason = Reason.NONE
    message: str = ""  # what is to be said beyond the reason's sentence; the batch system's own words
    priority: int = 0
    deadline: datetime | None = None
    array: int | None = None  # id of the array's first job
    index: int | None = None  # within the array
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    wake_at: datetime | None = None  # not placed before
    attempts: int = 0
    site: str = ""  # of the last attempt
    node: str = ""
    exit_code: int | None = None
    waiting_for: int = 0  # dependencies that have not ended
    kill_by: str = ""  # who asked for its end
    progress: Progress | None = None
    labels: dict[str, str] = field(default_factory=dict)
    spec: JobSpec | None = None  # with one job; not in lists


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Some of the jobs, the newest first. ``next`` is the ``before`` of the next page; None: no more."""

    jobs: tuple[JobView, ...] = ()
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One try of a job on one site."""

    key: str
    job: int
    number: int
    site: str
    state: AttemptState
    live: bool = False
    reason: Reason = Reason.NONE
    message: str = ""
    plan: dict[str, Any] = field(default_factory=dict)  # what placement chose: queue, node type, GPUs
    native_id: str = ""
    native_state: str = ""
    nodes: str = ""
    exit_code: int | None = None
    signal: int | None = None
    created_at: datetime | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    heard_at: datetime | None = None  # the last report, by either way
    log_bytes: int = 0
    usage: Usage = Usage()
    progress: Progress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSaid:
    """One filter's answer; ``why`` is empty where it lets the job through. ``lasting``: it judges what the site is."""

    name: str
    why: str = ""
    lasting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSaid:
    """One score from 0, the worst, to 1; None: it has nothing to say, and the mean is that of the others."""

    name: str
    value: float | None
    weight: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteVerdict:
    """Whether a job can run at a site; ``reasons`` say what stands in the way, or what it would get there."""

    site: str
    fits: bool  # some day, as the site is made
    now: bool = False  # and there is room at this moment
    chosen: bool = False  # it is there now, or placement would send it there
    reasons: tuple[str, ...] = ()
    queue: str = ""
    node_type: str = ""
    wait_s: float | None = None  # to be expected there, learned from the last jobs; None: none was seen
    cost_h: float = 0.0  # of an hour there
    cost: float | None = None  # of all its time, by the limit that it names; None: it names none
    policy: str = ""  # that orders jobs there
    score: float = 0.0  # the weighted mean of `scores`; 0 where it does not fit
    filters: tuple[FilterSaid, ...] = ()
    scores: tuple[ScoreSaid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a job is where it is, and what each site has to say to it."""

    job: int | None = None  # None: it is not submitted
    state: JobState | None = None
    reason: Reason = Reason.NONE
    message: str = ""
    sites: tuple[SiteVerdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSlice:
    """Bytes of an attempt's log. ``ended``: no more will follow beyond ``size``."""

    attempt: int
    offset: int
    data: bytes
    size: int  # of the whole log, as far as it is known
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value of a metric."""

    at: datetime
    value: float | None  # None: not a finite number
    step: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A metric over time. Thinned series keep the lowest and highest value of each stretch."""

    name: str
    attempt: int
    points: tuple[Point, ...] = ()
    count: int = 0  # of all its points, kept or not in ``points``
    last_id: int = 0  # the ``after`` of the next question


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The last, the lowest and the highest value of a series."""

    last: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputView:
    """A file or folder that a job left."""

    id: int
    job: int
    attempt: int
    path: str
    kind: str  # file, folder
    size: int
    digest: str
    collected: bool  # brought home; else it lies at the site
    site: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """One site: what was said of it, what was found there, and how it is now."""

    name: str
    kind: str
    state: SiteState = SiteState.ENABLED
    health: Health = Health.UNKNOWN
    health_message: str = ""
    spec: SiteSpec | None = None
    inventory: Inventory = field(default_factory=Inventory)
    probed_at: datetime | None = None
    seen_at: datetime | None = None
    retry_at: datetime | None = None  # when an unreachable site is tried again
    created_at: datetime | None = None
    running: int = 0  # our jobs there
    waiting: int = 0  # our jobs in its queue or on their way there


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLoad:
    """What our live attempts have reserved at a site: those that run, and those that wait there."""

    cpus: int = 0
    mem_bytes: int = 0
    gpus: int = 0
    waiting_cpus: int = 0
    waiting_gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaAt:
    """A copy at a site, of whichever datasets, images or outputs have this content."""

    digest: str
    names: tuple[str, ...] = ()  # dataset prices@3; none: the output of a job
    state: ReplicaState = ReplicaState.PRESENT
    size: int = 0
    bytes_done: int = 0
    last_used_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOf:
    """What the attempts of one user at one site took on one day (UTC), by what their placement asked for."""

    day: date
    user: str
    site: str
    cpu_h: float = 0.0
    gpu_h: float = 0.0
    node_h: float = 0.0  # a node for each attempt that was on it: those that share one count it each
    cost: float = 0.0  # by the site's price of today


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What a person wants to know first. Lists are short: the ends of longer ones."""

    counts: dict[JobState, int] = field(default_factory=dict)  # of those that have not ended
    ended: dict[JobState, int] = field(default_factory=dict)  # in the last 24 hours
    failed: tuple[JobView, ...] = ()  # in the last 3 days, the newest first
    waiting: tuple[JobView, ...] = ()  # for longer than an hour, the longest first
    silent: tuple[JobView, ...] = ()  # they run, and their runner was not heard of for 10 minutes
    running: tuple[JobView, ...] = ()  # the newest first
    finished: tuple[JobView, ...] = ()  # in the last 24 hours, the newest first
    sites: tuple[SiteView, ...] = ()
    week: tuple[UsageOf, ...] = ()  # the last 7 days


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, and what to do where all is not well."""

    what: str
    result: Literal["ok", "warn", "fail"]
    found: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactPage:
    """Some of the artefacts, the newest first. ``next`` is the ``before`` of the next page."""

    artefacts: tuple[Artefact, ...] = ()
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadView:
    """An upload on its way: the next byte wanted is at ``offset``."""

    id: str
    kind: ArtefactKind
    name: str
    version: str
    offset: int = 0
    size: int | None = None  # as announced


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a garbage collection took away."""

    count: int = 0
    size: int = 0
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    """One user."""

    name: str
    role: Role
    disabled: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """One access token, without the token itself."""

    id: int
    name: str
    user: str
    scopes: tuple[Scope, ...] = ()
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token just made. ``token`` is shown this once: only its hash is kept."""

    token: str
    id: int
    name: str
    user: str
    scopes: tuple[Scope, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInLink:
    """A link that signs a browser in to the panel once, soon."""

    url: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """One browser that is signed in."""

    id: int
    way: str  # token, password, link, openid
    agent: str = ""  # what the browser calls itself
    address: str = ""
    created_at: datetime | None = None
    seen_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """Filters of the list of jobs that somebody gave a name: the query of its URL."""

    name: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """One secret, without its value, which nobody can read back."""

    name: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Some of the history, the oldest first. ``next`` is the ``after`` of the next page."""

    events: tuple[Event, ...] = ()
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerView:
    """Who the token of the call belongs to."""

    user: str
    role: Role
    scopes: tuple[Scope, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """Which control plane this is."""

    version: str
    instance: str
    started_at: datetime
    database: str  # sqlite, postgresql
    supervisor: bool  # whether this process may lead
    features: tuple[str, ...] = ()
    python: str = ""  # the interpreter that runs it, on its machine
