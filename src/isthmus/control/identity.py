"""Who may do what: users, their access tokens, their secrets, and the history.

Every change leaves an event in its own transaction. What a token or a secret says is in none of them.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from isthmus.control import history
from isthmus.control.history import EventFilter
from isthmus.control.rights import owns, require
from isthmus.control.vault import Vault
from isthmus.db import credentials, events, secrets, tokens, users
from isthmus.db.engine import Database
from isthmus.db.times import moment
from isthmus.domain.clock import Clock, SystemClock
from isthmus.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from isthmus.domain.users import Caller, Event, Role, Scope, User
from isthmus.domain.views import CallerView, EventPage, NewToken, SecretView, TokenView, UserView

__all__ = ["EventFilter", "Identity", "owns", "require"]

SERVER = "server"  # the actor of what the control plane does by itself
SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
MAX_SECRET = 64 * 1024


class Identity:
    """Users, tokens, secrets and events as people ask about them. Every method checks what the caller may do."""

    def __init__(self, db: Database, vault: Vault, clock: Clock | None = None) -> None:
        self._db = db
        self._vault = vault
        self._clock = clock or SystemClock()
        self._touching: set[asyncio.Task[None]] = set()

    def _now(self) -> float:
        return self._clock.now().timestamp()

    # ---- who calls

    async def bootstrap(self, name: str = "admin") -> NewToken | None:
        """At the first start: the first admin and a token for it; None when there is a user already."""
        now = self._now()

        def make(connection: Connection) -> NewToken | None:
            if users.every(connection):
                return None
            admin = users.create(connection, name, Role.ADMIN, now=now)
            events.add(connection, SERVER, "user", name, "created", now=now, after=Role.ADMIN.value)
            return _new_token(connection, SERVER, admin, "first token", frozenset(Scope), now=now)

        return await self._db.write(make)

    async def recover(self, name: str = "admin") -> NewToken:
        """A new token for an admin, for who has the data folder but lost all tokens. Raises NotFound, Forbidden."""
        now = self._now()

        def make(connection: Connection) -> NewToken:
            admin = users.get(connection, name)
            if admin.role is not Role.ADMIN or admin.disabled:
                raise Forbidden(f"{name} is no admin that may act.", hint="Name one who is.")
            return _new_token(connection, SERVER, admin, "recovered", frozenset(Scope), now=now)

        return await self._db.write(make)

    async def authenticate(self, token: str) -> Caller:
        """Whose token it is. Raises Unauthenticated when it is unknown, expired or revoked, or its user disabled."""
        if not token.startswith(tokens.PREFIX):
            raise Unauthenticated(
                "That is not an access token of Isthmus.",
                hint=f"One begins with {tokens.PREFIX}; `isthmus login` asks for it.",
                code="token-unknown",
            )
        now = self._now()
        row = await self._db.read(tokens.find, token)
        caller = _caller(row, now)
        assert row is not None
        if row.last_used_at is None or row.last_used_at < now - tokens.TOUCH_S:
            task = asyncio.create_task(self._touch(row.id, now))
            self._touching.add(task)
            task.add_done_callback(self._touching.discard)
        return caller

    async def _touch(self, token_id: int, now: float) -> None:
        # Nobody waits for this; a full disk must not keep people from looking.
        with contextlib.suppress(Unavailable):
            await self._db.write(tokens.touch, token_id, now=now)

    async def close(self) -> None:
        """Finish what still runs behind answers; before the database is closed."""
        await asyncio.gather(*self._touching)

    def whoami(self, caller: Caller) -> CallerView:
        """Who the caller is."""
        scopes = tuple(sorted(caller.scopes, key=list(Scope).index))
        return CallerView(user=caller.user.name, role=caller.user.role, scopes=scopes)

    # ---- users

    async def add_user(self, caller: Caller, name: str, role: Role = Role.MEMBER) -> UserView:
        """Add a user. For admins. Raises Conflict when there is one of this name."""
        require(caller, Role.ADMIN, Scope.ADMIN)
        now = self._now()

        def add(connection: Connection) -> UserView:
            user = users.create(connection, name, role, now=now)
            events.add(connection, caller.user.name, "user", name, "created", now=now, after=role.value)
            return _user_view(user)

        return await self._db.write(add)

    async def users(self, caller: Caller) -> list[UserView]:
        """All users, by name."""
        require(caller, Role.VIEWER, Scope.READ)
        return [_user_view(user) for user in await self._db.read(users.every)]

    async def user(self, caller: Caller, name: str) -> UserView:
        """One user. Raises NotFound with the nearest name."""
        require(caller, Role.VIEWER, Scope.READ)
        return _user_view(await self._db.read(users.get, name))

    async def change_user(
        self, caller: Caller, name: str, *, role: Role | None = None, disabled: bool | None = None
    ) -> UserView:
        """Change what is not None. For admins. Raises Conflict if no admin that may act would be left."""
        require(caller, Role.ADMIN, Scope.ADMIN)
        now = self._now()

        def change(connection: Connection) -> UserView:
            user = users.get(connection, name)
            if role is not None and role is not user.role:
                users.set_role(connection, user.id, role)
                events.add(connection, caller.user.name, "user", name, "role", now=now, before=user.role, after=role)
            if disabled is not None and disabled is not user.disabled:
                users.set_disabled(connection, user.id, disabled)
                verb = "disabled" if disabled else "enabled"
                events.add(connection, caller.user.name, "user", name, verb, now=now)
            if not users.admins(connection):
                raise Conflict(
                    f"{name} is the last admin; nobody could keep this control plane.",
                    hint="Make somebody else an admin first.",
                    code="last-admin",
                )
            return _user_view(users.get(connection, name))

        return await self._db.write(change)

    # ---- tokens

    async def create_token(
        self,
        caller: Caller,
        name: str,
        *,
        user: str = "",
        scopes: Sequence[Scope] = (),
        expires_at: datetime | None = None,
    ) -> NewToken:
        """A token for the caller, or by an admin for ``user``. No scopes: all that the caller's token has.

        Needs a token with the scope admin, whatever the role, so that a limited token can't make better ones; the
        new one has no scope that the caller's lacks, and doesn't outlive it.
        """
        require(caller, Role.VIEWER if user in ("", caller.user.name) else Role.ADMIN, Scope.ADMIN)
        missing = sorted(scope.value for scope in set(scopes) - caller.scopes)
        if missing:
            raise Forbidden(
                f"Your own token lacks the scope {missing[0]!r}.", place="scopes", hint="Leave it out.", code="scope"
            )
        now = self._now()
        expires = expires_at.timestamp() if expires_at is not None else None
        if expires is not None and expires <= now:
            raise Invalid("That time has passed.", place="expires_at")

        def create(connection: Connection) -> NewToken:
            owner = users.get(connection, user) if user else caller.user
            own = tokens.by_id(connection, caller.token_id) if caller.token_id else None
            end = expires
            if own is not None and own.expires_at is not None:
                if end is not None and end > own.expires_at:
                    raise Invalid(
                        "It would outlive the token that you make it with.",
                        place="expires_at",
                        hint=f"Choose a time before {moment(own.expires_at):%Y-%m-%dT%H:%M:%SZ}.",
                    )
                end = own.expires_at if end is None else end
            return _new_token(
                connection, caller.user.name, owner, name, frozenset(scopes) or caller.scopes, now=now, expires_at=end
            )

        return await self._db.write(create)

    async def tokens(self, caller: Caller, user: str = "") -> list[TokenView]:
        """The caller's tokens, or ``user``'s for an admin (``*``: everybody's)."""
        others = user not in ("", caller.user.name)
        require(caller, Role.ADMIN if others else Role.VIEWER, Scope.ADMIN if others else Scope.READ)

        def read(connection: Connection) -> list[TokenView]:
            if user == "*":
                return [_token_view(row) for row in tokens.every(connection)]
            owner = users.get(connection, user) if user else caller.user
            return [_token_view(row) for row in tokens.every(connection, owner.id)]

        return await self._db.read(read)

    async def revoke_token(self, caller: Caller, token_id: int) -> TokenView:
        """Refuse a token from now on: one of the caller's, or anybody's for an admin. May be said again.

        A token may always be used to revoke itself; else it needs the scope admin.
        """
        require(caller, Role.VIEWER, Scope.READ if token_id == caller.token_id else Scope.ADMIN)
        now = self._now()

        def revoke(connection: Connection) -> TokenView:
            row = tokens.by_id(connection, token_id)
            if row is None or not owns(caller, row.user_id):
                raise NotFound(f"You have no token {token_id}.", place="token", hint="`isthmus token ls` lists yours.")
            if row.revoked_at is None:
                tokens.revoke(connection, token_id, now=now)
                events.add(connection, caller.user.name, "token", token_id, "revoked", now=now, message=row.name)
            return _token_view(tokens.by_id(connection, token_id))

        return await self._db.write(revoke)

    # ---- secrets

    async def set_secret(self, caller: Caller, name: str, value: str) -> SecretView:
        """Keep a secret of the caller's, in place of an older one of this name. Nobody can read it back."""
        require(caller, Role.MEMBER, Scope.JOBS)
        if not SECRET_NAME.fullmatch(name):
            hint = "Up to 200 letters, digits and _ . -"
            raise Invalid(f"{name[:40]!r} is not a secret's name.", place="name", hint=hint)
        plain = value.encode()
        if not plain or len(plain) > MAX_SECRET or b"\0" in plain:
            hint = "It must be text of 1 byte to 64 KiB without null characters."
            raise Invalid("That can't be a secret's value.", place="value", hint=hint)
        ciphertext = self._vault.encrypt(plain)
        now = self._now()

        def put(connection: Connection) -> None:
            new = secrets.put(connection, caller.user.id, name, ciphertext, now=now)
            verb = "created" if new else "changed"
            events.add(connection, caller.user.name, "secret", name, verb, now=now)

        await self._db.write(put)
        return SecretView(name=name, created_at=moment(now))

    async def secrets(self, caller: Caller) -> list[SecretView]:
        """The names of the caller's secrets."""
        require(caller, Role.VIEWER, Scope.READ)
        rows = await self._db.read(secrets.every, caller.user.id)
        return [SecretView(name=row.name, created_at=moment(row.created_at)) for row in rows]

    async def remove_secret(self, caller: Caller, name: str) -> None:
        """Forget a secret of the caller's. Raises NotFound with the nearest name."""
        require(caller, Role.MEMBER, Scope.JOBS)
        now = self._now()

        def remove(connection: Connection) -> None:
            secrets.remove(connection, caller.user.id, name)
            events.add(connection, caller.user.name, "secret", name, "removed", now=now)

        await self._db.write(remove)

    async def secret_values(self, user_id: int, names: Collection[str]) -> dict[str, str]:
        """What a user's secrets say, for the jobs of that user. No caller asks for this.

        Raises NotFound for one that is gone, and Unavailable when its key is.
        """
        if not names:
            return {}
        found = await self._db.read(secrets.ciphertexts, user_id, names)
        return {name: self._vault.decrypt(ciphertext).decode() for name, ciphertext in found.items()}

    async def rotate_key(self, caller: Caller) -> int:
        """Make a new key and encrypt all secrets and credentials by it; how many there were. For admins.

        With keys from the environment, whose owner put a new one first, all is encrypted by that. Older keys are kept:
        another process may still encrypt by one.
        """
        require(caller, Role.ADMIN, Scope.ADMIN)
        if not self._vault.from_environment:
            await asyncio.to_thread(self._vault.add_key)
        now = self._now()

        def rotate(connection: Connection) -> int:
            kept = [(secrets.replace, row) for row in secrets.everything(connection)]
            kept += [(credentials.replace, row) for row in credentials.everything(connection)]
            for replace, row in kept:
                replace(connection, row.id, self._vault.reencrypt(row.ciphertext))
            events.add(
                connection, caller.user.name, "secret", "*", "rekeyed", now=now, message=f"{len(kept)} encrypted"
            )
            return len(kept)

        return await self._db.write(rotate)

    # ---- history

    async def events(self, caller: Caller, which: EventFilter) -> EventPage:
        """A page of the history: everything for admins; for others what they did, and what their jobs went through."""
        require(caller, Role.VIEWER, Scope.READ)
        return await history.page(self._db, caller, which)

    def follow(self, caller: Caller, which: EventFilter) -> AsyncIterator[Event]:
        """Events after ``which.after`` and all that come from now on; ends only when the reader does.

        The iterator raises Unauthenticated when the caller's token stops being good meanwhile.
        """
        require(caller, Role.VIEWER, Scope.READ)

        def check(connection: Connection) -> None:
            if caller.token_id:
                _caller(tokens.by_id(connection, caller.token_id), self._now())

        return history.follow(self._db, caller, which, check)


def _caller(row: Any, now: float) -> Caller:
    """The caller of a token's row. Raises Unauthenticated when it is not good, or no more."""
    hint = "Get another one from an admin, or make one with `isthmus token add`, then `isthmus login`."
    if row is None:
        raise Unauthenticated("The access token is unknown here.", hint=hint, code="token-unknown")
    if row.revoked_at is not None:
        raise Unauthenticated("The access token was revoked.", hint=hint, code="token-revoked")
    if row.expires_at is not None and row.expires_at <= now:
        message = f"The access token expired at {moment(row.expires_at):%Y-%m-%d %H:%M UTC}."
        raise Unauthenticated(message, hint=hint, code="token-expired")
    if row.disabled:
        raise Unauthenticated(f"The user {row.user_name} is disabled.", hint="Ask an admin.", code="user-disabled")
    user = User(id=row.user_id, name=row.user_name, role=Role(row.role))
    return Caller(user=user, scopes=tokens.scopes_of(row), token_id=row.id)


def _new_token(
    connection: Connection,
    actor: str,
    owner: User,
    name: str,
    scopes: Iterable[Scope],
    *,
    now: float,
    expires_at: float | None = None,
) -> NewToken:
    kept = tuple(sorted(scopes, key=list(Scope).index))
    token_id, plain = tokens.create(connection, owner.id, name, kept, now=now, expires_at=expires_at)
    message = f"{name} of {owner.name}: {' '.join(kept)}"
    events.add(connection, actor, "token", token_id, "created", now=now, message=message)
    return NewToken(token=plain, id=token_id, name=name, user=owner.name, scopes=kept, expires_at=moment(expires_at))


def _user_view(user: User) -> UserView:
    return UserView(name=user.name, role=user.role, disabled=user.disabled, created_at=user.created_at)


def _token_view(row: Any) -> TokenView:
    return TokenView(
        id=row.id,
        name=row.name,
        user=row.user_name,
        scopes=tuple(sorted(tokens.scopes_of(row), key=list(Scope).index)),
        created_at=moment(row.created_at),
        expires_at=moment(row.expires_at),
        revoked_at=moment(row.revoked_at),
        last_used_at=moment(row.last_used_at),
    )
