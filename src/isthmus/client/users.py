"""`client.users`, `client.tokens` and `client.secrets`: who may use the control plane, and with what."""

import builtins
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from isthmus.client.connection import Connection
from isthmus.domain.users import Role, Scope
from isthmus.domain.views import CallerView, NewToken, SecretView, SignInLink, TokenView, UserView


class Users:
    """People who may use the control plane."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def me(self) -> CallerView:
        """Who the token belongs to, and what it may be used for."""
        return await self._connection.ask(CallerView, "GET", "/v1/whoami")

    async def list(self) -> builtins.list[UserView]:
        """All users, by name."""
        return await self._connection.ask(list[UserView], "GET", "/v1/users")

    async def get(self, name: str) -> UserView:
        """One user."""
        return await self._connection.ask(UserView, "GET", f"/v1/users/{quote(name, safe='')}")

    async def add(self, name: str, role: Role | str = Role.MEMBER) -> UserView:
        """Add a user."""
        body = {"name": name, "role": str(role)}
        return await self._connection.ask(UserView, "POST", "/v1/users", body=body, again=False)

    async def change(self, name: str, *, role: Role | str | None = None, disabled: bool | None = None) -> UserView:
        """Give a user another role; disable or enable them."""
        body = {"role": None if role is None else str(role), "disabled": disabled}
        return await self._connection.ask(UserView, "PUT", f"/v1/users/{quote(name, safe='')}", body=body)

    async def set_password(self, name: str, password: str) -> None:
        """Give oneself, or for admins another, a password for the panel."""
        path = f"/v1/users/{quote(name, safe='')}/password"
        await self._connection.ask(type(None), "PUT", path, body={"password": password})

    async def remove_password(self, name: str) -> None:
        """Take a password away."""
        await self._connection.ask(type(None), "DELETE", f"/v1/users/{quote(name, safe='')}/password", again=False)

    async def sign_in_link(self) -> SignInLink:
        """A link to the panel that signs a browser in once, soon, with the rights of this client's token."""
        return await self._connection.ask(SignInLink, "POST", "/v1/sign-in-links", again=False)


class Tokens:
    """Access tokens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self, *, user: str = "") -> builtins.list[TokenView]:
        """Your tokens; for admins another user's, or everybody's (``*``)."""
        return await self._connection.ask(list[TokenView], "GET", "/v1/tokens", query={"user": user})

    async def create(
        self,
        name: str,
        *,
        user: str = "",
        scopes: Sequence[Scope | str] = (),
        expires_at: datetime | None = None,
    ) -> NewToken:
        """Make a token. This answer is the only place where it can be read."""
        body = {
            "name": name,
            "user": user,
            "scopes": [str(scope) for scope in scopes],
            "expires_at": expires_at.isoformat() if expires_at else None,
        }
        return await self._connection.ask(NewToken, "POST", "/v1/tokens", body=body, again=False)

    async def revoke(self, token: int) -> TokenView:
        """Revoke a token: it is refused from now on."""
        return await self._connection.ask(TokenView, "DELETE", f"/v1/tokens/{token}")


class Secrets:
    """Credentials for jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> builtins.list[SecretView]:
        """Your secrets, without their values."""
        return await self._connection.ask(list[SecretView], "GET", "/v1/secrets")

    async def set(self, name: str, value: str) -> SecretView:
        """Keep a secret, or give it another value."""
        return await self._connection.ask(
            SecretView, "PUT", f"/v1/secrets/{quote(name, safe='')}", body={"value": value}
        )

    async def remove(self, name: str) -> None:
        """Forget a secret."""
        await self._connection.ask(type(None), "DELETE", f"/v1/secrets/{quote(name, safe='')}", again=False)
