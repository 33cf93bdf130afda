"""Signing in to the panel: by token, by password, by a link that works once, by an OpenID provider.

Whichever way, a browser gets a session: 256 random bits in a cookie, of which the hash is kept. A session that was
begun with a token has that token's scopes and ends with it. Each sign-in and each change leaves an event.
"""

import builtins
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from isthmus.control.identity import Identity
from isthmus.control.passwords import Passwords
from isthmus.control.rights import require
from isthmus.db import events, saved_views, signing, tokens, users
from isthmus.db.engine import Database
from isthmus.db.times import moment
from isthmus.domain.clock import Clock, SystemClock
from isthmus.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from isthmus.domain.users import Caller, Role, Scope, User
from isthmus.domain.views import SavedView, SessionView, SignInLink

IDLE_S = 14 * 86400.0  # a session ends when it was not used for so long
LINK_S = 15 * 60.0

SIGN_IN_AGAIN = "Sign in again."


@dataclass(frozen=True, slots=True)
class Browser:
    """What is written down of where somebody signs in from."""

    agent: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """A browser's session that is good, and whose it is."""

    session_id: int
    caller: Caller
    way: str


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """Who an OpenID provider says that somebody is."""

    issuer: str
    subject: str
    name: str  # as the provider was told to call people here: a preferred user name, an address
    email_verified: bool = False


class Signing:
    """Sessions, passwords and links as people ask about them."""

    def __init__(self, db: Database, identity: Identity, clock: Clock | None = None, *, url: str = "") -> None:
        self._db = db
        self._url = url  # of the server, as others reach it
        self._identity = identity
        self._clock = clock or SystemClock()
        self._passwords = Passwords()

    def _now(self) -> float:
        return self._clock.now().timestamp()

    # ---- ways in; each answers with what the browser is to keep

    async def by_token(self, token: str, browser: Browser) -> str:
        """A session with the rights of an access token. Raises Unauthenticated."""
        caller = await self._identity.authenticate(token.strip())
        return await self._db.write(self._begin, caller.user.id, caller.user.name, caller.token_id, "token", browser)

    async def by_password(self, name: str, password: str, browser: Browser) -> str:
        """Raises Unauthenticated, whichever of the two is wrong, and Unavailable after too many tries."""
        row = await self._db.read(signing.password_of, name)
        good = await self._passwords.matches(name, row.hash if row else None, password)
        if not good or row is None:
            raise Unauthenticated(
                "That name and password don't go together.",
                hint="An admin can set a new password for you; an access token works too.",
                code="wrong-password",
            )
        if row.disabled:
            raise Unauthenticated(f"The user {name} is disabled.", hint="Ask an admin.", code="user-disabled")
        return await self._db.write(self._begin, row.user_id, row.name, None, "password", browser)

    async def by_link(self, code: str, browser: Browser) -> str:
        """By the code of a link, which is good once. Raises Unauthenticated."""

        def begin(conn: Connection) -> str | None:
            row = signing.take_code(conn, code, now=self._now())
            if row is None:
                return None
            owner = _user_by_id(conn, row.user_id)
            return self._begin(conn, owner.id, owner.name, row.token_id, "link", browser)

        made = await self._db.write(begin)
        if made is None:
            raise Unauthenticated(
                "This link was used already, or its time is over.",
                hint="`isthmus panel` prints a new one; a token or a password works too.",
                code="link-used",
            )
        return made

    async def by_openid(self, who: External, browser: Browser, *, role: Role | None) -> str:
        """By what an OpenID provider says. A person who is new here becomes a user of this role; None: is refused."""

        def begin(conn: Connection) -> str:
            user_id = signing.user_of_identity(conn, who.issuer, who.subject)
            if user_id is None:
                user_id = self._adopt(conn, who, role)
            owner = _user_by_id(conn, user_id)
            if owner.disabled:
                raise Unauthenticated(f"The user {owner.name} is disabled.", hint="Ask an admin.", code="user-disabled")
            return self._begin(conn, owner.id, owner.name, None, "openid", browser)

        return await self._db.write(begin)

    async def add_identity(self, caller: Caller, who: External) -> None:
        """Let the caller sign in as who the provider says they are. Raises Conflict where that is another's."""
        require(caller, Role.VIEWER, Scope.ADMIN)
        now = self._now()

        def write(conn: Connection) -> None:
            owner = signing.user_of_identity(conn, who.issuer, who.subject)
            if owner is None:
                signing.add_identity(conn, who.issuer, who.subject, caller.user.id, now=now)
                message = f"{who.name} at {who.issuer}"
                events.add(conn, caller.user.name, "user", caller.user.name, "linked", now=now, message=message)
            elif owner != caller.user.id:
                raise Conflict("That account signs somebody else in here.", hint="Ask an admin.", code="linked")

        await self._db.write(write)

    def _adopt(self, conn: Connection, who: External, role: Role | None) -> int:
        now = self._now()
        if users.find(conn, who.name) is not None:
            # Whoever chooses a name at the provider must not become the user who has it here.
            raise Forbidden(
                f"There is a user {who.name!r} here already, who signs in another way.",
                hint="Ask an admin to free the name, or to name you otherwise at the provider.",
                code="name-taken",
            )
        if role is None:
            raise Forbidden(f"{who.name} is no user here.", hint="Ask an admin to add you.", code="not-a-user")
        user = users.create(conn, who.name, role, now=now)
        signing.add_identity(conn, who.issuer, who.subject, user.id, now=now)
        events.add(conn, user.name, "user", user.name, "created", now=now, after=role.value, message=who.issuer)
        return user.id

    def _begin(
        self, conn: Connection, user_id: int, name: str, token_id: int | None, way: str, browser: Browser
    ) -> str:
        now = self._now()
        events.add(conn, name, "user", name, "signed-in", now=now, message=f"by {way} from {browser.address}")
        return signing.add_session(
            conn,
            user_id,
            token_id or None,
            way=way,
            agent=browser.agent,
            address=browser.address,
            now=now,
            expires_at=now + IDLE_S,
        )

    # ---- sessions

    async def visit(self, session: str) -> Visit:
        """The session that a browser names. Raises Unauthenticated when it is over, or what it stands on is."""
        now = self._now()
        row = await self._db.read(signing.find_session, session)
        visit = _visit(row, now)
        if row is not None and row.seen_at < now - signing.TOUCH_S:
            await self._db.write(signing.touch_session, row.id, now=now, expires_at=now + IDLE_S)
        return visit

    async def sessions(self, caller: Caller) -> builtins.list[SessionView]:
        """The caller's browsers, the last used first."""
        require(caller, Role.VIEWER, Scope.READ)
        now = self._now()
        rows = await self._db.read(signing.sessions_of, caller.user.id)
        return [_session_view(row) for row in rows if _good(row, now)]

    async def sign_out(self, visit: Visit) -> None:
        """End the session. May be said again."""
        await self._db.write(signing.end_sessions, visit.caller.user.id, session_id=visit.session_id)

    async def end_session(self, caller: Caller, session_id: int) -> None:
        """End another session of the caller's. Raises NotFound."""
        require(caller, Role.VIEWER, Scope.READ)
        if not await self._db.write(signing.end_sessions, caller.user.id, session_id=session_id):
            raise NotFound(f"You have no session {session_id}.", place="session")

    # ---- links and passwords

    async def link(self, caller: Caller) -> SignInLink:
        """A link that signs the caller in once, with the rights of this call's token."""
        require(caller, Role.VIEWER, Scope.READ)
        now = self._now()
        code = await self._db.write(
            signing.add_code, caller.user.id, caller.token_id or None, now=now, expires_at=now + LINK_S
        )
        return SignInLink(url=f"{self._url}/sign-in/{code}", expires_at=moment(now + LINK_S))

    async def set_password(
        self, caller: Caller, password: str, *, user: str = "", old: str | None = None, visit: Visit | None = None
    ) -> None:
        """Give the caller, or by an admin ``user``, a password. It ends that user's other sessions.

        A password of one's own that exists must be said (``old``), unless the call has the scope admin by a token.
        """
        own = user in ("", caller.user.name)
        require(caller, Role.VIEWER if own else Role.ADMIN, Scope.ADMIN)
        name = user or caller.user.name
        row = await self._db.read(signing.password_of, name)
        if row is None:
            raise NotFound(f"There is no user {name!r}.", place="user")
        asked = own and row.hash is not None and not caller.token_id
        if asked and not await self._passwords.matches(name, row.hash, old or ""):
            raise Invalid("That is not your password.", place="old")
        hashed = await self._passwords.hash(password)
        now = self._now()

        def write(conn: Connection) -> None:
            signing.set_password(conn, row.user_id, hashed, now=now)
            signing.end_sessions(conn, row.user_id, keep=visit.session_id if visit else None)
            events.add(conn, caller.user.name, "user", name, "password", now=now)

        await self._db.write(write)

    async def remove_password(self, caller: Caller, user: str = "") -> None:
        """Take the password of the caller, or by an admin of ``user``, away: they sign in by other ways only."""
        own = user in ("", caller.user.name)
        require(caller, Role.VIEWER if own else Role.ADMIN, Scope.ADMIN)
        now = self._now()

        def write(conn: Connection) -> None:
            owner = users.get(conn, user or caller.user.name)
            signing.remove_password(conn, owner.id)
            events.add(conn, caller.user.name, "user", owner.name, "password-removed", now=now)

        await self._db.write(write)

    async def with_password(self, caller: Caller) -> frozenset[str]:
        """The names of the users who have a password."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> frozenset[str]:
            ids = signing.with_password(conn)
            return frozenset(user.name for user in users.every(conn) if user.id in ids)

        return await self._db.read(read)

    # ---- saved views

    async def saved_views(self, caller: Caller) -> builtins.list[SavedView]:
        """The caller's views of the list of jobs, by name."""
        require(caller, Role.VIEWER, Scope.READ)
        rows = await self._db.read(saved_views.of_user, caller.user.id)
        return [SavedView(name=row.name, query=row.query) for row in rows]

    async def save_view(self, caller: Caller, name: str, query: str) -> None:
        """Keep a view, in place of an older one of this name."""
        require(caller, Role.VIEWER, Scope.READ)
        if not 1 <= len(name.strip()) <= 100 or len(query) > 2000 or "\0" in name + query:
            raise Invalid("A view's name has from 1 to 100 characters.", place="name")

        def write(conn: Connection) -> None:
            if len(saved_views.of_user(conn, caller.user.id)) >= 100:
                raise Conflict("You have 100 views.", hint="Remove one first.")
            saved_views.put(conn, caller.user.id, name.strip(), query, now=self._now())

        await self._db.write(write)

    async def remove_view(self, caller: Caller, name: str) -> None:
        """Forget a view. Raises NotFound."""
        require(caller, Role.VIEWER, Scope.READ)
        if not await self._db.write(saved_views.remove, caller.user.id, name):
            raise NotFound(f"You have no view {name!r}.", place="name")


def _visit(row: Any, now: float) -> Visit:
    if row is None:
        raise Unauthenticated("You are not signed in, or not any more.", hint=SIGN_IN_AGAIN, code="session-over")
    if row.expires_at <= now:
        raise Unauthenticated("Your session is over.", hint=SIGN_IN_AGAIN, code="session-over")
    if row.disabled:
        raise Unauthenticated(f"The user {row.user_name} is disabled.", hint="Ask an admin.", code="user-disabled")
    if not _good(row, now):
        raise Unauthenticated(
            "The access token that you signed in with is not good any more.", hint=SIGN_IN_AGAIN, code="session-over"
        )
    user = User(id=row.user_id, name=row.user_name, role=Role(row.role))
    scopes = tokens.scopes_of(row) if row.token_id is not None else frozenset(Scope)
    return Visit(row.id, Caller(user=user, scopes=scopes, token_id=row.token_id or 0), row.way)


def _good(row: Any, now: float) -> bool:
    """Whether neither it nor the token that it stands on has ended."""
    if row.token_id is None:
        return bool(row.expires_at > now)
    ended = row.token_expires_at is not None and row.token_expires_at <= now
    return bool(row.expires_at > now) and row.revoked_at is None and not ended


def _session_view(row: Any) -> SessionView:
    return SessionView(
        id=row.id,
        way=row.way,
        agent=row.agent,
        address=row.address,
        created_at=moment(row.created_at),
        seen_at=moment(row.seen_at),
        expires_at=moment(row.expires_at),
    )


def _user_by_id(conn: Connection, user_id: int) -> User:
    owner = next((user for user in users.every(conn) if user.id == user_id), None)
    if owner is None:
        raise NotFound("This user does not exist.", place="user")
    return owner
