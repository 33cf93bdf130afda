"""Users, tokens, secrets and the history, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from isthmus.control.identity import EventFilter, Identity
from isthmus.control.vault import Vault
from isthmus.db import credentials, events, sites, tokens
from isthmus.db.engine import Database
from isthmus.db.schema import events as events_table
from isthmus.db.schema import jobs, metadata
from isthmus.db.schema import secrets as secrets_table
from isthmus.domain.errors import Conflict, Forbidden, Invalid, IsthmusError, NotFound, Unauthenticated, Unavailable
from isthmus.domain.users import Caller, Role, Scope, User
from isthmus.testing.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open(tmp_path, {})


@pytest.fixture
async def identity(db: Database, vault: Vault, clock: ManualClock) -> Any:
    made = Identity(db, vault, clock)
    yield made
    await made.close()


@pytest.fixture
async def admin(identity: Identity) -> Caller:
    first = await identity.bootstrap("root")
    assert first is not None
    return await identity.authenticate(first.token)


async def sign_up(identity: Identity, admin: Caller, name: str, role: Role = Role.MEMBER, *scopes: Scope) -> Caller:
    await identity.add_user(admin, name, role)
    made = await identity.create_token(admin, "laptop", user=name, scopes=scopes)
    return await identity.authenticate(made.token)


async def history(identity: Identity, admin: Caller, **which: Any) -> list[tuple[str, str, str, str]]:
    page = await identity.events(admin, EventFilter(**which))
    return [(event.actor, event.noun, event.noun_id, event.verb) for event in page.events]


# ---- the first start


async def test_the_first_start_makes_one_admin(identity: Identity) -> None:
    both = await asyncio.gather(identity.bootstrap(), identity.bootstrap())
    (first,) = [made for made in both if made is not None]
    assert await identity.bootstrap("other") is None
    caller = await identity.authenticate(first.token)
    view = identity.whoami(caller)
    assert (view.user, view.role, view.scopes) == ("admin", Role.ADMIN, tuple(Scope))
    assert [user.name for user in await identity.users(caller)] == ["admin"]


async def test_who_lost_all_tokens_gets_in_again(identity: Identity, admin: Caller) -> None:
    made = await identity.recover("root")
    assert (await identity.authenticate(made.token)).user == admin.user
    with pytest.raises(NotFound, match=r"Did you mean 'root'\?"):
        await identity.recover("roott")
    await identity.add_user(admin, "ada")
    with pytest.raises(Forbidden, match="ada is no admin"):
        await identity.recover("ada")


# ---- tokens


@pytest.mark.parametrize("token", ["", "nonsense", "ist_", "ist_" + "A" * 43, "ist_é"])
async def test_unknown_tokens_are_refused(identity: Identity, admin: Caller, token: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await identity.authenticate(token)
    assert caught.value.code == "token-unknown"
    assert caught.value.hint


async def test_tokens_expire(identity: Identity, admin: Caller, clock: ManualClock) -> None:
    made = await identity.create_token(admin, "day", expires_at=clock.now() + timedelta(days=1))
    await clock.advance(86399)
    await identity.authenticate(made.token)
    await clock.advance(1)
    with pytest.raises(Unauthenticated, match=r"expired at 2030-01-02 00:00 UTC"):
        await identity.authenticate(made.token)
    with pytest.raises(Invalid, match="has passed"):
        await identity.create_token(admin, "past", expires_at=clock.now())


async def test_a_revoked_token_is_refused_at_once(identity: Identity, admin: Caller) -> None:
    made = await identity.create_token(admin, "laptop")
    await identity.authenticate(made.token)
    view = await identity.revoke_token(admin, made.id)
    assert view.revoked_at is not None
    with pytest.raises(Unauthenticated, match="revoked"):
        await identity.authenticate(made.token)
    again = await identity.revoke_token(admin, made.id)
    assert again.revoked_at == view.revoked_at
    assert len(await history(identity, admin, noun="token", noun_id=str(made.id))) == 2  # created, revoked once


async def test_a_disabled_user_is_refused_at_once(identity: Identity, admin: Caller) -> None:
    made = await identity.create_token(admin, "t", user=(await identity.add_user(admin, "ada")).name)
    await identity.authenticate(made.token)
    await identity.change_user(admin, "ada", disabled=True)
    with pytest.raises(Unauthenticated, match="ada is disabled"):
        await identity.authenticate(made.token)
    await identity.change_user(admin, "ada", disabled=False)
    assert (await identity.authenticate(made.token)).user.name == "ada"


async def test_a_change_of_role_counts_from_the_next_call(identity: Identity, admin: Caller) -> None:
    made = await identity.create_token(admin, "t", user=(await identity.add_user(admin, "ada")).name)
    assert (await identity.authenticate(made.token)).user.role is Role.MEMBER
    await identity.change_user(admin, "ada", role=Role.VIEWER)
    assert (await identity.authenticate(made.token)).user.role is Role.VIEWER


async def test_the_last_use_is_seen(identity: Identity, admin: Caller, clock: ManualClock) -> None:
    made = await identity.create_token(admin, "laptop")
    await identity.authenticate(made.token)
    await identity.close()  # what it does behind the answer is done
    used = [view.last_used_at for view in await identity.tokens(admin) if view.id == made.id]
    assert used == [clock.now()]


async def test_a_token_has_no_more_than_the_one_it_was_made_with(
    identity: Identity, admin: Caller, clock: ManualClock
) -> None:
    limited = await identity.authenticate(
        (await identity.create_token(admin, "ci", scopes=[Scope.ADMIN, Scope.JOBS])).token
    )
    with pytest.raises(Forbidden, match="lacks the scope 'data'"):
        await identity.create_token(limited, "more", scopes=[Scope.JOBS, Scope.DATA])
    same = await identity.create_token(limited, "same")
    assert same.scopes == (Scope.JOBS, Scope.ADMIN)
    reader = await identity.authenticate((await identity.create_token(admin, "ro", scopes=[Scope.JOBS])).token)
    with pytest.raises(Forbidden, match=r"may not be used for 'admin' \(its scopes: jobs\)"):
        await identity.create_token(reader, "longer")


async def test_a_token_does_not_outlive_the_one_it_was_made_with(
    identity: Identity, admin: Caller, clock: ManualClock
) -> None:
    end = clock.now() + timedelta(hours=1)
    short = await identity.authenticate((await identity.create_token(admin, "hour", expires_at=end)).token)
    assert (await identity.create_token(short, "heir")).expires_at == end
    assert (await identity.create_token(short, "less", expires_at=end - timedelta(minutes=1))).expires_at < end  # type: ignore[operator]
    with pytest.raises(Invalid, match="outlive the token"):
        await identity.create_token(short, "more", expires_at=end + timedelta(seconds=1))


async def test_tokens_are_their_owners(identity: Identity, admin: Caller) -> None:
    ada = await sign_up(identity, admin, "ada")
    bob = await sign_up(identity, admin, "bob")
    with pytest.raises(NotFound, match=f"You have no token {ada.token_id}"):
        await identity.revoke_token(bob, ada.token_id)
    with pytest.raises(Forbidden, match="bob is a member; only an admin"):
        await identity.tokens(bob, "ada")
    with pytest.raises(Forbidden):
        await identity.create_token(bob, "t", user="ada")
    assert [view.user for view in await identity.tokens(bob)] == ["bob"]
    assert {view.user for view in await identity.tokens(admin, "*")} == {"root", "ada", "bob"}
    await identity.revoke_token(bob, bob.token_id)
    await identity.revoke_token(admin, ada.token_id)


async def test_any_token_may_revoke_itself(identity: Identity, admin: Caller) -> None:
    viewer = await sign_up(identity, admin, "eve", Role.VIEWER, Scope.READ)
    other = await identity.create_token(admin, "other", user="eve")
    with pytest.raises(Forbidden):
        await identity.revoke_token(viewer, other.id)
    assert (await identity.revoke_token(viewer, viewer.token_id)).revoked_at is not None


# ---- users


async def test_only_admins_keep_users(identity: Identity, admin: Caller) -> None:
    ada = await sign_up(identity, admin, "ada")
    for call in (
        lambda: identity.add_user(ada, "eve"),
        lambda: identity.change_user(ada, "ada", role=Role.ADMIN),
        lambda: identity.rotate_key(ada),
    ):
        with pytest.raises(Forbidden, match="ada is a member; only an admin may do this"):
            await call()
    assert [user.name for user in await identity.users(ada)] == ["ada", "root"]
    assert (await identity.user(ada, "ada")).role is Role.MEMBER


async def test_an_admins_limited_token_keeps_no_users(identity: Identity, admin: Caller) -> None:
    made = await identity.create_token(admin, "jobs", scopes=[Scope.JOBS])
    with pytest.raises(Forbidden, match="may not be used for 'admin'"):
        await identity.add_user(await identity.authenticate(made.token), "eve")


async def test_the_last_admin_stays(identity: Identity, admin: Caller) -> None:
    for change in ({"role": Role.MEMBER}, {"disabled": True}):
        with pytest.raises(Conflict, match="root is the last admin"):
            await identity.change_user(admin, "root", **change)  # type: ignore[arg-type]
    assert (await identity.user(admin, "root")).role is Role.ADMIN
    await identity.add_user(admin, "ada", Role.ADMIN)
    assert (await identity.change_user(admin, "root", role=Role.MEMBER)).role is Role.MEMBER


async def test_two_admins_can_not_remove_each_other_at_once(identity: Identity, admin: Caller) -> None:
    ada = await sign_up(identity, admin, "ada", Role.ADMIN)
    results = await asyncio.gather(
        identity.change_user(admin, "ada", role=Role.VIEWER),
        identity.change_user(ada, "root", role=Role.VIEWER),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "UserView"]


# ---- secrets

PLAIN = "s3cr3t-væry-plain"


async def everything(db: Database) -> str:
    """All that lies in the database, as text."""

    def read(c: Connection) -> str:
        return repr([tuple(row) for table in metadata.sorted_tables for row in c.execute(select(table))])

    return await db.read(read)


async def test_a_secret_is_nowhere_in_the_database(identity: Identity, admin: Caller, db: Database) -> None:
    await identity.set_secret(admin, "HF_TOKEN", PLAIN)
    assert PLAIN.encode().hex() not in await everything(db)
    assert "s3cr3t" not in await everything(db)
    assert await identity.secret_values(admin.user.id, ["HF_TOKEN"]) == {"HF_TOKEN": PLAIN}
    assert await identity.secret_values(admin.user.id, []) == {}


async def test_no_token_is_in_the_database(identity: Identity, admin: Caller, db: Database) -> None:
    made = await identity.create_token(admin, "laptop")
    assert made.token not in await everything(db)
    assert tokens.digest(made.token) in await everything(db)


async def test_secrets_are_seen_by_name_only_and_by_their_owner_only(identity: Identity, admin: Caller) -> None:
    ada = await sign_up(identity, admin, "ada")
    await identity.set_secret(ada, "A", PLAIN)
    await identity.set_secret(ada, "A", PLAIN + "2")
    assert [view.name for view in await identity.secrets(ada)] == ["A"]
    assert PLAIN not in repr(await identity.secrets(ada))
    assert await identity.secrets(admin) == []
    with pytest.raises(NotFound, match="no secret 'A'"):
        await identity.remove_secret(admin, "A")
    with pytest.raises(NotFound, match="no secret 'A'"):
        await identity.secret_values(admin.user.id, ["A"])
    await identity.remove_secret(ada, "A")
    assert await identity.secrets(ada) == []
    assert await history(identity, admin, noun="secret") == [
        ("ada", "secret", "A", "created"),
        ("ada", "secret", "A", "changed"),
        ("ada", "secret", "A", "removed"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("", "x", "name"),
        ("a b", "x", "name"),
        ("A\n", "x", "name"),
        ("x" * 201, "x", "name"),
        ("A", "", "value"),
        ("A", "a\0b", "value"),
        ("A", "x" * 70_000, "value"),
    ],
)
async def test_bad_secrets_are_refused(identity: Identity, admin: Caller, name: str, value: str, place: str) -> None:
    with pytest.raises(Invalid) as caught:
        await identity.set_secret(admin, name, value)
    assert caught.value.place == place
    assert value not in str(caught.value) or value in ("", "x")
    assert await identity.secrets(admin) == []


async def test_a_viewer_keeps_no_secrets(identity: Identity, admin: Caller) -> None:
    viewer = await sign_up(identity, admin, "eve", Role.VIEWER)
    with pytest.raises(Forbidden, match="eve is a viewer; only a member may do this"):
        await identity.set_secret(viewer, "A", "x")


async def test_a_new_key_encrypts_all_anew(
    identity: Identity, admin: Caller, db: Database, vault: Vault, tmp_path: Path
) -> None:
    await identity.set_secret(admin, "A", PLAIN)
    site = await db.write(sites.add, "box", "{}", now=1.0)
    sealed = vault.encrypt(b"private key")
    await db.write(credentials.put, admin.user.id, site, now=1.0, ciphertext=sealed)
    await db.write(credentials.put, (await identity_user(db, identity, admin)).id, site, now=1.0)  # without a key

    assert await identity.rotate_key(admin) == 2
    keys = (tmp_path / "secret.key").read_text().split()
    assert len(keys) == 2
    only_new = Vault.open(tmp_path, {"ISTHMUS_SECRET_KEY": keys[0]})
    kept = await db.read(credentials.own, admin.user.id, site)
    assert kept is not None
    assert only_new.decrypt(kept.ciphertext) == b"private key"
    assert await Identity(db, only_new).secret_values(admin.user.id, ["A"]) == {"A": PLAIN}
    with pytest.raises(Unavailable):
        only_new.decrypt(sealed)
    assert ("root", "secret", "*", "rekeyed") in await history(identity, admin)


async def identity_user(db: Database, identity: Identity, admin: Caller) -> User:
    await identity.add_user(admin, "ada")
    made = await identity.create_token(admin, "t", user="ada")
    return (await identity.authenticate(made.token)).user


async def test_a_lost_key_changes_nothing_when_keys_are_rotated(
    identity: Identity, admin: Caller, db: Database, tmp_path: Path
) -> None:
    await identity.set_secret(admin, "A", PLAIN)
    other = tmp_path / "other"
    other.mkdir()
    stranger = Identity(db, Vault.open(other, {}))
    before = await db.read(lambda c: c.execute(select(secrets_table.c.ciphertext)).scalar_one())
    with pytest.raises(Unavailable, match="can't be decrypted"):
        await stranger.rotate_key(admin)
    assert await db.read(lambda c: c.execute(select(secrets_table.c.ciphertext)).scalar_one()) == before
    assert await identity.secret_values(admin.user.id, ["A"]) == {"A": PLAIN}


# ---- the history


async def test_every_change_leaves_an_event(identity: Identity, admin: Caller) -> None:
    """All that changes something, called once; what it leaves in the history; and nothing that is secret."""
    before = (await identity.events(admin, EventFilter(newest=True, limit=1))).events[-1].id
    made = await identity.create_token(admin, "t", user=(await identity.add_user(admin, "ada")).name)
    await identity.change_user(admin, "ada", role=Role.ADMIN, disabled=True)
    await identity.change_user(admin, "ada", role=Role.ADMIN, disabled=True)  # nothing changes
    await identity.revoke_token(admin, made.id)
    await identity.set_secret(admin, "A", PLAIN)
    await identity.remove_secret(admin, "A")
    await identity.rotate_key(admin)
    again = await identity.recover("root")
    assert await history(identity, admin, after=before) == [
        ("root", "user", "ada", "created"),
        ("root", "token", str(made.id), "created"),
        ("root", "user", "ada", "role"),
        ("root", "user", "ada", "disabled"),
        ("root", "token", str(made.id), "revoked"),
        ("root", "secret", "A", "created"),
        ("root", "secret", "A", "removed"),
        ("root", "secret", "*", "rekeyed"),
        ("server", "token", str(again.id), "created"),
    ]
    page = await identity.events(admin, EventFilter())
    assert not any(word in repr(page) for word in (PLAIN, made.token, again.token))


async def test_a_refused_change_leaves_none(identity: Identity, admin: Caller) -> None:
    ada = await sign_up(identity, admin, "ada")
    before = await history(identity, admin)
    for call in (
        lambda: identity.add_user(admin, "ada"),
        lambda: identity.add_user(ada, "eve"),
        lambda: identity.change_user(admin, "root", disabled=True),
        lambda: identity.set_secret(ada, "a b", PLAIN),
        lambda: identity.remove_secret(ada, "none"),
    ):
        with pytest.raises(IsthmusError):
            await call()
    assert await history(identity, admin) == before


async def test_people_see_the_history_of_what_is_theirs(identity: Identity, admin: Caller, db: Database) -> None:
    ada = await sign_up(identity, admin, "ada")
    bob = await sign_up(identity, admin, "bob")

    def run_a_job(c: Connection) -> int:
        new = jobs.insert().values(user_id=ada.user.id, state="QUEUED", spec="{}", submitted_at=1.0)
        job = int(c.execute(new.returning(jobs.c.id)).scalar_one())
        events.add(c, "supervisor", "job", job, "state", now=1.0, after="RUNNING", job_id=job)
        return job

    job = str(await db.write(run_a_job))
    assert await history(identity, ada) == [("supervisor", "job", job, "state")]
    assert await history(identity, bob) == []
    assert ("supervisor", "job", job, "state") in await history(identity, admin)


async def test_pages_of_the_history_follow_each_other(identity: Identity, admin: Caller, db: Database) -> None:
    for number in range(7):
        await db.write(events.add, "root", "job", number, "state", now=1.0)
    seen, after = [], 0
    while True:
        page = await identity.events(admin, EventFilter(noun="job", after=after, limit=3))
        seen += [event.noun_id for event in page.events]
        if page.next is None:
            break
        after = page.next
    assert seen == [str(number) for number in range(7)]
    newest = await identity.events(admin, EventFilter(noun="job", newest=True, limit=2))
    assert [event.noun_id for event in newest.events] == ["5", "6"]


async def test_who_follows_misses_nothing_and_sees_nothing_twice(
    identity: Identity, admin: Caller, db: Database
) -> None:
    async def write() -> None:
        for number in range(100):
            await db.write(events.add, "root", "job", number, "state", now=1.0)

    writing = asyncio.create_task(write())
    seen: list[str] = []
    async for event in identity.follow(admin, EventFilter(noun="job", limit=7)):
        seen.append(event.noun_id)
        if event.noun_id == "99":
            break
    assert seen == [str(number) for number in range(100)]
    await writing


async def test_who_follows_sees_no_more_once_the_token_is_revoked(identity: Identity, admin: Caller) -> None:
    ada = await sign_up(identity, admin, "ada")
    following = identity.follow(ada, EventFilter())
    waiting = asyncio.ensure_future(anext(following))
    await identity.revoke_token(admin, ada.token_id)
    with pytest.raises(Unauthenticated, match="revoked"):
        await asyncio.wait_for(waiting, 10)


async def test_events_never_change(db: Database, identity: Identity, admin: Caller) -> None:
    rows: Callable[[Connection], list[Any]] = lambda c: list(c.execute(select(events_table).order_by("id")))  # noqa: E731
    before = await db.read(rows)
    await identity.add_user(admin, "ada")
    await identity.change_user(admin, "ada", disabled=True)
    assert (await db.read(rows))[: len(before)] == before
