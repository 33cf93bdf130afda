"""Who may do what: users, their access tokens, their secrets, and the history. SKELETON: the bodies follow."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from isthmus.domain.users import Caller, Event, Role, Scope
from isthmus.domain.views import CallerView, EventPage, NewToken, SecretView, TokenView, UserView


def require(caller: Caller, role: Role, scope: Scope) -> None:
    """Raise Forbidden unless the caller's user has at least this role and the caller's token this scope."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list. An empty field does not filter."""

    noun: str = ""
    noun_id: str = ""
    job: int = 0
    actor: str = ""
    since: datetime | None = None
    after: int = 0  # ids greater than this; the oldest come first
    newest: bool = False  # instead: the newest `limit` of them, still the oldest first
    limit: int = 100


class Identity:
    """Users, tokens, secrets and events as people ask about them. Every method checks what the caller may do."""

    async def bootstrap(self, name: str = "admin") -> NewToken | None:
        """At the first start: the first admin and a token for it; None when there is a user already."""
        raise NotImplementedError

    async def authenticate(self, token: str) -> Caller:
        """Whose token it is. Raises Unauthenticated when it is unknown, expired or revoked, or its user disabled."""
        raise NotImplementedError

    def whoami(self, caller: Caller) -> CallerView: ...

    async def add_user(self, caller: Caller, name: str, role: Role = Role.MEMBER) -> UserView: ...

    async def users(self, caller: Caller) -> list[UserView]: ...

    async def user(self, caller: Caller, name: str) -> UserView: ...

    async def change_user(
        self, caller: Caller, name: str, *, role: Role | None = None, disabled: bool | None = None
    ) -> UserView:
        """Change what is not None. Raises Conflict if no enabled admin would be left."""
        raise NotImplementedError

    async def create_token(
        self,
        caller: Caller,
        name: str,
        *,
        user: str = "",
        scopes: Sequence[Scope] = (),
        expires_at: datetime | None = None,
    ) -> NewToken:
        """A token for the caller, or by an admin for ``user``. No scopes: all that the caller's token has."""
        raise NotImplementedError

    async def tokens(self, caller: Caller, user: str = "") -> list[TokenView]:
        """The caller's tokens, or ``user``'s for an admin (``*``: everybody's)."""
        raise NotImplementedError

    async def revoke_token(self, caller: Caller, token_id: int) -> TokenView: ...

    async def set_secret(self, caller: Caller, name: str, value: str) -> SecretView: ...

    async def secrets(self, caller: Caller) -> list[SecretView]: ...

    async def remove_secret(self, caller: Caller, name: str) -> None: ...

    async def events(self, caller: Caller, which: EventFilter) -> EventPage: ...

    def follow(self, caller: Caller, which: EventFilter) -> AsyncIterator[Event]:
        """Events after ``which.after`` and all that come from now on; ends only when the reader does."""
        raise NotImplementedError
