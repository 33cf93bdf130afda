"""The runner in every real container engine, with images made of this machine's files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed import engines, images
from tests.testbed.engines import configure_podman
from tests.testbed.proxies import SiteFolder
from tests.testbed.waiting import wait_for

pytestmark = pytest.mark.system

SCRIPT = """\
import json, os, sys
import isthmus
isthmus.report(loss=0.5, step=1)
sys.stdout.write(json.dumps({"cwd": os.getcwd(), "depth": os.environ["DEPTH"], "secret": os.environ["API_KEY"],
    "input": open("data/x").read(), "os": open("/etc/os-release").read(), "bind": os.listdir("/mnt/0")}) + chr(10))
open("out.txt", "w").write("made inside")
open(os.environ["ISTHMUS_CHECKPOINT"] + "/state", "w").write("1")
"""


@dataclass
class Case:
    """A site and the container that its jobs run in."""

    site: SiteFolder
    engine: str
    image: str
    env: dict[str, str]
    options: list[str]

    def job(self, *command: str, **more: object) -> dict[str, object]:
        binds = [[str(self.site.path / "bind"), "/mnt/0", "ro"]]
        container = {"engine": self.engine, "image": self.image, "binds": binds, "gpu": False, "options": self.options}
        return {"command": list(command), "container": container, **more}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Images by their form, each made when it is first asked for."""
    folder = tmp_path_factory.mktemp("images")
    known: dict[str, Path] = {"root": images.rootfs(folder / "root")}

    def find(form: str) -> Path:
        if form not in known:
            maker = {"sqfs": images.squashfs, "oci": images.oci_archive, "sif": images.sif}[form]
            known[form] = maker(known["root"], folder / f"image.{form}")
        return known[form]

    return find


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which podman works here, with a store of its own."""
    folder = tmp_path_factory.mktemp("podman")
    store = folder / "storage.conf"
    store.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/runs"\n')
    conf = configure_podman(folder, os.getuid(), os.getgid())
    return {"CONTAINERS_CONF": str(conf), "CONTAINERS_STORAGE_CONF": str(store)}


CASES = [
    "apptainer-sif", "apptainer-root", "podman-oci", "podman-root", "charliecloud-root", "charliecloud-sqfs",
]  # fmt: skip


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path: Path, made: Callable[[str], Path], podman: dict[str, str]
) -> Iterator[Case]:
    engine, form = request.param.split("-")
    if engine == "apptainer" and not images.apptainer_installed():
        pytest.skip("apptainer is not installed (scripts/install-apptainer)")
    engines.prepare_machine()
    env = {"USER": "root"}
    if engine == "podman":
        env.update(podman)
    site = SiteFolder(tmp_path / "w")
    (site.path / "bind").mkdir()
    (site.path / "bind" / "bound").touch()
    (site.path / "cache").mkdir()
    (site.path / "cache" / "d1").mkdir()
    (site.path / "cache" / "d1" / "x").write_text("input")
    yield Case(site, engine, str(made(form)), env, [])
    site.close()


def run(case: Case, key: str, **job: object) -> dict[str, object]:
    folder = case.site.write_job(key, **job)  # type: ignore[arg-type]
    (folder / "secrets.json").write_text(json.dumps({"API_KEY": "s3cret"}))
    with case.site.start(key, case.env) as runner:
        runner.wait(120)
    return case.site.reports(key)[-1]


def test_the_command_sees_what_it_sees_outside(case: Case) -> None:
    inputs = [{"path": "data", "source": "cache/d1", "mode": "link"}]
    job = case.job(
        script="#!/usr/bin/python3\n" + SCRIPT, env={"DEPTH": "3"}, inputs=inputs, checkpoint="checkpoints/1",
        outputs=[{"path": "out.txt"}],
    )  # fmt: skip
    end = run(case, "1.1-a", **job)
    assert end["reason"] == "", case.site.story("1.1-a")
    said = json.loads(next(line for line in case.site.log("1.1-a").splitlines() if line.startswith("{")))
    assert said["cwd"].endswith("/jobs/1.1-a/work")
    assert (said["depth"], said["secret"], said["input"], said["bind"]) == ("3", "s3cret", "input", ["bound"])
    assert "isthmus-testbed" in said["os"], "it ran inside the image"
    assert [r["values"] for r in case.site.reports("1.1-a") if r["kind"] == "metrics"] == [{"loss": 0.5}]
    made = case.site.job("1.1-a") / "work" / "out.txt"
    assert made.read_text() == "made inside" and made.stat().st_uid == os.getuid()
    assert (case.site.path / "checkpoints/1/state").read_text() == "1"


def test_exit_codes_pass_through(case: Case) -> None:
    assert run(case, "1.1-a", **case.job("sh", "-c", "exit 9"))["exit_code"] == 9


def test_a_command_that_the_image_lacks(case: Case) -> None:
    end = run(case, "1.1-a", **case.job("no-such-program"))
    assert (end["reason"], "no-such-program" in str(end["message"])) == ("COMMAND", True), case.site.story("1.1-a")


def test_an_image_that_is_not_there(case: Case) -> None:
    job = case.job("true")
    job["container"]["image"] = str(case.site.path / "cache" / "none")  # type: ignore[index]
    end = run(case, "1.1-a", **job)
    assert end["reason"] == "CONTAINER", case.site.story("1.1-a")


def test_sigterm_reaches_the_command_and_its_grace_is_kept(case: Case) -> None:
    script = "trap 'echo saved > state; exit 0' TERM\necho ready\nwhile :; do sleep 0.05; done\n"
    folder = case.site.write_job("1.1-a", **case.job(script=script))  # type: ignore[arg-type]
    with case.site.start("1.1-a", case.env) as runner:
        case.site.wait_log("1.1-a", "ready")
        (folder / "kill").write_text('{"grace_s": 20}')
        runner.wait(60)
    assert (folder / "work/state").read_text() == "saved\n"
    assert case.site.reports("1.1-a")[-1]["reason"] == "KILLED"


def test_what_ignores_sigterm_is_killed_inside_too(case: Case) -> None:
    script = "trap '' TERM\necho ready\nwhile :; do sleep 0.05; done\n"
    folder = case.site.write_job("1.1-a", **case.job(script=script, heartbeat_s=0.3))  # type: ignore[arg-type]
    with case.site.start("1.1-a", case.env) as runner:
        case.site.wait_log("1.1-a", "ready")
        assert case.site.wait_report("1.1-a", "usage")["mem_bytes"] > 0
        (folder / "kill").write_text('{"grace_s": 0.2}')
        runner.wait(60)
    assert case.site.reports("1.1-a")[-1]["reason"] == "KILLED"
    wait_for(lambda: case.site.strays("1.1-a") == [], "the end of the container")
