"""Hybrid workflows on real sites: some steps here, some on a SLURM cluster behind SSH, files where they are made."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus import codec
from isthmus.domain.sites import SiteSpec
from tests.testbed import scratch
from tests.testbed.control import ControlPlane
from tests.testbed.sites import slurm_site, ssh_site
from tests.testbed.slurm import SlurmCluster
from tests.testbed.ssh import SshServer
from tests.testbed.waiting import wait_for

PROGRAM = Path(sys.executable).with_name("isthmus")

pytestmark = pytest.mark.system

HYBRID = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}, InlineJavascriptRequirement: {}}
inputs: {texts: "string[]", pause: string}
outputs:
  counts: {type: "int[]", outputSource: count/n}
  kept: {type: "File[]", outputSource: write/file}
  total: {type: int, outputSource: sum/total}
steps:
  write:
    scatter: text
    in: {text: texts, pause: pause}
    out: [file]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'sleep "$1"; echo "$0"; echo side > words.txt.idx']
      inputs: {text: {type: string, inputBinding: {position: 1}}, pause: {type: string, inputBinding: {position: 2}}}
      outputs: {file: {type: File, secondaryFiles: [.idx], outputBinding: {glob: words.txt}}}
      stdout: words.txt
  count:
    scatter: file
    in: {file: write/file}
    out: [n]
    run:
      class: CommandLineTool
      requirements:
        InitialWorkDirRequirement:
          listing: [{entryname: run.sh, entry: "test -e $(inputs.file.path).idx; wc -w < $(inputs.file.path)"}]
      baseCommand: [sh, -e, run.sh]
      inputs: {file: {type: File, secondaryFiles: [.idx]}}
      outputs:
        n: {type: int, outputBinding: {glob: n.txt, loadContents: true, outputEval: "$(parseInt(self[0].contents))"}}
      stdout: n.txt
  sum:
    in: {numbers: count/n}
    out: [total]
    run:
      class: ExpressionTool
      inputs: {numbers: "int[]"}
      outputs: {total: int}
      expression: "${ return {total: inputs.numbers.reduce(function(a, b) { return a + b; }, 0)}; }"
"""


class Desk:
    """A folder with the workflow, its bindings, and a data folder of its own."""

    def __init__(self, folder: Path, steps: dict[str, str], *sites: SiteSpec) -> None:
        self.folder = folder
        (folder / "hybrid.cwl").write_text(HYBRID)
        plain = {site.name: codec.to_plain(site, SiteSpec) for site in sites}
        for each in plain.values():
            each.pop("name")
        (folder / "bindings.yaml").write_text(yaml.safe_dump({"sites": plain, "steps": steps}))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [PROGRAM, "workflow", *words],
            cwd=self.folder,
            env={**os.environ, "ISTHMUS_DATA": str(self.folder / "data")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, texts: list[str], *words: str, pause: str = "0") -> Any:
        (self.folder / "in.json").write_text(json.dumps({"texts": texts, "pause": pause}))
        process = self.start("run", "hybrid.cwl", "in.json", "-b", "bindings.yaml", "--outdir", "out", *words)
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return json.loads(out)

    def tasks(self) -> dict[str, Any]:
        (run,) = (entry.name for entry in (self.folder / "data/workflows/runs").iterdir())
        out, said = self.start("show", run, "-o", "json").communicate(timeout=60)
        assert out, said
        return {task["task"]: task for task in json.loads(out)["tasks"]}


def test_steps_on_a_cluster_hand_files_on_without_a_copy(
    tmp_path: Path, slurm: SlurmCluster, slurm_login: SshServer
) -> None:
    desk = Desk(tmp_path, {"write": "cluster", "count": "cluster"}, slurm_site("cluster", slurm_login))
    found = desk.run(["a b c", "d"], "--trust-host-keys")
    assert found["counts"] == [3, 1] and found["total"] == 4
    assert [(tmp_path / "out" / each["basename"]).read_text() for each in found["kept"]] == ["a b c\n", "d\n"]
    assert all(each["secondaryFiles"] for each in found["kept"])
    tasks = desk.tasks()
    assert {name: task["place"] for name, task in tasks.items()} == {
        f"{step}[{number}]": "cluster" for step in ("write", "count") for number in (0, 1)
    }


def test_files_go_from_one_site_to_another_and_here(
    tmp_path: Path, slurm: SlurmCluster, slurm_login: SshServer, ssh_server: SshServer
) -> None:
    desk = Desk(
        tmp_path,
        {"write": "cluster", "count": "box"},
        slurm_site("cluster", slurm_login),
        ssh_site("box", ssh_server),
    )
    assert desk.run(["a b", "c d e"], "--trust-host-keys")["counts"] == [2, 3]
    assert {task["place"] for task in desk.tasks().values()} == {"cluster", "box"}


def test_a_new_driver_goes_on_with_the_jobs_of_a_killed_one(
    tmp_path: Path, slurm: SlurmCluster, slurm_login: SshServer
) -> None:
    desk = Desk(tmp_path, {"write": "cluster"}, slurm_site("cluster", slurm_login))
    (tmp_path / "in.json").write_text(json.dumps({"texts": ["a b", "c"], "pause": "10"}))
    process = desk.start("run", "hybrid.cwl", "in.json", "-b", "bindings.yaml", "--trust-host-keys", "--outdir", "out")
    wait_for(lambda: len(_jobs(slurm)) == 2, "both jobs to be at SLURM", deadline_s=150)
    process.kill()
    process.communicate(timeout=30)
    (run,) = (entry.name for entry in (tmp_path / "data/workflows/runs").iterdir())
    again = desk.start("resume", run)
    out, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert json.loads(out)["counts"] == [2, 1]
    jobs = {name: task["job"] for name, task in desk.tasks().items() if name.startswith("write")}
    assert sorted(jobs.values()) == [1, 2], "nothing was submitted again"


def _jobs(slurm: SlurmCluster) -> set[str]:
    """The ids of the workflow's jobs that the cluster knows of."""
    done = subprocess.run(
        ["squeue", "-h", "-t", "PENDING,RUNNING", "-o", "%i %j"],
        env=slurm.env(),
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.split()[0] for line in done.stdout.splitlines() if line.strip()}


def test_an_interrupt_ends_the_jobs_at_sites_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    desk = Desk(tmp_path, {"write": "local"})
    text = HYBRID.replace('\'sleep "$1"; echo "$0";', f'\'echo $$ > {pid}; sleep 1000; echo "$0";')
    assert text != HYBRID
    (tmp_path / "hybrid.cwl").write_text(text)
    (tmp_path / "in.json").write_text(json.dumps({"texts": ["a"], "pause": "0"}))
    process = desk.start("run", "hybrid.cwl", "in.json", "-b", "bindings.yaml", "--outdir", "out")
    wait_for(lambda: pid.exists() and pid.read_text().strip(), "the step to run", deadline_s=120)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not Path(f"/proc/{pid.read_text().strip()}").exists(), "it has ended before the driver has"


def test_a_job_of_a_server_drives_a_run_and_another_attempt_goes_on_with_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"write": "local"})
    (tmp_path / "in.json").write_text(json.dumps({"texts": ["a b", "c", "d e f"], "pause": "3"}))
    with ControlPlane(tmp_path / "plane") as plane, plane.client() as client:
        env = {**os.environ, "ISTHMUS_URL": plane.url, "ISTHMUS_TOKEN": plane.token}
        told = subprocess.run(
            [PROGRAM, "workflow", "submit", "hybrid.cwl", "in.json", "-b", "bindings.yaml"],
            cwd=desk.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        job = int(told.stdout)
        wait_for(lambda: client.jobs.list(label={"isthmus.task": "write[0]"}).jobs, "steps to be jobs", deadline_s=60)
        pid = _driver(job)
        os.kill(pid, signal.SIGKILL)
        ended = client.jobs.wait(job, timeout_s=120)
        assert ended.state.value == "COMPLETED" and ended.attempts == 2
        client.jobs.download(job, "out", tmp_path / "out")
        found = json.loads((tmp_path / "out/outputs.json").read_text())
        assert found["counts"] == [2, 1, 3] and found["total"] == 6
        writes = [each for each in client.jobs.list(limit=500).jobs if each.name.startswith("w/write")]
        assert len(writes) == 3, "the new attempt went on with the jobs of the first"
        assert client.secrets.list() == [], "what the run spoke with has gone"
        assert all(each.revoked_at for each in client.tokens.list() if each.name.startswith("workflow-"))


def _driver(job: int) -> int:
    """The process that drives the run."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"isthmus.cli.drive" in words and f"ISTHMUS_JOB_ID={job}\0".encode() in environment:
            return int(entry.name)
    raise AssertionError("no process drives it")


ODD = """
cwlVersion: v1.2
class: Workflow
requirements: {InlineJavascriptRequirement: {}}
inputs: {word: string}
outputs:
  code: {type: int, outputSource: odd/code}
  names: {type: "string[]", outputSource: odd/names}
  grown: {type: File, outputSource: grow/grown}
steps:
  odd:
    in: {word: word}
    out: [code, names, folder, text]
    run:
      class: CommandLineTool
      successCodes: [3]
      baseCommand: [sh, -c, 'mkdir -p made/deep; echo "$0" > made/b; echo b > made/deep/c; echo "$0" > text; exit 3']
      inputs: {word: {type: string, inputBinding: {}}}
      outputs:
        code: {type: int, outputBinding: {glob: text, outputEval: $(runtime.exitCode)}}
        names:
          type: string[]
          outputBinding:
            glob: made
            loadListing: deep_listing
            outputEval: |
              ${ function all(each) { return each.listing ? [].concat(...each.listing.map(all)) : [each.basename]; }
                 return all(self[0]).sort(); }
        folder: {type: Directory, outputBinding: {glob: made}}
        text: {type: File, outputBinding: {glob: text}}
  grow:
    in: {file: odd/text, folder: odd/folder}
    out: [grown]
    run:
      class: CommandLineTool
      requirements:
        InplaceUpdateRequirement: {inplaceUpdate: true}
        LoadListingRequirement: {loadListing: shallow_listing}
        InitialWorkDirRequirement: {listing: [{entry: $(inputs.file), entryname: grown.txt, writable: true}]}
      baseCommand: [sh, -c, 'echo "$0" >> grown.txt']
      arguments: [$(inputs.folder.listing.length)]
      inputs: {file: File, folder: Directory}
      outputs: {grown: {type: File, outputBinding: {glob: grown.txt}}}
"""


def test_exit_codes_listings_and_changes_in_place_at_a_site(tmp_path: Path, ssh_server: SshServer) -> None:
    desk = Desk(tmp_path, {"odd": "box", "grow": "box"}, ssh_site("box", ssh_server))
    (tmp_path / "odd.cwl").write_text(ODD)
    process = desk.start("run", "odd.cwl", "-b", "bindings.yaml", "--outdir", "out", "--word", "hello")
    out, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    found = json.loads(out)
    assert found["code"] == 3
    assert found["names"] == ["b", "c"]
    assert (tmp_path / "out/grown.txt").read_text() == "hello\n2\n"


SECRET = """
cwlVersion: v1.2
$namespaces: {cwltool: "http://commonwl.org/cwltool#"}
class: CommandLineTool
requirements:
  cwltool:Secrets: {secrets: [pw]}
  EnvVarRequirement: {envDef: {PASSWORD: $(inputs.pw)}}
  InitialWorkDirRequirement: {listing: [{entryname: login.txt, entry: "user me pass $(inputs.pw)"}]}
baseCommand: [sh, -c, 'printf %s "$PASSWORD" | wc -c; wc -w < login.txt; [ "$0" = 0 ] || cat login.txt >&2; exit "$0"']
inputs: {pw: string, code: {type: int, inputBinding: {}}}
outputs: {counts: stdout}
stdout: counts.txt
"""


@pytest.mark.parametrize("where", ["here", "box"])
def test_a_secret_input_reaches_its_step_and_is_seen_nowhere_else(
    tmp_path: Path, ssh_server: SshServer, where: str
) -> None:
    word = "hunter2-" + os.urandom(6).hex()
    for name, code in (("fails", 5), ("works", 0)):
        (tmp_path / name).mkdir()
        desk = Desk(tmp_path / name, {"secret.cwl": where}, ssh_site("box", ssh_server))
        (desk.folder / "secret.cwl").write_text(SECRET)
        (desk.folder / "in.json").write_text(json.dumps({"pw": word, "code": code}))
        process = desk.start("run", "secret.cwl", "in.json", "-b", "bindings.yaml", "--outdir", "out")
        out, said = process.communicate(timeout=200)
        assert process.returncode == (1 if code else 0), said
        runs = desk.folder / "data/workflows/runs"
        (run,) = (entry.name for entry in runs.iterdir())
        desk.start("crate", run, "--to", "crate").communicate(timeout=60)
        if code:
            assert "user me pass (secret)" in said and word not in said
            assert word in (runs / run / "secrets.json").read_text(), "a failed run may go on"
        else:
            assert Path(json.loads(out)["counts"]["path"]).read_text().split() == [str(len(word)), "4"]
            assert not (runs / run / "secrets.json").exists()
        # What the step itself says at a site is in the job's log, which the control plane keeps as it is.
        books = "isthmus.db*" if not code else "run.db*"
        shown = [*desk.folder.rglob(books), *desk.folder.rglob("run.db*"), *desk.folder.rglob("results.db*")]
        shown += [*(desk.folder / "crate").rglob("*"), *(desk.folder / "out").rglob("*")]
        for path in shown:
            assert not path.is_file() or word.encode() not in path.read_bytes(), path


BOTH = """
cwlVersion: v1.2
class: Workflow
inputs: {words: File}
outputs: {there: {type: File, outputSource: there/out}, here: {type: File, outputSource: here/out}}
steps:
  there: &cat
    in: {words: words}
    out: [out]
    run:
      class: CommandLineTool
      baseCommand: [wc, -w]
      inputs: {words: {type: File, inputBinding: {}}}
      outputs: {out: stdout}
      stdout: count.txt
  here: *cat
"""


def test_registered_data_is_an_input_there_and_here(tmp_path: Path) -> None:
    (tmp_path / "both.cwl").write_text(BOTH)
    (tmp_path / "words").write_text("one two three\n")
    given = {"class": "File", "location": "dataset:words@1", "basename": "words.txt"}
    (tmp_path / "in.json").write_text(json.dumps({"words": given}))
    (tmp_path / "bindings.yaml").write_text("steps: {there: local}\n")
    with ControlPlane(tmp_path / "plane") as plane, plane.client() as client:
        client.datasets.register("words", tmp_path / "words", version="1")
        done = subprocess.run(
            [PROGRAM, "workflow", "run", "both.cwl", "in.json", "-b", "bindings.yaml", "--server", "--outdir", "out"],
            cwd=tmp_path,
            env={**os.environ, "ISTHMUS_URL": plane.url, "ISTHMUS_TOKEN": plane.token, "ISTHMUS_DATA": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    counts = [Path(each["path"]).read_text() for each in json.loads(done.stdout).values()]
    assert [count.split()[0] for count in counts] == ["3", "3"]
    assert all(count.split()[1].endswith("/words.txt") for count in counts)


PORTS = """
version: v1.0
workflows:
  both:
    type: cwl
    config: {file: both.cwl, settings: in.json}
    bindings:
      - step: /there
        target: {deployment: box}
      - port: /words
        target: {deployment: box, workdir: ARCHIVE}
deployments:
  box:
    type: ssh
    config:
      nodes: ["HOST"]
      username: USER
      sshKey: KEY
"""


def test_a_streamflow_port_binding_takes_a_file_from_where_it_lies(tmp_path: Path, ssh_server: SshServer) -> None:
    archive = scratch.folder("archive")
    archive.chmod(0o755)
    (archive / "words.txt").write_text("one two three\n")
    (tmp_path / "both.cwl").write_text(BOTH)
    (tmp_path / "in.json").write_text(json.dumps({"words": {"class": "File", "path": "words.txt"}}))
    text = PORTS.replace("ARCHIVE", str(archive)).replace("HOST", f"{ssh_server.host}:{ssh_server.port}")
    text = text.replace("USER", ssh_server.user.name).replace("KEY", str(ssh_server.key))
    (tmp_path / "streamflow.yml").write_text(text)

    def isthmus(*words: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "ISTHMUS_DATA": str(tmp_path / "data")}
        words = ("workflow", *words)
        return subprocess.run(
            [PROGRAM, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200, check=False
        )

    said = [json.loads(isthmus("plan", "streamflow.yml", "-o", "json").stdout)]
    moves = {row["step"]: row["moves"] for row in said[0]}
    assert moves == {"there": [], "here": [f"words from box:{archive}"]}
    done = isthmus("run", "streamflow.yml", "--trust-host-keys", "--outdir", "out")
    assert done.returncode == 0, done.stderr
    counts = [Path(each["path"]).read_text() for each in json.loads(done.stdout).values()]
    assert [count.split()[0] for count in counts] == ["3", "3"]
    again = isthmus("run", "streamflow.yml", "--trust-host-keys", "--outdir", "out")
    assert again.returncode == 0 and "2 reused" in again.stderr, again.stderr
    (archive / "words.txt").write_text("one two three four\n")
    changed = isthmus("run", "streamflow.yml", "--trust-host-keys", "--outdir", "out")
    assert changed.returncode == 0, changed.stderr
    assert all(Path(each["path"]).read_text().split()[0] == "4" for each in json.loads(changed.stdout).values())
    (archive / "words.txt").unlink()
    gone = isthmus("run", "streamflow.yml", "--trust-host-keys", "--outdir", "out")
    assert gone.returncode == 3 and str(archive / "words.txt") in gone.stderr and "Traceback" not in gone.stderr
