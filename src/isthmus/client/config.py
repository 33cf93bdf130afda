"""Which server the client talks to, and by which token: ISTHMUS_* variables, or the file of `isthmus login`."""

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.domain.errors import Invalid, Unauthenticated, Unavailable, nearest
from isthmus.settings import config_home

FIELDS = ("url", "token", "ca", "certificate", "written_by")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One server, as a client sees it."""

    url: str
    token: str = ""
    ca: str = ""  # PEM of the authority that signed the server's certificate; "": the system's
    certificate: str = ""  # PEM of the one certificate that the server must show: pinned
    written_by: str = ""  # up, login: what `up` wrote it may replace
    source: str = ""  # where this was read, for people


def config_path(environment: Mapping[str, str] | None = None) -> Path:
    """The file that `isthmus login` writes."""
    return config_home(environment) / "config.toml"


def load(environment: Mapping[str, str] | None = None) -> Config:
    """The server to talk to. Raises Unavailable where none is named, Invalid where the file makes no sense."""
    env = os.environ if environment is None else environment
    path = config_path(env)
    if env.get("ISTHMUS_URL"):
        url = env["ISTHMUS_URL"].rstrip("/")
        kept = _read(path) if path.exists() else Config(url="")
        if kept.url != url:
            kept = Config(url=url)
        ca = pem(Path(env["ISTHMUS_CA"]), "ISTHMUS_CA") if env.get("ISTHMUS_CA") else kept.ca
        return replace(kept, token=env.get("ISTHMUS_TOKEN") or kept.token, ca=ca, source="ISTHMUS_URL")
    if not path.exists():
        raise Unavailable(
            "No server is known here.",
            hint="Start one with `isthmus up`, or name one with `isthmus login URL` or ISTHMUS_URL.",
            code="no-config",
        )
    kept = _read(path)
    if env.get("ISTHMUS_TOKEN"):
        return replace(kept, token=env["ISTHMUS_TOKEN"])
    return kept


def save(config: Config, environment: Mapping[str, str] | None = None) -> Path:
    """Keep the server for the next command, for the user's own eyes (0600). Replaces the file whole."""
    path = config_path(environment)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = ["# Written by `isthmus login` and `isthmus up`: the server that the command line talks to.\n"]
    lines += [f"{name} = {_quoted(getattr(config, name))}\n" for name in FIELDS if getattr(config, name)]
    part = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.writelines(lines)
    part.replace(path)
    return path


def _read(path: Path) -> Config:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}.", code="no-config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(
            f"This is not TOML: {error}.", place=str(path), hint="`isthmus login URL` writes it anew."
        ) from None
    for name, value in values.items():
        if name not in FIELDS:
            raise Invalid(f"There is no setting {name!r}.", place=str(path), hint=nearest(name, FIELDS))
        if not isinstance(value, str):
            raise Invalid(f"{name} is not a text.", place=str(path))
    if not values.get("url"):
        raise Invalid("It names no url.", place=str(path), hint="`isthmus login URL` writes it anew.")
    if values.get("token") and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Unauthenticated(
            f"{path} holds a token and others may read it.", hint=f"Run: chmod 600 {path}", code="config-not-private"
        )
    return Config(url=values.pop("url").rstrip("/"), **values, source=str(path))


def pem(path: Path, place: str) -> str:
    """The text of a certificate's file. Raises Invalid."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} can't be read: {error}.", place=place) from None


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
