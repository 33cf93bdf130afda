"""The example of a hybrid pipeline: trainings on a SLURM cluster, the rest here, and a report of every variant."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.testbed import scratch
from tests.testbed.slurm import SlurmCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # torch is imported seven times

EXAMPLE = Path(__file__).parents[2] / "examples/covid-pipeline"
BINDINGS = yaml.safe_load((EXAMPLE / "bindings.yaml").read_text())


def test_every_variant_is_trained_on_the_cluster_and_reported_here(tmp_path: Path, slurm: SlurmCluster) -> None:
    done = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False)
    assert done.returncode == 0, "torch is not installed: run scripts/install-test-torch with this Python"
    # On the cluster's own head, as root: the tests' Python, with torch, may be root's alone.
    work = scratch.folder("covid")
    there = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    for step in ("pretrain", "variant/train"):
        BINDINGS["steps"][step] = {"sites": ["cluster"], "env": there, "resources": {"time": "10m"}}
    BINDINGS["sites"] = {"cluster": {"kind": "slurm", "workdir": str(work), "poll": "1s"}}
    (tmp_path / "bindings.yaml").write_text(yaml.safe_dump(BINDINGS))
    env = {**slurm.env(), "ISTHMUS_DATA": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env.get('PATH', os.defpath)}"

    def isthmus(*words: str) -> str:
        done = subprocess.run(
            ["isthmus", "workflow", *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    isthmus("run", str(EXAMPLE / "pipeline.cwl"), str(EXAMPLE / "few.yaml"), "-b", "bindings.yaml", "--outdir", "out")
    with (tmp_path / "out/variants.csv").open() as stream:
        variants = {row["segmentation"]: row for row in csv.DictReader(stream)}
    assert set(variants) == {"none", "learned"}
    assert float(variants["learned"]["accuracy"]) > max(0.3, float(variants["none"]["accuracy"]))
    page = (tmp_path / "out/report.html").read_text()
    assert all(f"{float(row['accuracy']):.3f} ±" in page for row in variants.values())
    (run,) = json.loads(isthmus("list", "-o", "json"))
    steps = json.loads(isthmus("report", run["run"], "-o", "json"))["steps"]
    assert steps["variant/train"]["places"] == {"cluster": 4} and steps["variant/metrics"]["places"] == {"here": 2}
    assert steps["variant/train"]["moved"] > 0 and steps["variant/train"]["cpu_s"] > 0
