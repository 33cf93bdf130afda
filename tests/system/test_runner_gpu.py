"""GPUs through NVIDIA's library, on a stand-in of it that answers as the real one: it needs a C compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import gpus
from tests.testbed.proxies import SiteFolder
from tests.testbed.waiting import wait_for

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(gpus.library(tmp_path_factory.mktemp("nvml")))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteFolder]:
    made = SiteFolder(tmp_path / "w")
    yield made
    made.close()


def test_what_the_library_tells(library: str) -> None:
    code = (
        "import json; from isthmus.runner.gpu import Gpus; g = Gpus();"
        "print(json.dumps([bool(g), g.count(), g.describe(), g.usage([]), g.usage(['GPU-fake-1'])]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "LD_LIBRARY_PATH": library}, capture_output=True, check=True
    )
    there, count, described, usage, second = json.loads(told.stdout)
    assert (there, count) == (True, 2)
    assert described[0] == {"name": "NVIDIA A100-SXM4-80GB", "mem": 80 << 30, "uuid": "GPU-fake-0"}
    assert usage == [
        {"index": 0, "util": 40, "mem_bytes": 1 << 30},
        {"index": 1, "util": 41, "mem_bytes": 2 << 30},
    ]
    assert [gpu["index"] for gpu in second] == [1]


def test_usage_of_the_gpus_that_the_job_has(site: SiteFolder, library: str) -> None:
    site.write_job("1.1-a", "sh", "-c", "echo ready; exec sleep 1000", gpus=1, heartbeat_s=0.2)
    env = {"LD_LIBRARY_PATH": library, "CUDA_VISIBLE_DEVICES": "1"}
    with site.start("1.1-a", env) as runner:
        usage = site.wait_report("1.1-a", "usage")
        runner.terminate()
        runner.wait(30)
    assert usage["gpu"] == [{"index": 1, "util": 41, "mem_bytes": 2 << 30}]
    assert site.reports("1.1-a")[0]["gpus"] == ["1"]


def test_the_probe_of_a_machine_with_gpus(site: SiteFolder, library: str) -> None:
    with site.proxy(env={"LD_LIBRARY_PATH": library, "NVIDIA_FAKE_GPUS": "4"}) as proxy:
        node = proxy.ask("probe", options={})["queues"][0]["nodes"][0]
    assert node["gpus"] == [{"type": "a100", "count": 4, "mem": 80 << 30}]


def test_the_keeper_gives_each_job_gpus_of_its_own(site: SiteFolder, library: str) -> None:
    """Two GPUs: a job with one and a job with two can't run at once; one without GPUs sees none."""
    show = "echo gpus=$CUDA_VISIBLE_DEVICES.; while [ ! -e stop ]; do sleep 0.05; done"
    with site.proxy(env={"LD_LIBRARY_PATH": library}) as proxy:
        proxy.submit("0.1-a", "sh", "-c", "echo gpus=$CUDA_VISIBLE_DEVICES.")
        proxy.finished("0.1-a")
        assert site.log("0.1-a") == "gpus=.\n"
        proxy.submit("1.1-a", "sh", "-c", show, gpus=1)
        proxy.submit("2.1-a", "sh", "-c", show, gpus=1)
        proxy.submit("3.1-a", "sh", "-c", show, gpus=2)
        seen = {site.wait_log(key, "gpus=") for key in ("1.1-a", "2.1-a")}
        assert seen == {"gpus=0.\n", "gpus=1.\n"}
        assert proxy.seen("3.1-a", wait_s=0)["state"] == "pending"
        for key in ("1.1-a", "2.1-a"):
            (site.job(key) / "work/stop").touch()
        assert site.wait_log("3.1-a", "gpus=") == "gpus=0,1.\n"
        answer = proxy.submit("5.1-a", "true", gpus=3)
        assert answer["error"]["code"] == "batch-refused" and "this machine has 2" in answer["error"]["message"]
        (site.job("3.1-a") / "work/stop").touch()
        proxy.finished("3.1-a")


def test_a_new_keeper_knows_which_gpus_are_taken(site: SiteFolder, library: str) -> None:
    show = "echo gpus=$CUDA_VISIBLE_DEVICES.; while [ ! -e stop ]; do sleep 0.05; done"
    with site.proxy(env={"LD_LIBRARY_PATH": library}) as proxy:
        proxy.submit("1.1-a", "sh", "-c", show, gpus=1)
        first = site.wait_log("1.1-a", "gpus=")
        site.wait_report("1.1-a", "started")
        os.kill(site.keeper(), 9)
        wait_for(lambda: not site.keeper(), "the keeper's end")
        proxy.submit("2.1-a", "sh", "-c", show, gpus=1)
        assert {first, site.wait_log("2.1-a", "gpus=")} == {"gpus=0.\n", "gpus=1.\n"}
        for key in ("1.1-a", "2.1-a"):
            (site.job(key) / "work/stop").touch()
            proxy.finished(key)


SHOW = (
    "echo gpu=$CUDA_VISIBLE_DEVICES $CUDA_MPS_PINNED_DEVICE_MEM_LIMIT $CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
    " $RCUDA_DEVICE_0.; while [ ! -e stop ]; do sleep 0.05; done"
)


def test_jobs_share_a_gpu_as_far_as_its_memory_and_time_go(site: SiteFolder, library: str) -> None:
    with site.proxy(env={"LD_LIBRARY_PATH": library, "NVIDIA_FAKE_GPUS": "1"}) as proxy:
        # Two run at a time, on two processors.
        proxy.submit("1.1-a", "sh", "-c", SHOW, gpu={"part": 0.5, "mem_bytes": 0})
        assert site.wait_log("1.1-a", "gpu=") == "gpu=0 0=40960M 50 .\n"
        proxy.submit("2.1-a", "sh", "-c", SHOW, gpu={"part": 0.6, "mem_bytes": 0})
        proxy.submit("3.1-a", "sh", "-c", SHOW, gpu={"part": 0.0, "mem_bytes": 6 << 30})
        assert site.wait_log("3.1-a", "gpu=") == "gpu=0 0=6144M 8 .\n"
        assert proxy.seen("2.1-a", wait_s=0)["state"] == "pending"
        (site.job("1.1-a") / "work/stop").touch()
        proxy.finished("1.1-a")
        assert site.wait_log("2.1-a", "gpu=") == "gpu=0 0=49152M 60 .\n"
        # A whole one has to wait for both; more memory than a GPU has is refused.
        proxy.submit("4.1-a", "sh", "-c", SHOW, gpus=1)
        (site.job("3.1-a") / "work/stop").touch()
        proxy.finished("3.1-a")
        assert proxy.seen("4.1-a", wait_s=0)["state"] == "pending"
        answer = proxy.submit("5.1-a", "true", gpu={"part": 0.0, "mem_bytes": 90 << 30})
        assert answer["error"]["code"] == "batch-refused" and "the largest here has" in answer["error"]["message"]
        (site.job("2.1-a") / "work/stop").touch()
        proxy.finished("2.1-a")
        assert site.wait_log("4.1-a", "gpu=") == "gpu=0 .\n"
        (site.job("4.1-a") / "work/stop").touch()
        proxy.finished("4.1-a")


def test_a_mig_instance_then_a_remote_gpu(site: SiteFolder, library: str) -> None:
    remote = [{"server": "far:0", "mem_bytes": 16 << 30}]
    with site.proxy(env={"LD_LIBRARY_PATH": library, "NVIDIA_FAKE_GPUS": "1", "NVIDIA_FAKE_MIG": "2"}) as proxy:
        for number, mem in ((1, 12), (2, 12)):
            want = {"part": 0.0, "mem_bytes": mem << 30, "remote": remote}
            proxy.submit(f"{number}.1-a", "sh", "-c", SHOW, gpu=want)
            site.wait_log(f"{number}.1-a", "gpu=")
        seen = [site.log(f"{number}.1-a") for number in (1, 2)]
        assert seen == ["gpu=MIG-fake-1 .\n", "gpu= far:0.\n"]
        answer = proxy.submit("4.1-a", "true", gpus=1)
        assert "1 is divided" in answer["error"]["message"]  # a divided GPU is nobody's whole
        for number in (1, 2):
            (site.job(f"{number}.1-a") / "work/stop").touch()
            proxy.finished(f"{number}.1-a")


def test_a_new_keeper_knows_which_parts_are_given_away(site: SiteFolder, library: str) -> None:
    with site.proxy(env={"LD_LIBRARY_PATH": library, "NVIDIA_FAKE_GPUS": "1"}) as proxy:
        proxy.submit("1.1-a", "sh", "-c", SHOW, gpu={"part": 0.7, "mem_bytes": 0})
        site.wait_report("1.1-a", "started")
        os.kill(site.keeper(), 9)
        wait_for(lambda: not site.keeper(), "the keeper's end")
        proxy.submit("2.1-a", "sh", "-c", SHOW, gpu={"part": 0.7, "mem_bytes": 0})
        assert proxy.seen("2.1-a", wait_s=0)["state"] == "pending"
        (site.job("1.1-a") / "work/stop").touch()
        proxy.finished("1.1-a")
        assert site.wait_log("2.1-a", "gpu=").startswith("gpu=0 ")
        (site.job("2.1-a") / "work/stop").touch()
        proxy.finished("2.1-a")
