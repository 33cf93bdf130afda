"""What a compute node has, found out by a short job: container engines, scratch space, whether it reaches the API.

Owns the script that looks, its run and the reading of what it prints; each batch system submits it in its own way.
"""

import os
import random
import re
import time

WAIT_S = 20.0  # for a node that is free; a busy site would keep a person waiting for ever
LOOK_S = 0.1

UNKNOWN = (
    "Which container engines the nodes have, and whether they reach the API, is not known yet: no node was free within "
    "%d s. The first job will tell." % WAIT_S
)

NO_WORKDIR = (
    "Which container engines the nodes have, and whether they reach the API, is not known yet: there is no work folder "
    "yet that they share. The first job will tell."
)

_SCRIPT = r"""
echo "isthmus-node: arch $(uname -m)"
[ -n "${USER:-}" ] || USER=$(id -un)
export USER  # ch-run needs it
for engine in apptainer singularity podman docker ch-run; do
    command -v "$engine" >/dev/null 2>&1 || continue
    if [ "$engine" = docker ]; then
        # A client alone is no engine: its server must let this user in.
        said=$(docker version --format "{{.Server.Version}}" 2>/dev/null </dev/null) || continue
    else
        said=$("$engine" --version 2>&1 </dev/null | tr '\n' ' ')
    fi
    echo "isthmus-node: engine $engine $said"
done
for name in SLURM_TMPDIR TMPDIR TMP LOCAL_SCRATCH SCRATCH; do
    eval "value=\${$name:-}"
    # A folder made for this job goes with it; the space that it lies in stays.
    case $value in *"${SLURM_JOB_ID:-${JOB_ID:-no job}}"*) value=${value%%/*} ;; esac
    if [ -n "$value" ] && [ -d "$value" ] && [ -w "$value" ]; then
        echo "isthmus-node: scratch $value"
        break
    fi
done
echo "isthmus-node: python $(%(python)s -V 2>&1 </dev/null | tr '\n' ' ')"
if [ -n "%(host)s" ]; then
    if %(python)s -c 'import socket; socket.create_connection(("%(host)s", %(port)d), 5).close()' >/dev/null 2>&1; then
        echo "isthmus-node: api yes"
    else
        echo "isthmus-node: api no"
    fi
fi
echo "isthmus-node: end"
"""

_ENGINES = {"ch-run": "charliecloud"}


def look(options, submit, cancel):
    """What a short job says of a node: ``(facts, notes)``, the fields of Inventory and what a person should know.

    ``submit(text, path, folder)`` hands over a script whose output goes to ``path``, from ``folder``, and returns
    ``(native id or None, what the batch system said)``. ``cancel(native_id)`` ends the job, whether or not it has run.
    """
    workdir = options.get("workdir")
    if not workdir or not os.path.isdir(workdir):
        return {}, [NO_WORKDIR]
    folder = os.path.join(workdir, "tmp")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, "probe-%08x" % random.SystemRandom().getrandbits(32))
    text = script(options.get("api_url", ""), options.get("setup") or (), options.get("python") or "python3")
    native_id, said = submit(text, path, folder)
    if native_id is None:
        return {}, ["No short job could be submitted to look at a node: %s" % said]
    try:
        facts = wait_for(path)
    finally:
        cancel(native_id)
        try:
            os.unlink(path)
        except OSError:
            pass
    if facts is None:
        return {}, [UNKNOWN]
    told = notes(facts)
    return facts, told


def script(api_url="", setup=(), python="python3"):
    """The text of a batch script that prints what `parse` reads. ``setup`` are the site's lines before every job."""
    match = re.match(r"^https?://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d+))?", api_url or "")
    host = match.group(1).strip("[]") if match else ""
    port = int(match.group(2) or (443 if api_url.startswith("https") else 80)) if match else 0
    if not re.match(r"^[\w./~+-]+$", python):
        python = "python3"
    body = _SCRIPT % {"host": host, "port": port, "python": python}
    lines = ["#!/bin/bash"]
    if setup:
        lines += ["type module >/dev/null 2>&1 || . /etc/profile"] + list(setup)  # as before every job
    return "\n".join(lines) + body


def parse(text):
    """``(facts, complete)``: the fields of Inventory that the script's output tells, and whether it told all."""
    facts: dict = {"engines": {}}
    complete = False
    for line in text.split("\n"):
        match = re.match(r"^isthmus-node: (\w+) ?(.*)$", line.strip())
        if not match:
            continue  # a profile's greeting
        word, rest = match.groups()
        if word == "engine":
            name, _, said = rest.partition(" ")
            version = re.search(r"\d+(?:\.\d+)+", said)
            facts["engines"][_ENGINES.get(name, name)] = version.group(0) if version else ""
        elif word == "scratch":
            facts["scratch"] = rest
        elif word == "api":
            facts["nodes_reach_api"] = rest == "yes"
        elif word == "arch":
            facts["architecture"] = rest
        elif word == "python":
            facts["node_python"] = rest.strip()
        elif word == "end":
            complete = True
    return facts, complete


def wait_for(path):
    """The facts in the job's output file, or None if they were not there, whole, within WAIT_S."""
    end = time.time() + WAIT_S
    while True:
        try:
            # Network file systems notice a new file by its folder.
            os.listdir(os.path.dirname(path))
            with open(path, encoding="utf-8", errors="replace") as file:
                facts, complete = parse(file.read())
            if complete:
                return facts
        except OSError:
            pass
        if time.time() > end:
            return None
        time.sleep(LOOK_S)


def notes(facts):
    """What a person should know of these facts; takes out what is no field of Inventory."""
    said = facts.pop("node_python", "")
    match = re.match(r"Python (\d+)\.(\d+)", said)
    if not match or (int(match.group(1)), int(match.group(2))) < (3, 6):
        return [
            "The nodes have no Python 3.6 or newer under that name (%s): set the site's python."
            % (said or "none found")
        ]
    return []
