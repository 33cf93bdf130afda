"""Roles and scopes."""

import itertools

import pytest

from isthmus.control.rights import owns, require
from isthmus.domain.errors import Forbidden
from isthmus.domain.users import Caller, Role, Scope, User


def caller(role: Role, *scopes: Scope) -> Caller:
    return Caller(user=User(id=7, name="ada", role=role), scopes=frozenset(scopes))


@pytest.mark.parametrize(("role", "wanted"), list(itertools.product(Role, Role)))
def test_roles_include_those_below(role: Role, wanted: Role) -> None:
    order = [Role.VIEWER, Role.MEMBER, Role.ADMIN]
    if order.index(role) >= order.index(wanted):
        require(caller(role, *Scope), wanted, Scope.READ)
    else:
        with pytest.raises(Forbidden, match=f"ada is an? {role.value}; only an? {wanted.value} may do this") as caught:
            require(caller(role, *Scope), wanted, Scope.READ)
        assert caught.value.code == "role"


@pytest.mark.parametrize(("scope", "wanted"), list(itertools.product(Scope, Scope)))
def test_a_scope_allows_itself_and_reading(scope: Scope, wanted: Scope) -> None:
    if wanted in (scope, Scope.READ):
        require(caller(Role.ADMIN, scope), Role.ADMIN, wanted)
    else:
        with pytest.raises(Forbidden, match=f"may not be used for '{wanted.value}'") as caught:
            require(caller(Role.ADMIN, scope), Role.ADMIN, wanted)
        assert caught.value.code == "scope"


def test_no_scope_allows_nothing() -> None:
    with pytest.raises(Forbidden, match="its scopes: none"):
        require(caller(Role.ADMIN), Role.VIEWER, Scope.READ)


def test_an_admins_scopes_bind_an_admin_too() -> None:
    with pytest.raises(Forbidden):
        require(caller(Role.ADMIN, Scope.ADMIN), Role.MEMBER, Scope.JOBS)


def test_things_are_their_owners_and_the_admins() -> None:
    assert owns(caller(Role.MEMBER, *Scope), 7)
    assert not owns(caller(Role.MEMBER, *Scope), 8)
    assert owns(caller(Role.ADMIN, *Scope), 8)
