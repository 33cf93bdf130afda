"""CWL runs on this machine beside other runners of CWL, each in a virtual environment of its own.

    bench/cwl.py [CASE…]      echo1_cpu_s scatter1000_cpu_ms_per_step scatter10000_cpu_ms_per_step scatter10000_peak_mb
                              chain50_ms_per_step big_s remote_scatter_ratio

Prints JSON lines, one a case and peer. CPU is that of the whole run, its steps included. Peers are installed into
.bench-peers/NAME where they can be had: cwltool, streamflow, toil.
remote_scatter_ratio: see bench/cwl_remote.py; beside StreamFlow alone. ISTHMUS_BENCH_PEERS= (empty) leaves them out.
"""

import json
import os
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
    """A runner of CWL: a command that takes a process and inputs."""

    def __init__(self, name: str, command: Callable[[Path, Path, Path], list[str]]) -> None:
        self.name = name
        self._command = command

    def run(self, process: Path, inputs: Path) -> Took:
        with tempfile.TemporaryDirectory() as folder:
            words = self._command(process, inputs, Path(folder))
            # A process of its own in between: what its children used is then this run's alone.
            script = (
                "import json, resource, subprocess, sys, time; began = time.monotonic();"
                "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode;"
                "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
                "print(json.dumps([code, time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss]))"
            )
            done = subprocess.run(
                [sys.executable, "-c", script, *words],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=True,
                env={**os.environ, "TMPDIR": folder, "ISTHMUS_DATA": f"{folder}/data"},
            )
        code, wall, cpu, peak = json.loads(done.stdout)
        if code:
            raise RuntimeError(f"{self.name} failed with exit code {code}")
        return Took(wall, cpu, peak / 1024)


def ours() -> Runner:
    program = Path(sys.executable).with_name("cwl-runner")
    return Runner("isthmus", lambda process, inputs, out: [str(program), "--quiet", str(process), str(inputs)])


def peers() -> list[Runner]:
    wanted = os.environ.get("ISTHMUS_BENCH_PEERS", " ".join(PEERS)).split()
    found = []
    for name in wanted:
        folder = ROOT / ".bench-peers" / name
        program = folder / "bin" / PROGRAMS[name]
        if not program.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            pip = [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            if subprocess.run([*pip, PEERS[name]], stderr=subprocess.DEVNULL, check=False).returncode:
                print(f"{name} can't be installed here", file=sys.stderr)
                continue
        if name == "cwltool":
            found.append(
                Runner(
                    name,
                    lambda process, inputs, out, p=program: [
                        str(p),
                        "--parallel",
                        "--quiet",
                        str(process),
                        str(inputs),
                    ],
                )
            )
        elif name == "toil":
            found.append(
                Runner(
                    name,
                    lambda process, inputs, out, p=program: [
                        str(p), "--jobStore", f"{out}/store", "--outdir", str(out), "--disableProgress", "--logOff",
                        str(process), str(inputs),
                    ],
                )
            )  # fmt: skip
        else:
            found.append(
                Runner(
                    name,
                    lambda process, inputs, out, p=program: [str(p), "--outdir", str(out), str(process), str(inputs)],
                )
            )
    return found


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


def best(runner: Runner, case: tuple[Path, Path], times: int, of: Callable[[Took], float]) -> float:
    return statistics.median(of(runner.run(*case)) for _ in range(times))


def cpu_per_step(runner: Runner, cases: Cases, count: int, times: int) -> float:
    one = best(runner, cases.echo(1), times, lambda took: took.cpu_s)
    many = best(runner, cases.echo(count), 1, lambda took: took.cpu_s)
    return (many - one) / (count - 1) * 1000


def chain_ms(runner: Runner, cases: Cases) -> float:
    one = best(runner, cases.chain(1), 3, lambda took: took.wall_s)
    many = best(runner, cases.chain(50), 3, lambda took: took.wall_s)
    return (many - one) / 49 * 1000


MEASURES: dict[str, tuple[str, bool, Callable[[Runner, Cases], float]]] = {
    "echo1_cpu_s": ("s", True, lambda runner, cases: best(runner, cases.echo(1), 3, lambda took: took.cpu_s)),
    "scatter1000_cpu_ms_per_step": ("ms", True, lambda runner, cases: cpu_per_step(runner, cases, 1000, 3)),
    "scatter10000_cpu_ms_per_step": ("ms", False, lambda runner, cases: cpu_per_step(runner, cases, 10_000, 1)),
    "scatter10000_peak_mb": ("MB", False, lambda runner, cases: runner.run(*cases.echo(10_000)).peak_mb),
    "chain50_ms_per_step": ("ms", True, chain_ms),
    "big_s": ("s", True, lambda runner, cases: best(runner, cases.big(), 3, lambda took: took.wall_s)),
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


def main() -> None:
    names = sys.argv[1:] or [*MEASURES, REMOTE]
    unknown = [name for name in names if name not in (*MEASURES, REMOTE)]
    if unknown:
        sys.exit(f"There is no case {unknown[0]!r}. There is: {', '.join([*MEASURES, REMOTE])}.")
    others = peers() if any(name == REMOTE or MEASURES[name][1] for name in names) else []
    if REMOTE in names:
        names.remove(REMOTE)
        remote(others)
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(Path(folder))
        for name in names:
            unit, compared, measure = MEASURES[name]
            value = measure(ours(), cases)
            line = {"bench": "cwl", "case": name, "ours": round(value, 4), "unit": unit}
            told = False
            for peer in others if compared else []:
                try:
                    theirs = measure(peer, cases)
                except (RuntimeError, subprocess.SubprocessError) as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    continue
                ratio = round(value / theirs, 3) if theirs else None
                print(
                    json.dumps({**line, "peer": peer.name, "peer_value": round(theirs, 4), "ratio": ratio}), flush=True
                )
                told = True
            if not told:
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
