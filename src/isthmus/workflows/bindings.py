"""The binding file: which step goes where.

sites:                                  # optional: places that are not yet known as sites
  cluster: slurm+ssh://me@login.hpc.org/scratch/me?key=~/.ssh/id
otherwise: here                         # steps that are not named below; here is what is meant when it is left out
steps:
  prepare: here
  train: cluster                        # and all that is within it
  train/fit:
    sites: [cluster, gpu-box]
    resources: {gpus: 1, time: 2h}      # over what the step asks for
    options: {slurm: {qos: long}}
    env: {OMP_NUM_THREADS: 4}
  score:                                # by the values of its inputs
    - {when: {network: dense}, sites: gpu-box}
    - cluster
data:
  reads: cluster:/archive/me            # an input whose files lie there, below this folder, and not here
images:
  docker.io/python:3: python-sif        # what a step names -> a registered image
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.documents import Map, place_of
from isthmus.domain.errors import Invalid, nearest
from isthmus.domain.sites import SiteSpec
from isthmus.workflows.placing import ANYWHERE, HERE, Bindings, Choice, Lying, Target

FIELDS = ("sites", "otherwise", "steps", "data", "images")
TARGET = ("sites", "options", "env", "resources", "when")


def read(path: Path) -> Bindings:
    """The bindings in a file. Raises Invalid with the line."""
    node = documents.read(path)
    if not isinstance(node, Map):
        raise Invalid("It holds no bindings.", place=f"{path}:1", hint="Write it like `steps: {train: cluster}`.")
    _known(node, FIELDS)
    written = node.get("steps") or Map()
    decided = {
        name for name, each in written.items() if isinstance(each, list) and any(isinstance(one, Map) for one in each)
    }
    return Bindings(
        steps={name.strip("/"): _target(written, name, each) for name, each in written.items() if name not in decided},
        choices={name.strip("/"): _choices(written, name) for name in decided},
        sites={name: _site(node["sites"], name, each) for name, each in (node.get("sites") or {}).items()},
        data={name.strip("/"): _lying(node["data"], name, each) for name, each in (node.get("data") or {}).items()},
        images={name: str(each) for name, each in (node.get("images") or {}).items()},
        otherwise=_target(node, "otherwise", node.get("otherwise", HERE)),
    )


def _target(node: Any, name: str, value: Any) -> Target:
    place = place_of(node, name)
    if isinstance(value, str):
        return Target(sites=(value,), place=place)
    if isinstance(value, list):
        return Target(sites=tuple(str(each) for each in value), place=place)
    if isinstance(value, Map) and "when" in value and not isinstance(node[name], list):
        raise Invalid("`when` chooses among several: write a list.", place=place_of(value, "when"))
    if not isinstance(value, Map):
        raise Invalid("It names no site.", place=place, hint=f"Write a site's name, {HERE}, or {ANYWHERE}.")
    _known(value, TARGET)
    sites = value.get("sites", ANYWHERE)
    return Target(
        sites=tuple(str(each) for each in sites) if isinstance(sites, list) else (str(sites),),
        options=_map(value, "options"),
        env={key: str(each) for key, each in _map(value, "env").items()},
        resources=_map(value, "resources"),
        place=place,
    )


def _choices(node: Map, name: str) -> tuple[Choice, ...]:
    found = []
    for each in node[name]:
        when = _map(each, "when") if isinstance(each, Map) else {}
        found.append(Choice({key: str(value) for key, value in when.items()}, _target(node, name, each)))
    return tuple(found)


def _lying(node: Map, name: str, value: Any) -> Lying:
    site, _, folder = str(value).partition(":")
    if not site or not folder.startswith("/"):
        raise Invalid("It names no folder of a site.", place=place_of(node, name), hint="Write it like SITE:/folder.")
    return Lying(site=site, folder=folder, place=place_of(node, name))


def _map(node: Map, name: str) -> Mapping[str, Any]:
    value = node.get(name) or {}
    if not isinstance(value, Mapping):
        raise Invalid(f"`{name}` holds names and values.", place=place_of(node, name))
    return value


def _site(node: Map, name: str, value: Any) -> SiteSpec:
    from isthmus import codec
    from isthmus.client import addresses

    try:
        if isinstance(value, str):
            return addresses.read(name, value)
        return codec.read(SiteSpec, {"name": name, **value})
    except Invalid as error:
        raise Invalid(error.message, place=f"{place_of(node, name)}: {error.place}", hint=error.hint) from None


def _known(node: Map, names: tuple[str, ...]) -> None:
    for name in node:
        if name not in names:
            raise Invalid(f"There is no {name!r} here.", place=place_of(node, name), hint=nearest(name, names))
