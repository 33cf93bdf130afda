"""Sites written as one line: ``slurm+ssh://user@host:22/scratch/user?jump=user@gate&qos=long``.

    local:                          processes on the control plane's machine
    ssh://[user@]host[:port][/workdir]
    slurm:                          a SLURM whose commands the control plane's machine has
    slurm+ssh://…, gridengine+ssh://…

Words after ``?``: jump (several, the first is passed first), key, agent, python, zone, engine, workdir, api, setup
(several), and any other is a native option of the batch system. A workdir of ``/~/x`` is below the home folder.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from isthmus import codec
from isthmus.client import files
from isthmus.domain.errors import Invalid, nearest
from isthmus.domain.sites import Hop, SiteSpec

SCHEMES = ("local", "ssh", "slurm", "slurm+ssh", "gridengine", "gridengine+ssh")
_HOP = re.compile(r"^(?:(?P<user>[^@\s/]+)@)?(?P<host>\[[0-9A-Fa-f:]+\]|[^@:\s/]+)(?::(?P<port>\d+))?$")
_EXAMPLE = "Write it like slurm+ssh://user@host/scratch/user?jump=user@gate, ssh://host, local: or a YAML file."


def read(name: str, text: str) -> SiteSpec:
    """The site that a line or a YAML file says. Raises Invalid."""
    if not re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", text):
        path = Path(text)
        if path.exists() or path.suffix in (".yaml", ".yml", ".json"):
            return files.read(SiteSpec, path, name=name)
        raise Invalid(f"{text!r} is neither a URL nor a file.", place="URL", hint=_EXAMPLE)
    scheme, rest = text.split(":", 1)
    if scheme not in SCHEMES:
        raise Invalid(f"{scheme!r} is not a kind of site.", place="URL", hint=nearest(scheme, SCHEMES) or _EXAMPLE)
    return codec.read(SiteSpec, {"name": name, **_fields(scheme, rest, text)})


def _fields(scheme: str, rest: str, text: str) -> dict[str, Any]:
    kind, plus, _ = scheme.partition("+")
    remote = bool(plus) or kind == "ssh"
    parts = urlsplit("//" + rest.lstrip("/") if remote else rest)
    fields: dict[str, Any] = {"kind": kind}
    reach: dict[str, Any] = {"hops": []}
    if remote:
        if not parts.netloc:
            raise Invalid(f"{text!r} names no host.", place="URL", hint=_EXAMPLE)
        workdir = unquote(parts.path)
        if workdir.startswith("/~"):
            workdir = workdir[1:]
        if workdir not in ("", "/"):
            fields["workdir"] = workdir
    elif parts.path:
        fields["workdir"] = unquote(parts.path)
    for word, value in parse_qsl(parts.query, keep_blank_values=True):
        _take(fields, reach, word, value)
    if remote:
        reach["hops"].append(hop(parts.netloc))
        fields["reach"] = reach
    elif reach["hops"] or len(reach) > 1:
        raise Invalid("Only a site over SSH has jump hosts and keys.", place="URL", hint=_EXAMPLE)
    return fields


def _take(fields: dict[str, Any], reach: dict[str, Any], word: str, value: str) -> None:
    """Put one word of the query where it belongs."""
    match word:
        case "jump":
            reach["hops"].extend(hop(each) for each in value.split(",") if each)
        case "key":
            reach["key_file"] = value
        case "agent":
            reach["agent"] = value.lower() not in ("0", "false", "no")
        case "python" | "zone" | "engine" | "workdir":
            fields[word] = value
        case "api":
            fields["api_url"] = value
        case "setup":
            fields.setdefault("setup", []).append(value)
        case _:
            fields.setdefault("options", {})[word] = value


def hop(text: str) -> dict[str, Any]:
    """One machine on the way: ``user@host:port``. Raises Invalid."""
    match = _HOP.match(unquote(text))
    if not match:
        raise Invalid(f"{text!r} is not a machine.", place="URL", hint="Write it like user@host:22.")
    found: dict[str, Any] = {"host": match["host"].strip("[]")}
    if match["user"]:
        found["user"] = match["user"]
    if match["port"]:
        found["port"] = int(match["port"])
    codec.read(Hop, found)
    return found
