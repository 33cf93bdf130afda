"""The two examples of tasks, as a person runs them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forest_is_better_than_its_trees():
    said = run("examples.forest.app", "--trees", "12")
    alone = float(re.search(r"one tree alone: ([\d.]+)", said)[1])
    forest = float(re.search(r"the forest: +([\d.]+)", said)[1])
    assert alone < forest > 0.9


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="scripts/install-system-packages installs OpenMPI")
def test_one_program_over_ranks_a_program_and_a_service():
    said = run("examples.hybrid.app").splitlines()
    assert [line.split()[1] for line in said[1:5]] == ["copper", "aluminium", "iron", "titanium"]
    for line in said[5:]:
        found, known = map(float, re.search(r": ([\d.]+) .*, ([\d.]+) in", line).groups())
        assert abs(found / known - 1) < 0.05
