"""CWL runs on this machine beside other runners of CWL, each in a virtual environment of its own.

    bench/cwl.py [CASE…]      echo1_cpu_s echo1_wall_s scatter1000_cpu_ms_per_step scatter1000_wall_s
                              scatter10000_cpu_ms_per_step scatter10000_wall_s scatter10000_peak_mb
                              chain50_ms_per_step big_s remote_scatter_ratio

Prints JSON lines, one a case and peer. CPU is that of the whole run, its steps included; a step's is that of a run of
many less that of one. Peers are installed into .bench-peers/NAME where they can be had: cwltool, streamflow, toil.
Toil's share of scatter1000 is measured on 100 steps (`peer_steps`); Toil and cwltool are left out of scatter10000,
which cwltool has not done after 900 s. remote_scatter_ratio: see bench/cwl_remote.py; beside
StreamFlow alone. ISTHMUS_BENCH_PEERS= (empty) leaves peers out. On a machine that others use, `chrt -r 10 bench/cwl.py`
(root) gives nearly quiet figures.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = {"cwltool": "cwltool", "streamflow": "streamflow==0.2.0rc3", "toil": "toil[cwl]"}
PROGRAMS = {"cwltool": "cwltool", "streamflow": "cwl-runner", "toil": "toil-cwl-runner"}
REMOTE = "remote_scatter_ratio"
TIMEOUT_S = 900

ECHO = """\
class: CommandLineTool
baseCommand: echo
inputs:
  msg: {type: string, inputBinding: {}}
outputs:
  out: stdout
stdout: out.txt
"""
CAT = """\
class: CommandLineTool
baseCommand: cat
inputs:
  f: {type: File, inputBinding: {}}
outputs:
  out: stdout
stdout: out.txt
"""


@dataclass(frozen=True)
class Took:
    """What one run used."""

    wall_s: float
    cpu_s: float
    peak_mb: float


class Runner:
    """A runner of CWL: a command that takes a process, inputs and a scratch folder. ``most``: steps it is given."""

    def __init__(self, name: str, command: Callable[[str, str, str], list[str]], *, most: int = 10_000) -> None:
        self.name = name
        self.most = most
        self._command = command
        self._known: dict[Path, list[Took]] = {}

    def runs(self, process: Path, inputs: Path, times: int) -> list[Took]:
        """What so many runs took; earlier ones of the same process count."""
        known = self._known.setdefault(process, [])
        while len(known) < times:
            known.append(self._run(process, inputs))
        return known[:times]

    def _run(self, process: Path, inputs: Path) -> Took:
        with tempfile.TemporaryDirectory() as folder:
            words = self._command(str(process), str(inputs), folder)
            # A process of its own in between: what its children used is then this run's alone.
            script = (
                "import json, resource, subprocess, sys, time; began = time.monotonic();"
                "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode;"
                "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
                "print(json.dumps([code, time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss]))"
            )
            ran = subprocess.Popen(
                [sys.executable, "-c", script, *words],
                cwd=folder,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={
                    **os.environ,
                    "TMPDIR": folder,
                    "ISTHMUS_DATA": f"{folder}/data",
                    "PATH": f"{Path(words[0]).parent}:{os.environ['PATH']}",  # Toil looks for programs beside its own
                },
            )
            try:
                said, _ = ran.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{self.name} was not done after {TIMEOUT_S} s") from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(ran.pid, signal.SIGKILL)
        code, wall, cpu, peak = json.loads(said)
        if code:
            raise RuntimeError(f"{self.name} failed with exit code {code}")
        return Took(wall, cpu, peak / 1024)


def ours() -> Runner:
    program = str(Path(sys.executable).with_name("cwl-runner"))
    return Runner("isthmus", lambda process, inputs, out: [program, "--quiet", process, inputs])


def peers() -> list[Runner]:
    wanted = os.environ.get("ISTHMUS_BENCH_PEERS", " ".join(PEERS)).split()
    return [runner for name in wanted if (runner := peer(name)) is not None]


def peer(name: str) -> Runner | None:
    """A peer, installed if need be; None where it can't be."""
    folder = ROOT / ".bench-peers" / name
    program = str(folder / "bin" / PROGRAMS[name])
    if not os.path.exists(program):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        # Wheels before sources: a newer release of what a peer needs may exist as a source alone, and not build here.
        pip = [
            str(folder / "bin/python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--prefer-binary",
        ]
        if subprocess.run([*pip, PEERS[name]], stderr=subprocess.DEVNULL, check=False).returncode:
            print(f"{name} can't be installed here", file=sys.stderr)
            return None
    if name == "cwltool":
        command = [program, "--parallel", "--quiet"]
        return Runner(name, lambda process, inputs, out: [*command, process, inputs], most=1000)
    if name == "toil":
        quiet = ["--disableProgress", "--logOff"]
        return Runner(
            name,
            lambda process, inputs, out: [
                *(program, "--jobStore", f"{out}/store", "--outdir", out, *quiet, process, inputs)
            ],
            most=100,
        )
    return Runner(name, lambda process, inputs, out: [program, "--outdir", out, process, inputs])


class Cases:
    """The workflows, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text)
        return path

    def echo(self, count: int) -> tuple[Path, Path]:
        inner = "\n".join("      " + line for line in ECHO.splitlines())
        scatter = count > 1
        process = self._write(
            f"echo{count}.cwl",
            "cwlVersion: v1.2\nclass: Workflow\nrequirements: {ScatterFeatureRequirement: {}}\n"
            f"inputs: {{msg: '{'string[]' if scatter else 'string'}'}}\n"
            f"outputs: {{out: {{type: '{'File[]' if scatter else 'File'}', outputSource: say/out}}}}\nsteps:\n  say:\n"
            + ("    scatter: msg\n" if scatter else "")
            + f"    in: {{msg: msg}}\n    out: [out]\n    run:\n{inner}\n",
        )
        value = [f"m{number}" for number in range(count)] if scatter else "hello"
        return process, self._write(f"echo{count}.json", json.dumps({"msg": value}))

    def chain(self, count: int) -> tuple[Path, Path]:
        self._write("cat.cwl", "cwlVersion: v1.2\n" + CAT)
        self._write("small.txt", "hello\n")
        steps = "".join(
            f"  s{number}: {{run: cat.cwl, in: {{f: {'f' if number == 1 else f's{number - 1}/out'}}}, out: [out]}}\n"
            for number in range(1, count + 1)
        )
        process = self._write(
            f"chain{count}.cwl",
            "cwlVersion: v1.2\nclass: Workflow\ninputs: {f: File}\n"
            f"outputs: {{out: {{type: File, outputSource: s{count}/out}}}}\nsteps:\n{steps}",
        )
        return process, self._write("chain.json", json.dumps({"f": {"class": "File", "path": "small.txt"}}))

    def big(self) -> tuple[Path, Path]:
        process = self._write(
            "big.cwl",
            "cwlVersion: v1.2\nclass: Workflow\ninputs: {mb: int}\n"
            "outputs: {n: {type: File, outputSource: count/n}}\nsteps:\n"
            "  make:\n    in: {mb: mb}\n    out: [big]\n    run:\n      class: CommandLineTool\n"
            "      baseCommand: [head, -c]\n      inputs: {mb: int}\n"
            '      arguments: [{valueFrom: "$(inputs.mb)M"}, /dev/zero]\n'
            "      outputs: {big: stdout}\n      stdout: big.bin\n"
            "  count:\n    in: {f: make/big}\n    out: [n]\n    run:\n      class: CommandLineTool\n"
            '      baseCommand: [stat, -L, -c, "%s"]\n      inputs: {f: {type: File, inputBinding: {}}}\n'
            "      outputs: {n: stdout}\n      stdout: n.txt\n",
        )
        return process, self._write("big.json", json.dumps({"mb": 1024}))


Of = Callable[[Took], float]


def median(runner: Runner, case: tuple[Path, Path], times: int, of: Of) -> float:
    return statistics.median(of(took) for took in runner.runs(*case, times))


def cpu(took: Took) -> float:
    return took.cpu_s


def wall(took: Took) -> float:
    return took.wall_s


def cpu_per_step(runner: Runner, cases: Cases, count: int) -> float:
    count = min(count, runner.most)
    one = median(runner, cases.echo(1), 3, cpu)
    many = median(runner, cases.echo(count), 1, cpu)
    return (many - one) / (count - 1) * 1000


def chain_ms(runner: Runner, cases: Cases) -> float:
    one = median(runner, cases.chain(1), 3, wall)
    many = median(runner, cases.chain(50), 3, wall)
    return (many - one) / 49 * 1000


# By case: its unit, how many steps a runner must manage to be compared, and how it is measured.
MEASURES: dict[str, tuple[str, int, Callable[[Runner, Cases], float]]] = {
    "echo1_cpu_s": ("s", 1, lambda runner, cases: median(runner, cases.echo(1), 3, cpu)),
    "echo1_wall_s": ("s", 1, lambda runner, cases: median(runner, cases.echo(1), 3, wall)),
    "chain50_ms_per_step": ("ms", 50, chain_ms),
    "big_s": ("s", 1, lambda runner, cases: median(runner, cases.big(), 3, wall)),
    "scatter1000_cpu_ms_per_step": ("ms", 100, lambda runner, cases: cpu_per_step(runner, cases, 1000)),
    "scatter1000_wall_s": ("s", 1000, lambda runner, cases: median(runner, cases.echo(1000), 1, wall)),
    "scatter10000_cpu_ms_per_step": ("ms", 10_000, lambda runner, cases: cpu_per_step(runner, cases, 10_000)),
    "scatter10000_wall_s": ("s", 10_000, lambda runner, cases: median(runner, cases.echo(10_000), 1, wall)),
    "scatter10000_peak_mb": ("MB", 10_000, lambda runner, cases: runner.runs(*cases.echo(10_000), 1)[0].peak_mb),
}


def remote(others: list[Runner]) -> None:
    """Steps over SSH with latency at two sites."""
    import cwl_remote

    there = any(peer.name == "streamflow" for peer in others)
    program = ROOT / ".bench-peers/streamflow/bin/streamflow" if there else None
    try:
        mine, theirs = cwl_remote.measure(program)
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"{REMOTE}: {error}", file=sys.stderr)
        return
    line = {"bench": "cwl", "case": REMOTE, "ours": round(mine, 3), "unit": "s", "steps": cwl_remote.STEPS}
    if theirs is not None:
        line |= {"peer": "streamflow", "peer_value": round(theirs, 3), "ratio": round(mine / theirs, 3)}
    print(json.dumps(line), flush=True)


def case(name: str, runner: Runner, others: list[Runner], cases: Cases) -> None:
    """Measure one case and print its lines."""
    unit, steps, measure = MEASURES[name]
    value = measure(runner, cases)
    line = {"bench": "cwl", "case": name, "ours": round(value, 4), "unit": unit}
    told = False
    for other in others:
        if other.most < steps:
            continue
        try:
            theirs = measure(other, cases)
        except (RuntimeError, subprocess.SubprocessError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        found = {**line, "peer": other.name, "peer_value": round(theirs, 4)}
        found["ratio"] = round(value / theirs, 3) if theirs else None
        if name.startswith("scatter1000_") and other.most < 1000:
            found["peer_steps"] = other.most
        print(json.dumps(found), flush=True)
        told = True
    if not told:
        print(json.dumps(line), flush=True)


def main() -> None:
    names = sys.argv[1:] or [*MEASURES, REMOTE]
    unknown = [name for name in names if name not in (*MEASURES, REMOTE)]
    if unknown:
        sys.exit(f"There is no case {unknown[0]!r}. There is: {', '.join([*MEASURES, REMOTE])}.")
    others = peers()
    runner = ours()
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(Path(folder))
        for name in names:
            if name == REMOTE:
                remote(others)
            else:
                case(name, runner, others, cases)


if __name__ == "__main__":
    main()
