"""Users, roles and what each may do."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a user may do: a viewer reads, a member runs jobs, an admin also keeps sites and users."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


class Scope(StrEnum):
    """What a token may be used for; a token never allows more than its user's role does."""

    READ = "read"
    JOBS = "jobs"
    DATA = "data"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: int
    name: str
    role: Role = Role.MEMBER
    disabled: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a call, and by which token."""

    user: User
    scopes: frozenset[Scope] = field(default_factory=lambda: frozenset(Scope))
    token_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the history: who or what changed which thing, from what to what, why."""

    id: int
    at: datetime
    actor: str  # a user's name, or "supervisor"
    noun: str  # job, attempt, site, dataset, image, token, user, secret
    noun_id: str
    verb: str  # created, state, killed, retried, drained, ...
    before: str = ""
    after: str = ""
    reason: str = ""
    message: str = ""
    job_id: int | None = None
