"""The rows of each noun, on every database."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from isthmus.db import (
    artefacts,
    credentials,
    events,
    instance,
    leases,
    logs,
    metrics,
    migrations,
    replicas,
    secrets,
    sites,
    tokens,
    users,
)
from isthmus.db import jobs as job_rows
from isthmus.db.engine import Database
from isthmus.db.notifications import SUPERVISOR
from isthmus.db.schema import attempts, jobs, log_chunks, metric_blocks, outputs
from isthmus.domain.artefacts import Artefact, ArtefactKind, ImageFormat, ReplicaState
from isthmus.domain.errors import Conflict, Invalid, NotFound
from isthmus.domain.sites import Health, SiteState
from isthmus.domain.users import Role, Scope, User

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@dataclass(frozen=True)
class Ground:
    """A user, another one, a site, and a live attempt of a job of the first user there."""

    ada: User
    bob: User
    site: int
    job: int
    attempt: int


@pytest.fixture
async def ground(db: Database) -> Ground:
    return await db.write(lay_ground)


def lay_ground(c: Connection) -> Ground:
    ada = users.create(c, "ada", Role.MEMBER, now=1.0)
    bob = users.create(c, "bob", Role.MEMBER, now=1.0)
    site = sites.add(c, "box", "{}", now=1.0)
    job, attempt = add_attempt(c, ada.id, site, "1.1-aaaa")
    return Ground(ada, bob, site, job, attempt)


def add_attempt(c: Connection, user: int, site: int, key: str, *, live: bool = True) -> tuple[int, int]:
    job = c.execute(
        jobs.insert().values(user_id=user, state="RUNNING", spec="{}", submitted_at=1.0).returning(jobs.c.id)
    ).scalar_one()
    values = {"key": key, "job_id": job, "number": 1, "site_id": site, "user_id": user, "live": live}
    values |= {"state": "RUNNING", "created_at": 1.0, "token_hash": "0" * 64}
    attempt = c.execute(attempts.insert().values(**values).returning(attempts.c.id)).scalar_one()
    return job, attempt


# ---- instance, users, tokens


async def test_the_instance_has_one_name_for_ever(db: Database) -> None:
    name = await db.write(instance.name, now=1.0)
    assert len(name) == 8
    assert int(name, 16) >= 0
    assert await db.write(instance.name, now=2.0) == name


async def test_users(db: Database) -> None:
    def write(c: Connection) -> None:
        users.create(c, "grace", Role.ADMIN, now=5.0)
        users.create(c, "ada", Role.MEMBER, now=6.0)
        users.set_role(c, users.get(c, "ada").id, Role.VIEWER)
        users.set_disabled(c, users.get(c, "grace").id, True)

    await db.write(write)
    ada, grace = await db.read(users.every)
    assert (ada.name, ada.role, ada.disabled) == ("ada", Role.VIEWER, False)
    assert (grace.name, grace.role, grace.disabled) == ("grace", Role.ADMIN, True)
    assert grace.created_at is not None
    assert grace.created_at.timestamp() == 5.0
    assert grace.created_at.tzinfo is not None
    assert await db.read(users.admins) == 0


async def test_a_user_that_is_not_there_is_told_with_the_nearest(db: Database) -> None:
    await db.write(users.create, "grace", Role.ADMIN, now=5.0)
    with pytest.raises(NotFound, match=r"no user 'grcae'. Did you mean 'grace'\?"):
        await db.read(users.get, "grcae")
    with pytest.raises(Conflict, match="There is a user 'grace' already"):
        await db.write(users.create, "grace", Role.MEMBER, now=6.0)


@pytest.mark.parametrize("name", ["", "a b", "-x", "é", "a/b", "x" * 101, "supervisor", "server", "a\n"])
async def test_bad_names_of_users_are_refused(db: Database, name: str) -> None:
    with pytest.raises(Invalid, match="not a user's name"):
        await db.write(users.create, name, Role.MEMBER, now=1.0)
    assert await db.read(users.every) == []


async def test_of_a_token_only_the_hash_is_kept(db: Database, ground: Ground) -> None:
    token_id, plain = await db.write(
        tokens.create, ground.ada.id, "laptop", [Scope.READ, Scope.JOBS], now=10.0, expires_at=99.0
    )
    assert plain.startswith("ist_")
    assert len(plain) == 4 + 43  # 256 bits in base64
    row = await db.read(tokens.find, plain)
    assert row is not None
    assert (row.id, row.user_name, row.role, row.expires_at) == (token_id, "ada", "member", 99.0)
    assert tokens.scopes_of(row) == {Scope.READ, Scope.JOBS}
    assert not any(plain in str(value) for value in row._mapping.values())
    assert await db.read(tokens.find, plain + "x") is None
    assert await db.read(tokens.find, row.hash) is None  # the hash is no token


async def test_tokens_are_random(db: Database, ground: Ground) -> None:
    def many(c: Connection) -> set[str]:
        return {tokens.create(c, ground.ada.id, "n", [Scope.READ], now=1.0)[1] for _ in range(100)}

    assert len(await db.write(many)) == 100


async def test_last_use_of_a_token_is_kept_to_the_minute(db: Database, ground: Ground) -> None:
    token_id, _ = await db.write(tokens.create, ground.ada.id, "laptop", [Scope.READ], now=10.0)
    for now, kept in ((100.0, 100.0), (130.0, 100.0), (159.0, 100.0), (161.0, 161.0)):
        await db.write(tokens.touch, token_id, now=now)
        row = await db.read(tokens.by_id, token_id)
        assert row is not None
        assert row.last_used_at == kept


async def test_a_revoked_token_stays_so_from_the_first_time(db: Database, ground: Ground) -> None:
    token_id, _ = await db.write(tokens.create, ground.ada.id, "laptop", [Scope.READ], now=10.0)
    await db.write(tokens.create, ground.bob.id, "desk", [Scope.READ], now=11.0)
    await db.write(tokens.revoke, token_id, now=20.0)
    await db.write(tokens.revoke, token_id, now=30.0)
    assert [row.revoked_at for row in await db.read(tokens.every)] == [20.0, None]
    assert [row.name for row in await db.read(tokens.every, ground.bob.id)] == ["desk"]


# ---- events


async def test_events_page_by_key_and_filter(db: Database, ground: Ground) -> None:
    def write(c: Connection) -> None:
        for number in range(10):
            job = ground.job if number % 2 else None
            actor = "supervisor" if number % 2 else "bob"
            noun = "job" if number % 2 else "site"
            events.add(c, actor, noun, number, "state", now=float(number), before="A", after="B", job_id=job)

    await db.write(write)

    async def ids(**which: Any) -> list[int]:
        return [int(event.noun_id) for event in await db.read(events.page, **which)]

    assert await ids() == list(range(10))
    first = await db.read(events.page, limit=4)
    assert await ids(after=first[-1].id, limit=4) == [4, 5, 6, 7]
    assert await ids(newest=True, limit=3) == [7, 8, 9]
    assert await ids(noun="job") == [1, 3, 5, 7, 9]
    assert await ids(noun="job", noun_id="3") == [3]
    assert await ids(job=ground.job, limit=2) == [1, 3]
    assert await ids(actor="bob", since=5.0) == [6, 8]
    assert await ids(visible_to=ground.ada) == [1, 3, 5, 7, 9]  # those of her job
    assert await ids(visible_to=ground.bob) == [0, 2, 4, 6, 8]  # what he did
    assert first[0].at.timestamp() == 0.0
    assert (first[1].before, first[1].after, first[1].job_id) == ("A", "B", ground.job)


async def test_events_are_told(db: Database, ground: Ground) -> None:
    with db.watch("events") as history, db.watch(f"job:{ground.job}") as job, db.watch("job:999") as other:
        await db.write(events.add, "ada", "job", ground.job, "killed", now=1.0, job_id=ground.job)
        assert history.is_set()
        assert job.is_set()
        assert not other.is_set()


# ---- sites and credentials


async def test_sites(db: Database) -> None:
    site = await db.write(sites.add, "gpu1", '{"name": "gpu1"}', now=1.0, inventory='{"host": "h"}', probed_at=1.0)
    await db.write(sites.add, "gpu2", "{}", now=2.0)
    row = await db.read(sites.get, "gpu1")
    assert (row.id, row.state, row.spec) == (site, SiteState.ENABLED.value, '{"name": "gpu1"}')
    assert (row.inventory, row.probed_at, row.attention) == ('{"host": "h"}', 1.0, True)
    with pytest.raises(NotFound, match=r"no site 'gpu'. Did you mean 'gpu2'\?"):
        await db.read(sites.get, "gpu")
    with pytest.raises(Conflict, match="There is a site 'gpu1' already"):
        await db.write(sites.add, "gpu1", "{}", now=3.0)


async def test_attention_for_a_site_is_taken_once_and_wakes(db: Database) -> None:
    with db.watch(SUPERVISOR) as news:
        site = await db.write(sites.add, "gpu1", "{}", now=1.0)
        assert news.is_set()
        assert [row.id for row in await db.write(sites.take_attention)] == [site]
        assert await db.write(sites.take_attention) == []
        news.clear()
        await db.write(sites.change, site, health=Health.UP.value)
        assert not news.is_set()
        await db.write(sites.change, site, state=SiteState.DRAINING.value, attention=True)
        assert news.is_set()
        row = (await db.write(sites.take_attention))[0]
        assert (row.health, row.state) == ("UP", "DRAINING")


async def test_a_removed_site_may_come_back_with_nothing_of_the_old_one(db: Database, ground: Ground) -> None:
    def write(c: Connection) -> None:
        credentials.put(c, ground.ada.id, ground.site, now=1.0, login="a")
        replicas.put(c, DIGEST, ground.site, ground.ada.id, state=ReplicaState.PRESENT)
        sites.change(c, ground.site, state=SiteState.REMOVED.value)

    await db.write(write)
    assert await db.read(sites.every) == []
    assert len(await db.read(sites.every, removed=True)) == 1
    with pytest.raises(NotFound):
        await db.read(sites.get, "box")
    assert await db.write(sites.add, "box", '{"kind": "ssh"}', now=2.0) == ground.site
    assert (await db.read(sites.get, "box")).spec == '{"kind": "ssh"}'
    assert await db.read(replicas.at_site, ground.site) == []
    assert await db.read(credentials.own, ground.ada.id, ground.site) is None


async def test_credentials_belong_to_a_user_at_a_site(db: Database, ground: Ground) -> None:
    def write(c: Connection) -> None:
        credentials.put(c, ground.bob.id, ground.site, now=1.0, login="team", ciphertext=b"\0\xff", shared=True)

    await db.write(write)
    assert await db.read(credentials.own, ground.ada.id, ground.site) is None
    await db.write(credentials.put, ground.ada.id, ground.site, now=2.0, login="ada", public_key="ssh-ed25519 A")
    listed = await db.read(credentials.at_site, ground.site)
    assert [(row.user_name, row.login, row.shared) for row in listed] == [("ada", "ada", False), ("bob", "team", True)]
    assert "ciphertext" not in listed[0]._mapping
    kept = await db.read(credentials.everything)
    assert [row.ciphertext for row in kept] == [b"\0\xff"]
    await db.write(credentials.replace, kept[0].id, b"new")
    await db.write(credentials.put, ground.ada.id, ground.site, now=3.0, login="ada2")  # in place of the old one
    own = await db.read(credentials.own, ground.ada.id, ground.site)
    assert own is not None
    assert (own.login, own.public_key) == ("ada2", "")


# ---- secrets


async def test_secrets_are_a_users_own(db: Database, ground: Ground) -> None:
    assert await db.write(secrets.put, ground.ada.id, "TOKEN", b"one", now=1.0)
    assert not await db.write(secrets.put, ground.ada.id, "TOKEN", b"two", now=2.0)
    assert await db.write(secrets.put, ground.bob.id, "TOKEN", b"bobs", now=3.0)
    assert await db.read(secrets.ciphertexts, ground.ada.id, ["TOKEN", "TOKEN"]) == {"TOKEN": b"two"}
    assert [(row.name, row.created_at) for row in await db.read(secrets.every, ground.ada.id)] == [("TOKEN", 2.0)]
    with pytest.raises(NotFound, match=r"no secret 'TOKNE'. Did you mean 'TOKEN'\?"):
        await db.read(secrets.ciphertexts, ground.ada.id, ["TOKEN", "TOKNE"])
    await db.write(secrets.remove, ground.ada.id, "TOKEN")
    with pytest.raises(NotFound, match="no secret 'TOKEN'"):
        await db.write(secrets.remove, ground.ada.id, "TOKEN")
    assert await db.read(secrets.ciphertexts, ground.bob.id, ["TOKEN"]) == {"TOKEN": b"bobs"}


# ---- artefacts and replicas


@pytest.fixture
def register(db: Database, ground: Ground) -> Callable[..., Any]:
    async def register(name: str, digest: str = DIGEST, kind: ArtefactKind = ArtefactKind.DATASET, **more: Any) -> Any:
        values = {"user_id": ground.ada.id, "now": 1.0, "size": 10, **more}
        return await db.write(artefacts.register, kind, name, digest=digest, **values)

    return register


async def test_versions_count_up_by_themselves(db: Database, register: Callable[..., Any]) -> None:
    one = await register("sp500", zones=("EU",), labels={"source": "x"}, description="prices", is_folder=True)
    assert one == Artefact(
        id=one.id,
        kind=ArtefactKind.DATASET,
        name="sp500",
        version="1",
        digest=DIGEST,
        size=one.size,
        is_folder=True,
        zones=("EU",),
        labels={"source": "x"},
        description="prices",
        owner="ada",
        created_at=one.created_at,
    )
    assert one.size == 10
    assert (await register("sp500", OTHER)).version == "2"
    assert (await register("sp500", OTHER, version="final")).version == "final"
    assert (await register("sp500", OTHER)).version == "3"
    assert [each.version for each in await db.read(artefacts.versions, ArtefactKind.DATASET, "sp500")] == [
        "3",
        "final",
        "2",
        "1",
    ]


async def test_names_resolve_to_the_newest_version(db: Database, register: Callable[..., Any]) -> None:
    await register("sp500")
    await register("sp500", OTHER)
    await register("sp500", kind=ArtefactKind.IMAGE, format=ImageFormat.SIF)
    resolve = artefacts.resolve
    assert (await db.read(resolve, ArtefactKind.DATASET, "sp500")).version == "2"
    assert (await db.read(resolve, ArtefactKind.DATASET, "sp500@1")).digest == DIGEST
    assert (await db.read(resolve, ArtefactKind.IMAGE, "sp500")).format is ImageFormat.SIF
    with pytest.raises(NotFound, match=r"no dataset 'sp50'. Did you mean 'sp500'\?"):
        await db.read(resolve, ArtefactKind.DATASET, "sp50")
    with pytest.raises(NotFound, match=r"no version '7' of dataset 'sp500'. There is: 1, 2."):
        await db.read(resolve, ArtefactKind.DATASET, "sp500@7")
    with pytest.raises(NotFound, match=r"no image 'x'. There is: sp500."):
        await db.read(resolve, ArtefactKind.IMAGE, "x")


async def test_a_version_never_changes_its_content(db: Database, register: Callable[..., Any]) -> None:
    one = await register("sp500", version="a")
    assert await register("sp500", version="a") == one
    with pytest.raises(Conflict, match="sp500@a stands for other content"):
        await register("sp500", OTHER, version="a")
    with pytest.raises(Conflict, match="exists with other zones"):
        await register("sp500", version="a", zones=("EU",))
    await db.write(artefacts.remove, one.id, now=2.0)
    with pytest.raises(NotFound):
        await db.read(artefacts.resolve, ArtefactKind.DATASET, "sp500@a")
    assert (await db.read(artefacts.by_id, one.id)).version == "a"
    with pytest.raises(Conflict, match="stands for other content"):
        await register("sp500", OTHER, version="a")
    assert (await register("sp500", version="a", zones=("EU",))).zones == ("EU",)  # back again


async def test_artefacts_page_by_key(db: Database, register: Callable[..., Any]) -> None:
    made = [await register(f"d{number % 3}_x", f"sha256:{number:064}") for number in range(9)]
    ids = [one.id for one in reversed(made)]
    kind = ArtefactKind.DATASET
    first = await db.read(artefacts.page, kind, limit=4)
    assert [one.id for one in first] == ids[:4]
    assert [one.id for one in await db.read(artefacts.page, kind, before=first[-1].id)] == ids[4:]
    assert [one.id for one in await db.read(artefacts.page, kind, newest_only=True)] == ids[:3]
    assert {one.name for one in await db.read(artefacts.page, kind, name="1_")} == {"d1_x"}
    assert await db.read(artefacts.page, kind, name="%") == []
    assert [one.name for one in await db.read(artefacts.of_digest, made[4].digest)] == ["d1_x"]


async def test_artefacts_are_found_by_label(db: Database, register: Callable[..., Any]) -> None:
    odd = 'a "b" $.c'
    await register("one", labels={"team": "x", odd.replace('"', ""): "1"})
    gone = await register("two", labels={"team": "x"})
    await register("three", labels={"team": "y"})
    await db.write(artefacts.remove, gone.id, now=2.0)

    async def found(*labels: tuple[str, str], **more: Any) -> list[str]:
        return [each.name for each in await db.read(artefacts.page, ArtefactKind.DATASET, labels=labels, **more)]

    assert await found(("team", "x")) == ["one"]
    assert await found(("team", "x"), removed=True) == ["two", "one"]
    assert await found(("team", "x"), ("team", "y")) == []
    assert await found(("a b $.c", "1")) == ["one"]
    assert await found(("nothing", "x")) == []


async def test_what_is_named_is_not_garbage(db: Database, ground: Ground, register: Callable[..., Any]) -> None:
    await register("one", "sha256:one")
    gone = await register("two", "sha256:two", kind=ArtefactKind.IMAGE)
    await db.write(artefacts.remove, gone.id, now=2.0)

    def leave_outputs(c: Connection) -> None:
        both = {"job_id": ground.job, "attempt_id": ground.attempt, "path": "p", "kind": "file", "size": 1}
        rows = [
            {**both, "digest": "sha256:home", "collected": True},
            {**both, "digest": "sha256:there", "collected": False},
        ]
        c.execute(outputs.insert(), rows)

    await db.write(leave_outputs)
    assert await db.read(artefacts.referenced) == {"sha256:one", "sha256:home"}
    assert await db.read(artefacts.of_kinds, [ArtefactKind.IMAGE]) == {"sha256:two"}


async def test_open_jobs_that_name_a_version_are_known(db: Database, ground: Ground) -> None:
    def submit(c: Connection) -> list[int]:
        spec = '{"image": "torch@1", "inputs": [{"dataset": "sp500@12", "path": "d"}]}'
        rows = [{"user_id": ground.ada.id, "state": s, "spec": spec, "submitted_at": 1.0} for s in ("QUEUED", "FAILED")]
        return [c.execute(jobs.insert().values(**row).returning(jobs.c.id)).scalar_one() for row in rows]

    waiting, _ = await db.write(submit)
    assert await db.read(artefacts.open_jobs_naming, "torch", "1") == [waiting]
    assert await db.read(artefacts.open_jobs_naming, "sp500", "12") == [waiting]
    for name, version in (("sp500", "1"), ("p500", "12"), ("sp50_", "12"), ("torch", "%")):
        assert await db.read(artefacts.open_jobs_naming, name, version) == []


async def test_replicas(db: Database, ground: Ground) -> None:
    this = (DIGEST, ground.site, ground.ada.id)
    await db.write(replicas.put, *this, state=ReplicaState.COMING, size=100, bytes_done=40)
    row = await db.read(replicas.get, *this)
    assert row is not None
    assert (row.state, row.bytes_done) == ("COMING", 40)
    await db.write(replicas.put, *this, state=ReplicaState.PRESENT, size=100, bytes_done=100, path="/c/x")
    row = await db.read(replicas.get, *this)
    assert row is not None
    assert (row.state, row.bytes_done, row.path) == ("PRESENT", 100, "/c/x")
    (listed,) = await db.read(replicas.of_digest, DIGEST)
    assert (listed.site_name, listed.user_name) == ("box", "ada")
    assert len(await db.read(replicas.at_site, ground.site)) == 1
    assert len(await db.read(replicas.at_site, ground.site, ground.bob.id)) == 0
    assert await db.read(replicas.others, DIGEST, ground.site, ground.bob.id)
    assert not await db.read(replicas.others, *this)
    await db.write(replicas.remove, *this)
    assert await db.read(replicas.get, *this) is None


async def test_what_live_attempts_need_is_known(db: Database, ground: Ground) -> None:
    def write(c: Connection) -> None:
        replicas.use(c, ground.attempt, [DIGEST])
        replicas.use(c, ground.attempt, [DIGEST, OTHER])  # may be said again
        _, ended = add_attempt(c, ground.ada.id, ground.site, "2.1-bbbb", live=False)
        replicas.use(c, ended, ["sha256:ended"])

    await db.write(write)
    assert await db.read(replicas.needed) == {DIGEST, OTHER}
    await db.write(lambda c: c.execute(update(attempts).values(live=False)))
    assert await db.read(replicas.needed) == set()


# ---- leases


async def test_a_lease_has_one_holder_until_it_runs_out(db: Database) -> None:
    first = await db.write(leases.acquire, "lead", "a", now=100.0, ttl_s=10.0)
    assert first == leases.Lease("lead", "a", 1, 110.0)
    assert await db.write(leases.acquire, "lead", "b", now=109.9, ttl_s=10.0) is None
    again = await db.write(leases.acquire, "lead", "a", now=105.0, ttl_s=10.0)
    assert again == leases.Lease("lead", "a", 1, 115.0)
    renewed = await db.write(leases.renew, again, now=112.0, ttl_s=10.0)
    assert renewed.expires_at == 122.0
    holder = await db.read(leases.holder, "lead", now=121.0)
    assert holder == renewed
    second = await db.write(leases.acquire, "lead", "b", now=122.0, ttl_s=10.0)
    assert second == leases.Lease("lead", "b", 2, 132.0)
    for stale in (lambda c: leases.check(c, renewed), lambda c: leases.renew(c, renewed, now=123.0, ttl_s=9.0)):
        with pytest.raises(Conflict, match="a no longer holds 'lead': b does"):
            await db.write(stale)
    await db.write(leases.check, second)


async def test_a_lease_that_was_let_go_is_free_at_once(db: Database) -> None:
    first = await db.write(leases.acquire, "lead", "a", now=100.0, ttl_s=10.0)
    assert first is not None
    await db.write(leases.release, first)
    assert await db.read(leases.holder, "lead", now=100.0) is None
    second = await db.write(leases.acquire, "lead", "b", now=100.0, ttl_s=10.0)
    assert second is not None
    assert second.token == 2
    await db.write(leases.release, first)  # not its own any more: silent
    assert await db.read(leases.holder, "lead", now=100.0) == second


async def test_who_takes_a_lease_again_after_it_ran_out_is_a_new_holder(db: Database) -> None:
    """A clock that jumped: what the old holder still has on its way must not be let in."""
    first = await db.write(leases.acquire, "lead", "a", now=100.0, ttl_s=10.0)
    second = await db.write(leases.acquire, "lead", "a", now=111.0, ttl_s=10.0)
    assert first is not None
    assert second is not None
    assert second.token == first.token + 1
    with pytest.raises(Conflict):
        await db.write(leases.check, first)


async def test_a_fenced_write_keeps_nothing(db: Database) -> None:
    first = await db.write(leases.acquire, "lead", "a", now=100.0, ttl_s=10.0)
    assert first is not None
    await db.write(leases.acquire, "lead", "b", now=200.0, ttl_s=10.0)

    def late(c: Connection) -> None:
        users.create(c, "ada", Role.MEMBER, now=1.0)
        leases.check(c, first)

    with pytest.raises(Conflict):
        await db.write(late)
    assert await db.read(users.every) == []


async def test_the_databases_clock_goes_on(db: Database) -> None:
    before = await db.read(leases.clock)
    assert 0 <= await db.read(leases.clock) - before < 60


# ---- metrics


def values(attempt: int, name: str, numbers: list[float | None]) -> list[dict[str, Any]]:
    return [
        {"attempt_id": attempt, "name": name, "step": float(step), "at": 100.0 + step, "value": number}
        for step, number in enumerate(numbers)
    ]


async def test_metrics_come_back_as_they_were(db: Database, ground: Ground) -> None:
    await db.write(metrics.insert, values(ground.attempt, "loss", [3.0, 1.0, None, 2.0]))
    await db.write(metrics.insert, values(ground.attempt, "acc", [0.5]))
    await db.write(metrics.insert, [])
    assert await db.read(metrics.names, ground.attempt) == ["acc", "loss"]
    found, count = await db.read(metrics.series, ground.attempt, "loss")
    assert count == 4
    assert [(value.step, value.at, value.value) for value in found] == [
        (0.0, 100.0, 3.0),
        (1.0, 101.0, 1.0),
        (2.0, 102.0, None),
        (3.0, 103.0, 2.0),
    ]
    after, left = await db.read(metrics.series, ground.attempt, "loss", after=found[1].id)
    assert (left, [value.value for value in after]) == (2, [None, 2.0])
    last = await db.read(metrics.last, ground.attempt)
    assert (last["loss"].value, last["acc"].value) == (2.0, 0.5)
    low = await db.read(metrics.best, ground.attempt, "loss")
    high = await db.read(metrics.best, ground.attempt, "loss", highest=True)
    assert low is not None
    assert high is not None
    assert (low.value, high.value) == (1.0, 3.0)
    assert await db.read(metrics.best, ground.attempt, "nothing") is None


async def test_thinned_metrics_keep_the_spikes(db: Database, ground: Ground) -> None:
    numbers: list[float | None] = [math.sin(number / 50) for number in range(5000)]
    numbers[1234], numbers[4321] = 9.0, -9.0
    await db.write(metrics.insert, values(ground.attempt, "loss", numbers))
    found, count = await db.read(metrics.series, ground.attempt, "loss", points=100)
    assert count == 5000
    assert len(found) <= 100
    kept = [value.value for value in found]
    assert (kept[0], kept[-1]) == (numbers[0], numbers[-1])
    assert 9.0 in kept
    assert -9.0 in kept
    assert [value.id for value in found] == sorted({value.id for value in found})


async def test_the_ends_of_a_series_are_those_of_all_its_values(db: Database, ground: Ground) -> None:
    numbers: list[float | None] = [math.sin(number / 50) for number in range(300)]
    numbers[5], numbers[6], numbers[299] = 9.0, None, None
    for begin in range(0, 300, 70):  # blocks are closed in between
        await db.write(metrics.insert, values(ground.attempt, "loss", numbers[begin : begin + 70]))
    await db.write(metrics.insert, values(ground.attempt, "few", [2.0, 1.0]))
    await db.write(metrics.insert, values(ground.attempt, "none", [None] * 40))
    finite = [number for number in numbers if number is not None]
    assert await db.read(metrics.ends, ground.attempt, "loss") == (None, min(finite), 9.0)
    assert await db.read(metrics.ends, ground.attempt, "few") == (1.0, 1.0, 2.0)
    assert await db.read(metrics.ends, ground.attempt, "none") == (None, None, None)
    assert await db.read(metrics.ends, ground.attempt, "nothing") is None


async def test_extremes_of_older_series_are_known_after_the_migration(db: Database, ground: Ground) -> None:
    await db.write(metrics.insert, values(ground.attempt, "loss", [float(n % 97) for n in range(400)]))
    await db.write(metrics.insert, values(ground.attempt, "none", [None] * 70))

    def blocks(conn: Connection) -> list[Any]:
        return [tuple(row) for row in conn.execute(select(metric_blocks).order_by("name", "first_id"))]

    before = await db.read(blocks)
    await db.write(migrations.downgrade, "0002_panel")
    await db.write(migrations.upgrade)
    assert await db.read(blocks) == before


# ---- jobs


async def test_pages_of_jobs_are_the_same_by_whichever_index(db: Database, ground: Ground) -> None:
    """Whatever is asked together, it is what a plain look at every row finds, the newest first."""
    states = ("QUEUED", "RUNNING", "COMPLETED", "FAILED")
    rows = [
        {
            "user_id": ground.bob.id if number % 3 else ground.ada.id,
            "name": f"job {number}",
            "state": states[number % 4],
            "spec": "{}",
            "submitted_at": 100.0 + number,
            "ended_at": 200.0 + number if number % 4 > 1 else None,
            "site_id": ground.site if number % 5 else None,
            "reason": "",
            "node": "",
        }
        for number in range(60)
    ]
    await db.write(job_rows.insert, rows)
    everything = await db.read(job_rows.page, limit=1000)
    for wanted in ((), ("FAILED",), ("QUEUED", "RUNNING"), ("COMPLETED", "FAILED"), states):
        for user in ("", "bob", "nobody"):
            for site in ("", "box", "nowhere"):
                found = await db.read(job_rows.page, states=wanted, user=user, site=site, limit=7)
                plain = [
                    row.id
                    for row in everything
                    if (not wanted or row.state in wanted)
                    and user in ("", row.user_name)
                    and site in ("", row.site_name)
                ]
                assert [row.id for row in found] == plain[:7], (wanted, user, site)
    counts = await db.read(job_rows.ended_counts, 210.0, user="bob")
    ended = [row for row in everything if row.ended_at and row.ended_at >= 210.0 and row.user_name == "bob"]
    assert counts == {state: sum(row.state == state for row in ended) for state in {row.state for row in ended}}
    last = await db.read(job_rows.ended_since, 210.0, states=["FAILED"], user="bob", limit=3)
    assert [row.id for row in last] == [row.id for row in ended if row.state == "FAILED"][:3]


# ---- logs


async def test_logs_take_what_is_new_and_no_gaps(db: Database, ground: Ground) -> None:
    append = logs.append
    assert await db.write(append, ground.attempt, 0, b"hello ") == 6
    assert await db.write(append, ground.attempt, 0, b"hello ") == 6  # known
    assert await db.write(append, ground.attempt, 3, b"lo world\n") == 12  # partly known
    assert await db.write(append, ground.attempt, 20, b"far away") == 12  # a gap
    assert await db.write(append, ground.attempt, 12, b"") == 12
    assert await db.read(logs.read, ground.attempt, 0, 100) == b"hello world\n"
    assert await db.read(logs.read, ground.attempt, 4, 4) == b"o wo"
    assert await db.read(logs.read, ground.attempt, 12, 10) == b""
    assert await db.read(logs.read, ground.attempt, 0, 0) == b""
    assert await db.read(logs.size, ground.attempt) == 12
    assert await db.read(logs.size, 999) == 0
    assert await db.read(logs.read, 999, 0, 10) == b""


async def test_a_large_log_lies_in_chunks(db: Database, ground: Ground) -> None:
    data = b"".join(b"%09d\n" % number for number in range(100_000))
    assert await db.write(logs.append, ground.attempt, 0, data) == len(data)
    statement = select(func.count(), func.max(log_chunks.c.size))
    count, largest = await db.read(lambda c: tuple(c.execute(statement).one()))
    assert count == math.ceil(len(data) / logs.CHUNK)
    assert largest == logs.CHUNK
    for offset, limit in ((0, len(data)), (logs.CHUNK - 5, 10), (logs.CHUNK, 1), (999_990, 100), (5, 3 * logs.CHUNK)):
        assert await db.read(logs.read, ground.attempt, offset, limit) == data[offset : offset + limit]


async def test_a_growing_log_is_told(db: Database, ground: Ground) -> None:
    with db.watch(logs.topic(ground.attempt)) as news:
        await db.write(logs.append, ground.attempt, 0, b"x")
        assert news.is_set()
        news.clear()
        await db.write(logs.append, ground.attempt, 0, b"x")
        assert not news.is_set()
