"""Rights: what a caller may do, by the user's role and the token's scopes."""

from isthmus.domain.errors import Forbidden
from isthmus.domain.users import Caller, Role, Scope

_ARTICLE = {Role.VIEWER: "a viewer", Role.MEMBER: "a member", Role.ADMIN: "an admin"}


def require(caller: Caller, role: Role, scope: Scope) -> None:
    """Raise Forbidden unless the caller's user has at least this role and the caller's token this scope.

    Reading goes with every scope: a token that may start jobs may also look at them.
    """
    if not caller.user.role.includes(role):
        raise Forbidden(
            f"{caller.user.name} is {_ARTICLE[caller.user.role]}; only {_ARTICLE[role]} may do this.",
            hint="An admin can do it for you, or give you the role.",
            code="role",
        )
    if scope not in caller.scopes and not (scope is Scope.READ and caller.scopes):
        have = ", ".join(sorted(one.value for one in caller.scopes)) or "none"
        raise Forbidden(
            f"This token may not be used for {scope.value!r} (its scopes: {have}).",
            hint=f"Use a token with the scope {scope.value}.",
            code="scope",
        )


def owns(caller: Caller, user_id: int) -> bool:
    """Whether a thing of this user is the caller's to change: their own, or anybody's for an admin."""
    return caller.user.id == user_id or caller.user.role is Role.ADMIN
