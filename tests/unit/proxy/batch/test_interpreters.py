"""The parsers read the recorded outputs alike under the oldest and the newest Python here, out of the archive."""

import json
import subprocess
from pathlib import Path

import pytest

from isthmus.sites.archive import archive
from tests.testbed.proxies import interpreters

RECORDED = Path(__file__).with_name("recorded")
PROGRAM = """
import io, json, os, sys
sys.path.insert(0, sys.argv[1])
from isthmus.proxy.batch import find_module, reason_of, state_of
from isthmus.proxy.batch.slurm import inventory, parse
from isthmus.proxy.batch.gridengine import parse as sge

def text(name):
    with io.open(os.path.join(sys.argv[2], name), encoding="utf-8") as file:
        return file.read()

slurm, gridengine = find_module("slurm"), find_module("gridengine")
told = [line for line in parse.squeue(text("slurm-22.05-squeue.txt"))]
natives = [record.native for record in parse.sacct(text("slurm-22.05-sacct.txt")).values()]
ended = [sge.ended(record) for record in sge.qacct(text("gridengine-8.1.9-qacct.txt")).values()]
print(json.dumps([
    told,
    [[native, reason_of(slurm, native, state_of(slurm, native))] for native in natives],
    inventory.node_types(text("slurm-22.05-sinfo.txt")),
    sge.qstat(text("gridengine-8.1.9-qstat.xml")),
    [[native, reason_of(gridengine, native, state_of(gridengine, native))] for native in ended],
]))
"""


def read_by(python: Path, packed: Path) -> object:
    done = subprocess.run(
        [python, "-I", "-S", "-c", PROGRAM, str(packed), str(RECORDED)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", list(interpreters())[:-1])
def test_an_older_python_reads_the_same(version: str, tmp_path: Path) -> None:
    packed = tmp_path / "isthmus.pyz"
    packed.write_bytes(archive().data)
    pythons = interpreters()
    newest = list(pythons)[-1]
    assert read_by(pythons[version], packed) == read_by(pythons[newest], packed)
