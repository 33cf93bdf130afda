"""Two hundred scattered steps over SSH with latency, at two sites, ours beside StreamFlow's. Used by `bench/cwl.py`.

The sites are network namespaces, each behind a link that holds every frame back for 25 ms each way: root on Debian, see
tests/testbed.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
STEPS, ONE_WAY_MS, TIMEOUT_S = 200, 25.0, 900

WORKFLOW = """\
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {msg: "string[]"}
outputs: {out: {type: "File[]", outputSource: say/out}}
steps:
  say:
    scatter: msg
    in: {msg: msg}
    out: [out]
    run:
      class: CommandLineTool
      baseCommand: echo
      inputs: {msg: {type: string, inputBinding: {}}}
      outputs: {out: stdout}
      stdout: out.txt
"""


@contextlib.contextmanager
def sites() -> Iterator[list[tuple[str, int, str, str, str]]]:
    """Two hosts: address behind the slow link, port, user, host key, key file."""
    from tests.testbed.delay import DelayLink
    from tests.testbed.network import Network
    from tests.testbed.ssh import SshServer
    from tests.testbed.users import lease

    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(hosts=2))
        users = lease(2)
        found = []
        for host, user in zip(network.hosts, users, strict=True):
            server = stack.enter_context(SshServer([user], host=host))
            link = stack.enter_context(DelayLink(host, ONE_WAY_MS))
            found.append((link.address, server.port, user.name, server.host_key, str(server.key)))
        yield found


def ours(folder: Path, hosts: list[tuple[str, int, str, str, str]]) -> float:
    """Seconds of a whole run of ours, from a cold start: sites are probed, everything is sent there."""
    spec = {}
    for number, (address, port, user, host_key, key) in enumerate(hosts):
        hop = {"host": address, "port": port, "user": user, "host_key": host_key}
        spec[f"s{number}"] = {"kind": "ssh", "reach": {"hops": [hop], "key_file": key}}
    bindings = {"sites": spec, "steps": {"say": {"sites": list(spec)}}}
    (folder / "bindings.yaml").write_text(yaml.safe_dump(bindings))
    program = str(Path(sys.executable).with_name("isthmus"))
    env = {**os.environ, "ISTHMUS_DATA": str(folder / "data")}
    words = [program, "workflow", "run", "say.cwl", "in.json", "-b", "bindings.yaml", "--outdir", "ours", "--quiet"]
    return _seconds(words, folder, env)


def streamflow(program: Path, folder: Path, hosts: list[tuple[str, int, str, str, str]]) -> float:
    """Seconds of a whole run of StreamFlow's."""
    deployments = {}
    for number, (address, port, user, _, key) in enumerate(hosts):
        node = {"hostname": f"{address}:{port}", "username": user, "sshKey": key, "checkHostKey": False}
        deployments[f"s{number}"] = {"type": "ssh", "config": {"nodes": [node], "username": user}, "workdir": "/tmp"}
    targets = [{"deployment": name} for name in deployments]
    workflow = {
        "type": "cwl",
        "config": {"file": "say.cwl", "settings": "in.json"},
        "bindings": [{"step": "/say", "target": targets, "filters": ["shuffle"]}],
    }
    filters = {"shuffle": {"type": "shuffle", "config": {}}}
    described = {"workflows": {"say": workflow}, "deployments": deployments, "bindingFilters": filters}
    text = yaml.safe_dump({"version": "v1.0", **described})
    (folder / "streamflow.yml").write_text(text)
    env = {**os.environ, "HOME": str(folder)}
    return _seconds([str(program), "run", "streamflow.yml", "--outdir", "theirs", "--quiet"], folder, env)


def _seconds(words: list[str], folder: Path, env: dict[str, str]) -> float:
    began = time.monotonic()
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    took = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{Path(words[0]).name} failed with exit code {done.returncode}: {done.stderr[-2000:]}")
    return took


def measure(program: Path | None) -> tuple[float, float | None]:
    """Seconds of ours and, where its program is there, of StreamFlow's, over the same links in turn."""
    with sites() as hosts, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "say.cwl").write_text(WORKFLOW)
        (folder / "in.json").write_text(json.dumps({"msg": [f"m{number}" for number in range(STEPS)]}))
        mine = ours(folder, hosts)
        assert len(list((folder / "ours").iterdir())) == STEPS
        return mine, streamflow(program, folder, hosts) if program is not None else None
