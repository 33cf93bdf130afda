"""Routes: whatever lies wherever, residency holds."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.data.requirements import Content
from isthmus.data.routes import Copy, Route, Target, Way, routes
from isthmus.domain.artefacts import may_be_in
from isthmus.domain.errors import Conflict
from tests.unit.data.conftest import Ground, digest_of, in_cache, needs

DIGEST = digest_of(b"x")
ZONES = st.sampled_from(["", "EU", "US", "CH"])
BOUND = st.frozensets(st.sampled_from(["EU", "US", "CH"]), max_size=2).map(lambda zones: tuple(sorted(zones)))
COPIES = st.builds(
    Copy,
    site_id=st.integers(1, 4),
    user_id=st.integers(1, 2),
    path=st.just("cache/x"),
    site=st.sampled_from(["a", "b", "c"]),
    zone=ZONES,
    shared_fs=st.sampled_from(["", "lustre"]),
    workdir=st.sampled_from(["", "/w"]),
)
TARGETS = st.builds(
    Target,
    site_id=st.integers(1, 4),
    user_id=st.integers(1, 2),
    site=st.sampled_from(["a", "b", "c"]),
    zone=ZONES,
    here=st.booleans(),
    shared_fs=st.sampled_from(["", "lustre"]),
)


def passed_through(route: Route, zone: str) -> set[str]:
    """The zones that bytes touch on the way, but for the target's."""
    if route.way is Way.SEND or (route.way is Way.LINK and route.copy is None):
        return {zone}
    if route.way is Way.FORWARD:
        assert route.copy is not None
        return {route.copy.zone, zone}
    if route.copy is not None:
        return {route.copy.zone}
    return set()


@given(bound=BOUND, target=TARGETS, copies=st.lists(COPIES, max_size=4), stored=st.booleans(), zone=ZONES)
def test_no_plan_breaks_zones(
    bound: tuple[str, ...], target: Target, copies: list[Copy], stored: bool, zone: str
) -> None:
    content = Content(label="dataset d", digest=DIGEST, size=1, zones=bound)
    try:
        ways = routes(content, target, copies=copies, stored=stored, zone=zone)
    except Conflict as refusal:
        assert refusal.code in ("residency", "missing")
        return
    assert may_be_in(bound, target.zone)
    assert ways
    for way in ways:
        assert all(may_be_in(bound, touched) for touched in passed_through(way, zone))


@given(target=TARGETS, copies=st.lists(COPIES, max_size=4), stored=st.booleans(), zone=ZONES)
def test_what_is_free_to_go_goes_when_there_is_any_copy(
    target: Target, copies: list[Copy], stored: bool, zone: str
) -> None:
    content = Content(label="dataset d", digest=DIGEST, size=1)
    if not copies and not stored:
        with pytest.raises(Conflict) as refusal:
            routes(content, target, copies=copies, stored=stored, zone=zone)
        assert refusal.value.code == "missing"
    else:
        assert routes(content, target, copies=copies, stored=stored, zone=zone)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bound=BOUND,
    zones=st.tuples(ZONES, ZONES, ZONES),
    stored=st.booleans(),
    at_origin=st.booleans(),
    control=ZONES,
    here=st.booleans(),
)
def test_no_transfer_breaks_zones(
    tmp_path_factory: pytest.TempPathFactory,
    bound: tuple[str, ...],
    zones: tuple[str, str, str],
    stored: bool,
    at_origin: bool,
    control: str,
    here: bool,
) -> None:
    """The same with everything put together: after any `ensure`, bytes lie and went only where they may."""
    asyncio.run(
        _transfer(
            tmp_path_factory.mktemp("z"), bound, zones, stored and may_be_in(bound, control), at_origin, control, here
        )
    )


async def _transfer(
    folder: Path,
    bound: tuple[str, ...],
    zones: tuple[str, str, str],
    stored: bool,
    at_origin: bool,
    control: str,
    here: bool,
) -> None:
    from isthmus.db import users
    from isthmus.db.engine import Database
    from isthmus.domain.users import Role

    db = await Database.open(f"sqlite:///{folder / 'i.db'}", durable=False)
    try:
        ground = Ground(db, folder, control)
        ground.user_id = (await db.write(users.create, "ada", Role.ADMIN, now=1.0)).id
        target = await ground.site("target", zones[0], here=here)
        origin = await ground.site("origin", zones[1])
        content = await ground.dataset(b"precious", stored=stored, zones=bound)
        if at_origin:
            await ground.put_at(origin, b"precious")
        try:
            await ground.staging.ensure(target, needs(content))
        except Conflict:
            assert in_cache(target, content.digest) is None
        else:
            assert may_be_in(bound, target.spec.zone)
        if in_cache(target, content.digest) is not None:
            assert may_be_in(bound, zones[0])
            if not stored:
                assert may_be_in(bound, control) and may_be_in(bound, zones[1])
        if ground.fakes["origin"].calls["get"]:
            assert may_be_in(bound, control), "its bytes went through the control plane"
    finally:
        await db.close()


def test_a_shared_disk_is_used_where_the_control_plane_may_not_forward() -> None:
    content = Content(label="dataset d", digest=DIGEST, size=1, zones=("EU",))
    target = Target(site_id=1, user_id=1, site="a", zone="EU", here=False, shared_fs="lustre")
    copy = Copy(site_id=2, user_id=1, path="cache/x", site="b", zone="EU", shared_fs="lustre", workdir="/w")
    assert routes(content, target, copies=[copy], stored=False, zone="US") == [Route(Way.LINK, copy)]


def test_why_it_can_not_be_brought_is_said_with_names() -> None:
    content = Content(label="dataset d", digest=DIGEST, size=1, zones=("EU",))
    target = Target(site_id=1, user_id=1, site="geneva", zone="EU", here=False)
    copy = Copy(site_id=2, user_id=1, path="cache/x", site="paris", zone="EU")
    with pytest.raises(Conflict, match=r"lies at paris and can't be brought to geneva.*control plane.*zone US"):
        routes(content, target, copies=[copy], stored=False, zone="US")
    elsewhere = Target(site_id=1, user_id=1, site="boston", zone="US", here=False)
    with pytest.raises(Conflict, match=r"may only be in EU; boston is in zone US"):
        routes(content, elsewhere, copies=[copy], stored=False, zone="EU")


def test_data_that_lies_at_the_site_is_used_there() -> None:
    content = Content(label="dataset d", digest=DIGEST, size=1, reference="paris:/data/d")
    target = Target(site_id=1, user_id=1, site="paris", zone="", here=False)
    assert routes(content, target, copies=[], stored=True, zone="")[0] == Route(Way.ADOPT, path="/data/d")
