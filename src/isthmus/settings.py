"""What one control plane process is told: where its data lies, what it listens on, which database it uses.

Words of the command line come first, then ISTHMUS_* variables, then these defaults, which need no root and no set-up.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from isthmus.domain.errors import Invalid

DEFAULT_LISTEN = "127.0.0.1:8470"


def data_home(environment: Mapping[str, str] | None = None) -> Path:
    """The folder for an application's data, by the XDG base directory specification, or ISTHMUS_DATA."""
    env = os.environ if environment is None else environment
    if env.get("ISTHMUS_DATA"):
        return Path(env["ISTHMUS_DATA"])
    return _xdg(env, "XDG_DATA_HOME", ".local/share") / "isthmus"


def config_home(environment: Mapping[str, str] | None = None) -> Path:
    """The folder for the command line's own configuration, or ISTHMUS_CONFIG."""
    env = os.environ if environment is None else environment
    if env.get("ISTHMUS_CONFIG"):
        return Path(env["ISTHMUS_CONFIG"])
    return _xdg(env, "XDG_CONFIG_HOME", ".config") / "isthmus"


def _xdg(env: Mapping[str, str], name: str, default: str) -> Path:
    given = env.get(name, "")
    if given.startswith("/"):  # the specification: a relative path is to be ignored
        return Path(given)
    return Path(env.get("HOME") or Path.home()) / default


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One process of the control plane."""

    data: Path = field(default_factory=data_home)
    database: str = ""  # "": SQLite in the data folder
    host: str = "127.0.0.1"
    port: int = 8470
    port_is_fixed: bool = False  # else the next free one is taken when it is in use
    tls: Literal["", "self-signed"] = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    public_url: str = ""  # how others reach this server, when not by host and port: behind a proxy, say
    openid: str = ""  # the issuer of an OpenID provider through which people sign in to the panel
    openid_client: str = ""  # our client id there
    openid_secret: str = field(default="", repr=False)
    openid_claim: str = ""  # which claim is a user's name here; "": preferred_username
    openid_role: str = ""  # of people who are new here; "": member; none: they are refused
    openid_label: str = ""  # what the button says; "": the issuer's host
    supervisor: bool = True
    local_site: bool = True  # add the site "local" at the first start
    store: str = ""  # s3://bucket/prefix; "": a folder in the data folder
    zone: str = ""  # residency: where this server's own store lies
    max_body: int = 32 * 1024 * 1024  # bytes of a JSON body; uploads have their own way
    max_chunk: int = 64 * 1024 * 1024  # bytes of one piece of an upload

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data / 'isthmus.db'}"

    @property
    def https(self) -> bool:
        return bool(self.tls or self.tls_cert)

    @property
    def url(self) -> str:
        """How others reach this server."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"http{'s' if self.https else ''}://{host}:{self.port}"


def listen_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[::1]:PORT`` or ``:PORT``. Raises Invalid."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise Invalid(
            f"{text!r} is not an address to listen on.", place="--listen", hint="Write it like 127.0.0.1:8470."
        )
    return host.strip("[]") or "127.0.0.1", int(port)
