"""Signing in, on both databases: sessions end when they must, passwords and links do what they say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from isthmus.control.identity import Identity
from isthmus.control.passwords import TRIES, Passwords
from isthmus.control.signing import IDLE_S, LINK_S, Browser, External, Signing
from isthmus.control.vault import Vault
from isthmus.db.engine import Database
from isthmus.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from isthmus.domain.users import Role, Scope
from isthmus.testing.clock import ManualClock

HERE = Browser(agent="test", address="127.0.0.1")
PASSWORD = "correct horse battery"


class Entrance:
    def __init__(self, db: Database, folder: Path) -> None:
        self.clock = ManualClock()
        self.identity = Identity(db, Vault.open(folder), self.clock)
        self.signing = Signing(db, self.identity, self.clock, url="https://here")


@pytest.fixture
def door(db: Database, tmp_path: Path) -> Entrance:
    return Entrance(db, tmp_path)


async def admin_of(door: Entrance) -> tuple[str, object]:
    made = await door.identity.bootstrap()
    assert made is not None
    return made.token, await door.identity.authenticate(made.token)


async def test_a_session_has_the_rights_of_its_token_and_ends_with_it(door: Entrance) -> None:
    _, admin = await admin_of(door)
    until = door.clock.now() + timedelta(hours=1)
    limited = await door.identity.create_token(admin, "look", scopes=[Scope.READ], expires_at=until)
    session = await door.signing.by_token(limited.token, HERE)
    visit = await door.signing.visit(session)
    assert (visit.caller.user.name, visit.caller.scopes, visit.way) == ("admin", {Scope.READ}, "token")
    with pytest.raises(Forbidden):
        await door.signing.set_password(visit.caller, PASSWORD)
    await door.clock.advance(3601)
    with pytest.raises(Unauthenticated, match="not good any more"):
        await door.signing.visit(session)
    with pytest.raises(Unauthenticated):
        await door.signing.by_token("ist_wrong", HERE)


async def test_a_session_that_is_not_used_ends(door: Entrance) -> None:
    token, _ = await admin_of(door)
    session = await door.signing.by_token(token, HERE)
    await door.clock.advance(IDLE_S - 100)
    await door.signing.visit(session)
    await door.clock.advance(IDLE_S - 100)
    await door.signing.visit(session)
    await door.clock.advance(IDLE_S + 1)
    with pytest.raises(Unauthenticated, match="over"):
        await door.signing.visit(session)


async def test_a_link_works_once_and_soon(door: Entrance) -> None:
    _, admin = await admin_of(door)
    link = await door.signing.link(admin)
    assert link.url.startswith("https://here/sign-in/")
    code = link.url.rpartition("/")[2]
    visit = await door.signing.visit(await door.signing.by_link(code, HERE))
    assert visit.caller.user.name == "admin"
    with pytest.raises(Unauthenticated, match="used already"):
        await door.signing.by_link(code, HERE)
    late = (await door.signing.link(admin)).url.rpartition("/")[2]
    await door.clock.advance(LINK_S + 1)
    with pytest.raises(Unauthenticated):
        await door.signing.by_link(late, HERE)


async def test_passwords(door: Entrance) -> None:
    token, admin = await admin_of(door)
    await door.identity.add_user(admin, "ada", Role.MEMBER)
    with pytest.raises(Unauthenticated):
        await door.signing.by_password("ada", PASSWORD, HERE)
    for bad in ("short", "aaaaaaaaaaaaa", "x" * 2000):
        with pytest.raises(Invalid):
            await door.signing.set_password(admin, bad, user="ada")
    await door.signing.set_password(admin, PASSWORD, user="ada")
    first = await door.signing.by_password("ada", PASSWORD, HERE)
    visit = await door.signing.visit(first)
    assert (visit.caller.user.role, visit.way) == (Role.MEMBER, "password")
    with pytest.raises(Forbidden):
        await door.signing.set_password(visit.caller, PASSWORD, user="admin")
    with pytest.raises(Invalid, match="not your password"):
        await door.signing.set_password(visit.caller, "another good one", old="guess", visit=visit)
    second = await door.signing.by_password("ada", PASSWORD, HERE)
    await door.signing.set_password(visit.caller, "another good one", old=PASSWORD, visit=visit)
    await door.signing.visit(first)
    with pytest.raises(Unauthenticated):  # her other browser is signed out
        await door.signing.visit(second)
    await door.signing.remove_password(admin, "ada")
    with pytest.raises(Unauthenticated):
        await door.signing.by_password("ada", "another good one", HERE)
    with pytest.raises(NotFound):
        await door.signing.set_password(admin, PASSWORD, user="nobody")
    await door.identity.change_user(admin, "ada", disabled=True)
    with pytest.raises(Unauthenticated, match="disabled"):
        await door.signing.visit(first)
    history = await door.identity.events(admin, _all())
    assert PASSWORD not in str(history)
    assert token not in str(history)


def _all() -> object:
    from isthmus.control.history import EventFilter

    return EventFilter(limit=1000)


async def test_guessing_is_slowed() -> None:
    passwords = Passwords()
    kept = await passwords.hash(PASSWORD)
    for _ in range(TRIES):
        assert not await passwords.matches("ada", kept, "wrong one here")
    with pytest.raises(Unavailable, match="too often"):
        await passwords.matches("ada", kept, PASSWORD)
    assert await passwords.matches("bob", kept, PASSWORD)


async def test_identities_of_a_provider(door: Entrance) -> None:
    _, admin = await admin_of(door)
    who = External(issuer="https://id", subject="1", name="olga")
    with pytest.raises(Forbidden, match="no user here"):
        await door.signing.by_openid(who, HERE, role=None)
    visit = await door.signing.visit(await door.signing.by_openid(who, HERE, role=Role.VIEWER))
    assert (visit.caller.user.name, visit.caller.user.role) == ("olga", Role.VIEWER)
    renamed = External(issuer="https://id", subject="1", name="olga2")
    visit = await door.signing.visit(await door.signing.by_openid(renamed, HERE, role=Role.VIEWER))
    assert visit.caller.user.name == "olga"
    with pytest.raises(Forbidden, match="already"):
        await door.signing.by_openid(External(issuer="https://id", subject="2", name="admin"), HERE, role=Role.MEMBER)
    with pytest.raises(Conflict):
        await door.signing.add_identity(admin, who)


async def test_sessions_and_views_are_one_s_own(door: Entrance) -> None:
    token, admin = await admin_of(door)
    await door.identity.add_user(admin, "ada")
    other = await door.identity.create_token(admin, "t", user="ada")
    mine = await door.signing.visit(await door.signing.by_token(token, HERE))
    hers = await door.signing.visit(await door.signing.by_token(other.token, HERE))
    assert [one.id for one in await door.signing.sessions(hers.caller)] == [hers.session_id]
    with pytest.raises(NotFound):
        await door.signing.end_session(hers.caller, mine.session_id)
    await door.signing.save_view(mine.caller, "failed", "state=FAILED")
    await door.signing.save_view(mine.caller, "failed", "state=KILLED")
    assert [view.query for view in await door.signing.saved_views(mine.caller)] == ["state=KILLED"]
    assert await door.signing.saved_views(hers.caller) == []
    with pytest.raises(NotFound):
        await door.signing.remove_view(hers.caller, "failed")
