"""Workflows whose driver is killed, whose site is cut off, whose files go: they end right, and do little twice.

Each step writes into a journal of its own as it begins, so that nobody of ours is asked what ran.
"""

import json
import os
import random
import sqlite3
import subprocess
from functools import partial
from pathlib import Path

import pytest
import yaml

from isthmus import codec
from isthmus.domain.sites import SiteSpec
from tests.testbed import scratch
from tests.testbed.drivers import Drivers, workflow
from tests.testbed.network import Network
from tests.testbed.sites import ssh_site
from tests.testbed.ssh import SshServer
from tests.testbed.users import User
from tests.testbed.waiting import wait_for

pytestmark = pytest.mark.system

KILLS = 50
TASKS = 160

SQUARES = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {numbers: "int[]", journal: string}
outputs: {all: {type: File, outputSource: join/all}}
steps:
  square:
    scatter: number
    in: {number: numbers, journal: journal}
    out: [made]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo "square $0" >> "$1"; expr "$0" "*" "$0"']
      inputs: {number: {type: int, inputBinding: {position: 1}}, journal: {type: string, inputBinding: {position: 2}}}
      outputs: {made: stdout}
      stdout: made.txt
  add:
    scatter: file
    in: {file: square/made, journal: journal}
    out: [made]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'read n < "$0"; echo "add $n" >> "$1"; expr "$n" + 1']
      inputs: {file: {type: File, inputBinding: {position: 1}}, journal: {type: string, inputBinding: {position: 2}}}
      outputs: {made: stdout}
      stdout: made.txt
  join:
    in: {files: add/made, journal: journal}
    out: [all]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo join >> "$0"; cat "$@"']
      inputs:
        journal: {type: string, inputBinding: {position: 1}}
        files: {type: "File[]", inputBinding: {position: 2}}
      outputs: {all: stdout}
      stdout: all.txt
"""


def test_a_driver_that_is_killed_fifty_times_does_nothing_twice_that_it_had_written_down(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    (tmp_path / "squares.cwl").write_text(SQUARES)
    (tmp_path / "in.json").write_text(json.dumps({"numbers": list(range(1, TASKS // 2 + 1)), "journal": str(journal)}))
    dice = random.Random("kills")
    known: list[tuple[int, set[str]]] = []  # at each kill: how long the journal was, and what the book knew
    with Drivers(tmp_path, {**os.environ, "ISTHMUS_DATA": str(tmp_path / "data")}) as drivers:
        drivers.start("workflow", "run", "squares.cwl", "in.json", "--outdir", "out")
        wait_for(lambda: _lines(journal), "the run to begin", deadline_s=120)
        (book,) = _books(tmp_path)
        for kill in range(KILLS):
            # As it begins, with steps under way, or with some of them written down; at once when few are left.
            done = len(_recorded(book))
            ahead = done > 0.8 * TASKS * kill / KILLS
            lines = len(_lines(journal)) + (0 if ahead else dice.choice((0, 1, 5, 13)))
            rows = 0 if ahead else dice.choice((0, done + dice.randint(1, 8)))
            came = partial(_came_to, drivers, journal, lines, book, rows)
            wait_for(came, "steps to run", deadline_s=120, every_s=0.002)
            assert drivers.kill() == -9, drivers.log.read_text()[-2000:]
            known.append((_settled(journal), _recorded(book)))
            drivers.start("workflow", "resume", book.parent.name)
        wait_for(drivers.ended, "the run to end", deadline_s=120)
        assert drivers.wait() == 0, drivers.log.read_text()[-2000:]
    assert (tmp_path / "out/all.txt").read_text() == "".join(f"{n * n + 1}\n" for n in range(1, TASKS // 2 + 1))
    begun = _lines(journal)
    assert len(known) == KILLS and len(known[-1][1]) > TASKS // 5, "the kills were spread over the run"
    for length, recorded in known:
        assert not recorded & {_task(line) for line in begun[length:]}
    assert _recorded(book) == {*(f"{step}[{n}]" for step in ("square", "add") for n in range(TASKS // 2)), "join"}
    print(f"{len(begun)} commands begun for {TASKS + 1} tasks, {KILLS} kills")


def _books(folder: Path) -> list[Path]:
    return list(folder.glob("data/workflows/runs/*/run.db"))


def _lines(journal: Path) -> list[str]:
    return journal.read_text().splitlines()


def _came_to(drivers: Drivers, journal: Path, lines: int, book: Path, rows: int) -> bool:
    return drivers.ended() or (len(_lines(journal)) >= lines and (not rows or len(_recorded(book)) >= rows))


def _settled(journal: Path) -> int:
    """How many lines the journal has when nothing of a killed driver writes to it any more."""
    wait_for(lambda: not _holds(journal), "its steps to end", deadline_s=60, every_s=0.002)
    return len(_lines(journal))


def _holds(journal: Path) -> list[str]:
    """The processes that have the journal among their words: steps."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            if str(journal).encode() in words:
                found.append(entry.name)
    return found


def _recorded(book: Path) -> set[str]:
    db = sqlite3.connect(book, timeout=30)
    try:
        return {task for (task,) in db.execute("select task from tasks where state in ('done', 'reused')")}
    finally:
        db.close()


def _task(line: str) -> str:
    """The task that a line of the journal is of: `square 4` and `add 16` are at the fourth place."""
    word, _, number = line.partition(" ")
    if not number:
        return word
    return f"{word}[{(int(number) if word == 'square' else round(int(number) ** 0.5)) - 1}]"


TWO = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {names: "string[]", journal: string, pause: string, gate: string}
outputs: {all: {type: File, outputSource: join/all}}
steps:
  make:
    scatter: name
    in: {name: names, journal: journal, pause: pause}
    out: [made]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo "make $0" >> "$1"; sleep "$2"; echo "$0"; echo "made $0" >> "$1"']
      inputs:
        name: {type: string, inputBinding: {position: 1}}
        journal: {type: string, inputBinding: {position: 2}}
        pause: {type: string, inputBinding: {position: 3}}
      outputs: {made: stdout}
      stdout: made.txt
  join:
    in: {files: make/made, journal: journal, gate: gate}
    out: [all]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo join >> "$0"; test -e "$1" || exit 9; shift; cat "$@"']
      inputs:
        journal: {type: string, inputBinding: {position: 1}}
        gate: {type: string, inputBinding: {position: 2}}
        files: {type: "File[]", inputBinding: {position: 3}}
      outputs: {all: stdout}
      stdout: all.txt
"""


@pytest.fixture
def folder() -> Path:
    """A fresh folder that a site's user may write to."""
    path = scratch.folder("workflow-faults")
    path.chmod(0o777)
    return path


class Sited:
    """The workflow TWO with a binding of its steps to a site."""

    def __init__(self, folder: Path, box: SshServer, **steps: str) -> None:
        self.folder, self.box = folder, box
        self.journal, self.gate = folder / "journal", folder / "gate"
        self.journal.touch()
        self.journal.chmod(0o666)
        (folder / "two.cwl").write_text(TWO)
        site = codec.to_plain(ssh_site("box", box), SiteSpec)
        site.pop("name")
        (folder / "bindings.yaml").write_text(yaml.safe_dump({"sites": {"box": site}, "steps": steps}))

    def start(self, names: list[str], pause: str = "0") -> "subprocess.Popen[str]":
        given = {"names": names, "pause": pause, "journal": str(self.journal), "gate": str(self.gate)}
        (self.folder / "in.json").write_text(json.dumps(given))
        return self.isthmus("run", "two.cwl", "in.json", "-b", "bindings.yaml", "--outdir", "out")

    def isthmus(self, *words: str) -> "subprocess.Popen[str]":
        return workflow(self.folder, *words)

    @property
    def run(self) -> str:
        (run,) = (self.folder / "data/workflows/runs").iterdir()
        return run.name


def test_a_run_goes_on_when_a_site_that_was_cut_off_is_back(folder: Path, users: list[User]) -> None:
    with Network(hosts=1) as near, SshServer(users, host=near.hosts[0]) as box:
        sited = Sited(folder, box, make="box")
        sited.gate.touch()
        process = sited.start(["a", "b", "c"], pause="3")
        wait_for(lambda: len(_lines(sited.journal)) >= 3, "the steps to run there", deadline_s=120)
        near.cut(near.hosts[0])
        wait_for(lambda: len(_lines(sited.journal)) == 6, "them to end while nobody sees it", deadline_s=120)
        assert process.poll() is None
        near.mend(near.hosts[0])
        _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert (folder / "out/all.txt").read_text() == "a\nb\nc\n"
    assert sorted(_lines(sited.journal)) == ["join", *(f"{word} {name}" for word in ("made", "make") for name in "abc")]


def test_a_file_at_a_site_that_has_gone_is_made_again_by_what_made_it(folder: Path, ssh_server: SshServer) -> None:
    sited = Sited(folder, ssh_server, make="box", join="box")
    process = sited.start(["a", "b", "c"])
    _, said = process.communicate(timeout=200)
    assert process.returncode == 1 and "exit code 9" in said, said
    gone = [path for path in Path(ssh_server.user.home, "isthmus-box").rglob("made.txt") if path.read_text() == "b\n"]
    assert gone
    for path in gone:
        path.unlink()
    sited.gate.touch()
    process = sited.isthmus("resume", sited.run)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert (folder / "out/all.txt").read_text() == "a\nb\nc\n"
    begun = [line for line in _lines(sited.journal) if not line.startswith("made")]
    assert sorted(begun) == ["join", "join", "make a", "make b", "make b", "make c"]
