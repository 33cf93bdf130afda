"""The panel in a real browser, against a real control plane with real jobs."""

from __future__ import annotations

import json
import re
import secrets
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import axe_playwright_python
import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, expect, sync_playwright

from isthmus.client import Client
from isthmus.domain.jobs import Array, JobRequest, Output, Resources
from isthmus.domain.states import JobState
from isthmus.domain.users import Role
from tests.testbed.control import ControlPlane
from tests.testbed.waiting import wait_for

CHROMIUM = "/usr/bin/chromium"
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
PATIENT_MS = 60_000  # of a busy machine
SLOW_MS = 180_000  # for a job that starts a driver, which starts jobs
expect.set_options(timeout=PATIENT_MS)

# Learns something, slowly enough to be watched: until the file `go` is in its folder, as fast as one says.
TRAIN = """#!/usr/bin/env python3
import os, time
rate = float(os.environ.get("lr", "0.1"))
for step in range(int(os.environ.get("steps", "20"))):
    print(f"isthmus: step={step} loss={1 / (1 + rate * step):.4f} accuracy={1 - 1 / (1 + rate * step):.4f}")
    print(f"line {step} of the log", flush=True)
    time.sleep(float(os.environ.get("pause", "0")))
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("panel")) as opened:
        yield opened


@pytest.fixture
def client(plane: ControlPlane) -> Iterator[Client]:
    with Client(plane.url, plane.token, patience_s=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


SignedIn = Callable[..., Page]
OUT = (Output(path="out"),)


@pytest.fixture
def signed_in(chromium: Browser, plane: ControlPlane, client: Client) -> Iterator[SignedIn]:
    """A page of a fresh browser that is signed in; what goes wrong in its scripts fails the test."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_page(token: str = "", **settings: object) -> Page:
        settings.setdefault("viewport", {"width": 1360, "height": 850})
        context = chromium.new_context(base_url=plane.url, **settings)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        with Client(plane.url, token or plane.token) as mine:
            page.goto(mine.users.sign_in_link().url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def own() -> str:
    """A word of this run alone: a test that is run again meets nothing that it left before."""
    return secrets.token_hex(3)


def running(client: Client, **more: object) -> int:
    job = client.jobs.submit(JobRequest(command=("sleep", "600"), **more))  # type: ignore[arg-type]
    wait_for(lambda: client.jobs.get(job.id).state is JobState.RUNNING, f"job {job.id} to run", deadline_s=120)
    return job.id


def ended(client: Client, request: JobRequest, state: JobState = JobState.COMPLETED) -> int:
    job = client.jobs.submit(request)
    assert client.jobs.wait(job.id).state is state
    return job.id


def ready(page: Page) -> None:
    """Wait until the page hears keys."""
    expect(page.locator("html[data-ready=yes]")).to_be_attached()


def test_submit_and_watch_it_live(signed_in: SignedIn, client: Client) -> None:
    page = signed_in()
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Name", exact=True).fill("watched")
    page.get_by_label("Script", exact=True).fill(TRAIN)
    expect(page.locator("#preview")).to_contain_text("it goes here")
    expect(page.locator("#preview")).to_contain_text("local")
    page.get_by_text("Environment", exact=True).click()
    for row, (name, value) in enumerate({"steps": "30", "pause": "0.3"}.items()):
        page.locator(f'[name="env[{row}].name"]').fill(name)
        page.locator(f'[name="env[{row}].value"]').fill(value)
        if row == 0:
            page.locator('[data-rows="env"]').get_by_role("button", name="More rows").click()
    page.locator(".side").get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile(r"/jobs/\d+$"))
    expect(page.locator(".said")).to_contain_text("is submitted")
    number = int(page.url.rpartition("/")[2])
    # Nothing is loaded again from here on.
    page.evaluate("window.mine = true")
    expect(page.locator("#job .badge").first).to_have_text("RUNNING")
    expect(page.locator("#log-text")).to_contain_text("line 5 of the log")
    expect(page.locator("figure.chart[data-name=loss] canvas")).to_be_visible()
    expect(page.locator("#job .badge").first).to_have_text("COMPLETED", timeout=120_000)
    expect(page.locator("#log-text")).to_contain_text("line 29 of the log")
    expect(page.get_by_role("button", name="Kill")).to_be_hidden()
    assert page.evaluate("window.mine") is True
    spec = client.jobs.get(number).spec
    assert spec is not None
    assert (spec.name, spec.script, spec.env) == ("watched", TRAIN, {"steps": "30", "pause": "0.3"})


def test_kill_and_retry(signed_in: SignedIn, client: Client) -> None:
    number = running(client, name="endless")
    page = signed_in()
    page.goto(f"/jobs/{number}")
    page.once("dialog", Dialog.dismiss)
    page.get_by_role("button", name="Kill").click()
    assert client.jobs.get(number).kill_by == ""
    page.once("dialog", Dialog.accept)
    page.get_by_role("button", name="Kill").click()
    expect(page.locator("#job .badge").first).to_have_text("KILLED")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".said")).to_contain_text("queued again")
    wait_for(lambda: client.jobs.get(number).state is JobState.RUNNING, "it to run again", deadline_s=120)
    client.jobs.kill(number)
    client.jobs.wait(number)


def test_reading_and_killing_work_without_javascript(signed_in: SignedIn, client: Client, own: str) -> None:
    first, second = running(client, name=f"quiet {own} one"), running(client, name=f"quiet {own} two")
    page = signed_in(java_script_enabled=False)
    page.goto(f"/jobs?q=quiet+{own}")
    assert page.locator("tbody tr").count() == 2
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", page.locator("tbody").inner_text())
    for number in (first, second):
        page.get_by_label(f"Mark job {number}").check()
    page.locator("#bulk-bar").get_by_role("button", name="Kill").click()
    assert "2 jobs: asked to end" in page.locator(".said").inner_text()
    assert {job.state for job in (client.jobs.wait(first), client.jobs.wait(second))} == {JobState.KILLED}
    page.goto(f"/jobs/{first}")
    assert "KILLED" in page.locator("#job").inner_text()
    page.get_by_role("link", name="Page", exact=True).click()
    assert "bytes 0 to" in page.locator("main").inner_text()


def test_a_viewer_may_look_and_not_touch(signed_in: SignedIn, client: Client, plane: ControlPlane, own: str) -> None:
    number = running(client, name="not yours")
    client.users.add(f"vera-{own}", Role.VIEWER)
    token = client.tokens.create("v", user=f"vera-{own}").token
    page = signed_in(token)
    page.goto(f"/jobs/{number}")
    expect(page.locator("#job .badge").first).to_have_text("RUNNING")
    assert page.get_by_role("button", name="Kill").count() == 0
    assert page.get_by_role("link", name="Submit", exact=True).count() == 0
    # Whatever the page shows: the server decides.
    csrf = page.locator("meta[name=csrf]").get_attribute("content") or ""
    assert f"vera-{own} is a viewer" in page.request.post(f"/jobs/{number}/kill", form={"csrf": csrf}).text()
    assert client.jobs.get(number).kill_by == ""
    # And not without our own form's mark, nor by another site's.
    admin = signed_in()
    assert admin.request.post(f"/jobs/{number}/kill", form={"csrf": "guessed"}).status == 403
    csrf = admin.locator("meta[name=csrf]").get_attribute("content") or ""
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert admin.request.post(f"/jobs/{number}/kill", form={"csrf": csrf}, headers=foreign).status == 403
    assert client.jobs.get(number).kill_by == ""
    client.jobs.kill(number)
    client.jobs.wait(number)


def test_compare_a_sweep(signed_in: SignedIn, client: Client, own: str) -> None:
    sweep = Array(parameters=({"lr": 0.1, "batch": 16}, {"lr": 0.5, "batch": 32}, {"lr": 2.0, "batch": 32}))
    jobs = client.jobs.submit_many([JobRequest(name=f"sweep {own}", script=TRAIN, array=sweep)])
    for job in jobs:
        assert client.jobs.wait(job.id).state is JobState.COMPLETED
    page = signed_in()
    page.goto(f"/jobs?q=sweep+{own}")
    page.get_by_label("Mark all on this page").check()
    expect(page.locator(".marked.muted")).to_have_text("3 marked")
    page.get_by_role("button", name="Compare").click()
    table = page.locator("#compare-table")
    for word in ("lr", "batch", "loss", "accuracy"):
        expect(table.locator("thead")).to_contain_text(word)
    expect(table).to_contain_text("2.0")
    assert "steps" not in table.locator("thead").inner_text()  # it is the same in all
    expect(page.locator("#compare-charts[data-drawn=yes]")).to_be_visible()
    assert page.locator("#compare-charts canvas").count() == 2
    expect(page.locator("#parallel-canvas")).to_be_visible()
    with page.expect_download() as kept:
        page.locator("#parallel .png").click()
    assert Path(kept.value.path()).read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as kept:
        page.get_by_role("link", name="CSV").click()
    rows = Path(kept.value.path()).read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].startswith("job,name,state,site,")
    assert "accuracy last" in rows[0]


def test_one_value_of_each_job_is_a_bar(signed_in: SignedIn, client: Client, own: str) -> None:
    scores = Array(parameters=({"value": 0.5}, {"value": 1.0}))
    command = ("echo", "isthmus: score={value}")
    jobs = client.jobs.submit_many([JobRequest(name=f"scores {own}", command=command, array=scores)])
    for job in jobs:
        assert client.jobs.wait(job.id).state is JobState.COMPLETED
    page = signed_in()
    page.goto("/compare?" + "&".join(f"job={job.id}" for job in jobs))
    bars = page.locator("figure[data-name=score] .bar")
    expect(bars).to_have_count(2)
    expect(bars.nth(0)).to_contain_text("0.5")
    widths = [bar.evaluate("bar => bar.querySelector('i').getBoundingClientRect().width") for bar in bars.all()]
    assert widths[0] < widths[1] / 1.9, widths


def test_an_upload_goes_on_where_it_was_cut(signed_in: SignedIn, client: Client, tmp_path: Path, own: str) -> None:
    content = bytes(range(256)) * 80_000  # 20 MB: three pieces
    file = tmp_path / f"Prices {own}.bin"
    file.write_bytes(content)
    page = signed_in()
    page.goto("/datasets")
    sent: list[str] = []

    def cut(route: object, request: object) -> None:
        sent.append(request.url)  # type: ignore[attr-defined]
        if len(sent) == 2:
            route.abort()  # type: ignore[attr-defined]
        else:
            route.continue_()  # type: ignore[attr-defined]

    page.route("**/uploads/*?offset=*", cut)
    page.get_by_label("Files", exact=True).set_input_files(file)
    expect(page.locator("#up-name")).to_have_value(f"Prices-{own}")
    page.get_by_role("button", name="Upload").click()
    expect(page).to_have_url(re.compile(rf"/datasets/Prices-{own}@1$"), timeout=120_000)
    assert [url.rpartition("=")[2] for url in sent][:3] == ["0", str(8 << 20), str(8 << 20)]
    expect(page.get_by_text("the server's store")).to_be_visible()
    assert client.datasets.get(f"Prices-{own}").size == len(content)
    # A bad name is told at the form, which keeps what was typed.
    page.goto("/datasets")
    page.get_by_label("Files", exact=True).set_input_files(file)
    page.locator("#up-name").fill("a/b")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#up-fault")).to_contain_text("is not a name")
    expect(page.locator("#up-name")).to_have_value("a/b")


def test_several_files_and_a_folder_go_up_as_one(signed_in: SignedIn, client: Client, tmp_path: Path, own: str) -> None:
    folder = tmp_path / f"scans {own}"
    names = ["a.csv", "sub/deep/b.txt", "sub/" + "n" * 120 + " \u05e9.bin", "sub-2/c", "Z", "empty"]
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * number * 1000)
    page = signed_in()
    page.goto("/datasets")
    page.get_by_role("button", name="Upload").click()
    page.get_by_label("Name", exact=True).first.fill("nothing-yet")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#up-fault")).to_contain_text("Choose a file")
    page.locator("#up-name").fill("")
    page.get_by_label("Or a folder").set_input_files(folder)
    expect(page.locator("#up-chosen")).to_contain_text("6 files")
    expect(page.locator("#up-name")).to_have_value(f"scans-{own}")
    page.locator("#up-labels").fill("team=vision")
    page.get_by_role("button", name="Upload").click()
    expect(page).to_have_url(re.compile(rf"/datasets/scans-{own}@1$"))
    kept = client.datasets.get(f"scans-{own}")
    assert (kept.is_folder, kept.labels) == (True, {"team": "vision"})
    # The same bytes as by the command line: it is the same content.
    assert client.datasets.register(f"scans-{own}-too", folder).digest == kept.digest
    page.goto("/datasets")
    page.get_by_label("Files", exact=True).set_input_files([folder / "a.csv", folder / "Z"])
    page.locator("#up-name").fill(f"two-{own}")
    page.get_by_role("button", name="Upload").click()
    expect(page).to_have_url(re.compile(rf"/datasets/two-{own}@1$"))
    with page.expect_download() as got:
        page.get_by_role("link", name="Download as tar").click()
    with tarfile.open(got.value.path()) as tar:
        assert tar.getnames() == ["Z", "a.csv"]
        content = tar.extractfile("Z")
        assert content is not None
        assert content.read() == (folder / "Z").read_bytes()


def test_a_folder_that_a_job_left(signed_in: SignedIn, client: Client) -> None:
    script = (
        "#!/bin/sh\n"
        "mkdir -p out/sub\n"
        "printf 'epoch,loss\\n1,0.5\\n' > out/table.csv\n"
        'printf \'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\' > out/sub/picture.svg\n'
        "printf '<b>fine</b>' > 'out/sub/notes <i>.txt'\n"
        "head -c 3000000 /dev/zero > out/sub/model.bin\n"
    )
    number = ended(client, JobRequest(name="left a folder", script=script, outputs=OUT))
    page = signed_in()
    page.goto(f"/jobs/{number}")
    page.get_by_role("link", name="out/", exact=True).click()
    rows = page.locator("#members .main")
    expect(rows).to_have_text(["sub/", "sub/model.bin", "sub/notes <i>.txt", "sub/picture.svg", "table.csv"])
    with page.expect_download() as got:
        page.get_by_label("Download sub/model.bin").click()
    assert got.value.suggested_filename == "model.bin"
    assert Path(got.value.path()).read_bytes() == bytes(3_000_000)
    page.get_by_role("link", name="sub/notes <i>.txt", exact=True).click()
    expect(page.get_by_label("Content")).to_have_text("<b>fine</b>")
    page.locator("h1 a.up").last.click()
    page.get_by_role("link", name="table.csv", exact=True).click()
    expect(page.locator("thead")).to_contain_text("loss")
    page.locator("h1 a.up").last.click()
    page.get_by_role("link", name="sub/picture.svg", exact=True).click()
    wait_for(lambda: page.locator("img.picture").evaluate("img => img.naturalWidth") == 9, "the picture to be drawn")
    with page.expect_download() as got:
        page.goto(f"/jobs/{number}")
        page.get_by_label("Download out").click()
    with tarfile.open(got.value.path()) as tar:
        assert "sub/picture.svg" in tar.getnames()
    # A place where no file begins, and a file that is no folder, are told as such.
    base = page.request.get(f"/jobs/{number}/files/{client.jobs.outputs(number)[0].id}?at=700")
    assert (base.status, "no folder" in base.text()) == (422, True)


def test_folders_come_as_zip_too_and_data_is_looked_into(
    signed_in: SignedIn, client: Client, tmp_path: Path, own: str
) -> None:
    folder = tmp_path / "scans"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/deep.csv").write_text("a,b\n1,2\n")
    (folder / "big.bin").write_bytes(bytes(range(256)) * 20_000)
    (folder / "link").symlink_to("big.bin")
    name = client.datasets.register(f"looked-{own}", folder).name
    page = signed_in()
    page.goto(f"/datasets/{name}")
    expect(page.locator("#members .main")).to_have_text(
        ["big.bin", re.compile("link → big.bin"), "sub/", "sub/deep.csv"]
    )
    with page.expect_download() as got:
        page.get_by_role("link", name="Download as zip").click()
    with zipfile.ZipFile(got.value.path()) as zipped:
        assert zipped.testzip() is None
        assert zipped.namelist() == ["big.bin", "link", "sub/", "sub/deep.csv"]
        assert zipped.read("big.bin") == (folder / "big.bin").read_bytes()
    page.get_by_role("link", name="sub/deep.csv", exact=True).click()
    expect(page.locator("thead")).to_contain_text("b")
    assert page.request.get(f"/datasets/{name}/file/zip?at=0").status == 404


SHARED = """
cwlVersion: v1.2
class: Workflow
requirements: {{ScatterFeatureRequirement: {{}}}}
inputs: {{texts: "string[]"}}
outputs: {{all: {{type: File, outputSource: join/out}}}}
steps:
  write: {{scatter: text, in: {{text: texts}}, out: [out], run: tools/write.cwl}}
  join:
    in: {{files: write/out}}
    out: [out]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'test -e {flag} || {{ echo no flag yet >&2; exit 4; }}; cat "$@"', sh]
      inputs: {{files: {{type: "File[]", inputBinding: {{}}}}}}
      outputs: {{out: {{type: stdout}}}}
      stdout: all.txt
"""
WRITE = """cwlVersion: v1.2
class: CommandLineTool
baseComand: echo
inputs: {text: {type: string, inputBinding: {}}}
outputs: {out: {type: stdout}}
stdout: text.txt
"""


def test_a_workflow_is_handed_in_watched_and_resumed(
    signed_in: SignedIn, client: Client, tmp_path: Path, own: str
) -> None:
    flag, folder = tmp_path / "flag", tmp_path / f"flow-{own}"
    (folder / "tools").mkdir(parents=True)
    (folder / f"main-{own}.cwl").write_text(SHARED.format(flag=flag))
    (folder / "tools/write.cwl").write_text(WRITE)
    page = signed_in()
    page.goto("/workflows")
    page.get_by_role("link", name="Run a workflow").click()
    page.locator("#pick-folder").set_input_files(folder)
    expect(page.locator("#picked")).to_contain_text("2 files taken")
    page.locator("#inputs").fill("texts: 7")
    page.get_by_role("button", name="Check").click()
    fault = page.locator(".document .fault")
    expect(fault).to_contain_text("Line 3")
    expect(fault).to_contain_text("Did you mean 'baseCommand'")
    expect(page.locator("#inputs")).to_have_value("texts: 7")
    # What is wrong stands at the file that it is in; what was typed stays.
    area = page.locator(".document", has=page.locator(".fault")).locator("textarea")
    area.fill(WRITE.replace("baseComand", "baseCommand"))
    page.locator("#process").fill(f"main-{own}.cwl")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("[id='f:inputs']")).to_contain_text("must be")
    page.locator("#inputs").fill('texts: ["<b>one</b>", two, three]')
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#plan svg")).to_contain_text("join")
    expect(page.locator("#plan tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile(r"/workflows/\d+$"))
    number = int(page.url.rpartition("/")[2])
    # Nothing is loaded again from here on.
    page.evaluate("window.mine = true")
    expect(page.locator("[data-step=write] .badge")).to_have_text("done", timeout=SLOW_MS)
    expect(page.locator("[data-step=join] .badge")).to_have_text("failed", timeout=SLOW_MS)
    expect(page.locator(".lead .badge")).to_have_text("FAILED", timeout=SLOW_MS)
    expect(page.get_by_label("The end of its log")).to_contain_text("no flag yet")
    assert page.evaluate("window.mine") is True
    flag.touch()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".lead .badge")).to_have_text("COMPLETED", timeout=SLOW_MS)
    expect(page.locator(".run-graph")).to_have_attribute("aria-label", re.compile("join done"))
    with page.expect_download() as got:
        page.get_by_role("link", name="Provenance").click()
    with zipfile.ZipFile(got.value.path()) as crate:
        assert f"main-{own}.cwl" in crate.namelist()
        assert "CompletedActionStatus" in crate.read("ro-crate-metadata.json").decode()
    client.jobs.download(number, "out", tmp_path / "out")
    assert (tmp_path / "out/all.txt").read_text() == "<b>one</b>\ntwo\nthree\n"
    # The tokens by which it was handed in, and by which it spoke, are good no more.
    tokens = [one for one in client.tokens.list() if one.name.startswith(("workflow-", "panel, while"))]
    assert tokens and all(one.revoked_at for one in tokens)
    page.get_by_role("link", name="Clone").click()
    expect(page.locator("#process")).to_have_value(f"main-{own}.cwl")
    expect(page.locator("#inputs")).to_have_value(re.compile("three"))
    page.locator("#inputs").fill("texts: [a]\nfile: {class: File, location: /etc/passwd}")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("[id='f:inputs']")).to_contain_text("not among the files")
    page.goto("/workflows")
    expect(page.locator("tbody tr", has_text=f"main-{own}.cwl")).to_contain_text("2 / 2")


def test_placement_is_seen_changed_and_tried(signed_in: SignedIn, client: Client, own: str) -> None:
    page = signed_in()
    page.goto("/placement")
    wrong = "metrics: {failures: {provider: our}}\nproviders: {ours: {kind: measured}}"
    page.get_by_label("In YAML").fill(wrong)
    page.locator("#rules").get_by_role("button", name="Let them hold").click()
    expect(page.locator("#rules-fault")).to_contain_text("metrics.failures.provider")
    expect(page.locator("#rules-fault")).to_contain_text("Did you mean 'ours'")
    expect(page.get_by_label("In YAML")).to_have_value(wrong)
    page.get_by_label("In YAML").fill(wrong.replace("our}", "ours, better: lower}"))
    page.locator("#rules").get_by_role("button", name="Let them hold").click()
    expect(page.locator(".said")).to_contain_text("hold from now on")
    expect(page.locator("#figures tbody tr").first).to_contain_text("local")
    page.get_by_text(re.compile("Refresh them|Bring some")).click()
    page.get_by_label("Where they are from").fill("prices.yaml")
    page.get_by_label("YAML, JSON or CSV").fill(f"offers: {{cloud/{own}: {{hour: -1}}}}")
    page.locator("#prices").get_by_role("button", name="Let them hold").click()
    expect(page.locator("#catalogue-fault")).to_contain_text("-1 can't be")
    page.get_by_label("YAML, JSON or CSV").fill(f"currency: EUR\noffers: {{cloud/{own}: {{hour: 3.5, gpus: 1}}}}")
    page.locator("#prices").get_by_role("button", name="Let them hold").click()
    expect(page.locator("#prices")).to_contain_text(f"cloud/{own}")
    assert client.placement.catalogue().catalogue.currency == "EUR"
    big = JobRequest(name=f"big {own}", command=("true",), resources=Resources(cpus=9_000), wait_for_site=True)
    number = client.jobs.submit(big).id
    page.get_by_role("link", name="What if").click()
    page.get_by_label("Number of job 1").fill(str(number))
    page.get_by_label("Nodes more at local").fill("two")
    page.get_by_role("button", name="What if").click()
    expect(page.locator("#whatif-fault")).to_contain_text("not a whole number")
    expect(page.get_by_label("Nodes more at local")).to_have_value("two")
    page.get_by_label("Nodes more at local").fill("+2")
    page.get_by_label("Deadline of job 1").fill("+3h")
    page.get_by_role("button", name="What if").click()
    expect(page.locator("#answer")).to_contain_text(f"{number} big {own}")
    client.jobs.kill(number)
    page.goto("/placement/simulate")
    page.get_by_role("button", name="Simulate").click()
    expect(page.locator("#problem-fault")).to_contain_text("There is no problem yet")
    page.get_by_label("Jobs", exact=True).fill("6")
    page.get_by_role("button", name="Make one up").click()
    page.get_by_role("button", name="Simulate").click()
    expect(page.locator("#costs tbody tr")).to_have_count(2)
    assert page.locator(".gantt svg").count() == 2
    page.get_by_role("button", name="Draw").click()
    expect(page.locator("#hull svg").first).to_be_visible()
    # Who may not change it sees it all the same.
    client.users.add(f"vic-{own}", Role.VIEWER)
    viewer = signed_in(client.tokens.create("v", user=f"vic-{own}").token)
    viewer.goto("/placement")
    expect(viewer.locator("#rules pre")).to_contain_text("failures")
    assert viewer.get_by_role("button", name="Let them hold").count() == 0
    viewer.goto("/workflows")
    assert viewer.get_by_role("link", name="Run a workflow").count() == 0
    assert viewer.request.get("/workflows/new").status == 403


def test_the_doctor_and_the_week(signed_in: SignedIn, client: Client) -> None:
    page = signed_in()
    page.locator("details.me summary").click()
    page.get_by_role("link", name="Doctor").click()
    checks = page.locator("#checks")
    for word in ("database", "supervisor", "store", "disk", "site local"):
        expect(checks).to_contain_text(word)
    assert checks.locator(".badge.bad").count() == 0
    page.goto("/sites")
    expect(page.locator("thead")).to_contain_text("Cost, 7 days")


def test_a_session_that_is_over(signed_in: SignedIn, client: Client) -> None:
    token = client.tokens.create("for a while")
    page = signed_in(token.token)
    page.goto("/jobs?q=nothing")
    client.tokens.revoke(token.id)
    page.get_by_role("link", name="Sites").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.locator(".said")).to_contain_text("not good any more")
    page.get_by_label("Access token").fill("ist_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".said.error")).to_contain_text("unknown")
    page.get_by_label("Access token").fill(client.tokens.create("again").token)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile("/sites$"))  # where one wanted to go
    page.locator("details.me summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto("/jobs")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_sign_in_by_password(signed_in: SignedIn, client: Client, plane: ControlPlane, chromium: Browser) -> None:
    client.users.remove_password("admin")
    page = signed_in()
    page.goto("/settings")
    assert page.get_by_role("button", name="Take it away").count() == 0
    page.get_by_label("New password").fill("correct horse")
    page.get_by_label("Again").fill("correct house")
    page.locator("form[action='/settings/password'] button").click()
    expect(page.locator("#again-fault")).to_contain_text("not the same")
    page.get_by_label("New password").fill("correct horse battery")
    page.get_by_label("Again").fill("correct horse battery")
    page.locator("form[action='/settings/password'] button").click()
    expect(page.locator(".said")).to_contain_text("Your password is set")
    with chromium.new_context(base_url=plane.url) as context:
        fresh = context.new_page()
        fresh.goto("/jobs")
        fresh.get_by_label("Name").fill("admin")
        fresh.get_by_label("Password").fill("wrong horse battery")
        fresh.get_by_role("button", name="Sign in").click()
        expect(fresh.locator(".said.error")).to_contain_text("don't go together")
        expect(fresh.get_by_label("Name")).to_have_value("admin")
        fresh.get_by_label("Password").fill("correct horse battery")
        fresh.get_by_role("button", name="Sign in").click()
        expect(fresh).to_have_url(re.compile("/jobs$"))
        cookie = next(one for one in context.cookies() if one["name"].endswith("-session"))
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    page.once("dialog", Dialog.accept)
    page.get_by_role("button", name="Take it away").click()
    expect(page.locator(".said")).to_contain_text("no password any more")


def test_the_server_goes_away_and_comes_back(
    signed_in: SignedIn, client: Client, plane: ControlPlane, own: str
) -> None:
    page = signed_in()
    page.goto(f"/jobs?q=afterwards+{own}")
    expect(page.locator("tbody")).to_contain_text("No job is like that")
    plane.kill()
    expect(page.locator("#news")).to_contain_text("does not answer")
    plane.start()
    expect(page.locator("#news")).to_contain_text("is back")
    ended(client, JobRequest(name=f"afterwards {own}", command=("true",)))
    expect(page.locator("tbody")).to_contain_text("afterwards")
    expect(page.locator("tbody .badge").first).to_have_text("COMPLETED")


def test_bad_input_is_told_at_its_field(signed_in: SignedIn) -> None:
    page = signed_in()
    page.goto("/submit")
    page.get_by_label("Command", exact=True).fill("python3 'unclosed")
    page.get_by_label("Cores on a node").fill("9000")
    page.locator(".side").get_by_role("button", name="Submit").click()
    expect(page.locator(".said.error")).to_contain_text("It was not submitted")
    expect(page.locator("[id='f:command']")).to_contain_text("No closing quotation")
    expect(page.get_by_label("Command", exact=True)).to_have_value("python3 'unclosed")
    expect(page.get_by_label("Cores on a node")).to_have_value("9000")
    page.get_by_label("Command", exact=True).fill("python3 x.py")
    expect(page.locator("#preview")).to_contain_text("does not fit")
    page.locator(".side").get_by_role("button", name="Submit").click()
    expect(page.locator("[id='f:resources.cpus']")).to_contain_text("it needs 9000 cores")
    page.get_by_label("Cores on a node").fill("1")
    page.get_by_label("Memory on a node").fill("much")
    page.locator(".side").get_by_role("button", name="Submit").click()
    expect(page.locator("[id='f:resources.mem']")).to_contain_text("is not a size")
    expect(page.get_by_label("Memory on a node")).to_have_value("much")


def test_strange_names_stay_harmless_and_readable(signed_in: SignedIn, client: Client) -> None:
    nasty = "\"'><img src=x onerror=alert(1)>"
    script = (
        "#!/bin/sh\n"
        'echo "isthmus: <i>loss</i>=1 step=1"\n'
        'echo \'{"<b>bold</b>": 2.5, "step": 1}\' >> "$ISTHMUS_REPORT"\n'
        "echo '<script>alert(2)</script> \u202etxet \U0001f600'\n"
        "printf '<b>x</b>,\"q\"\\n1,<script>alert(3)</script>\\n' > '<b>\U0001f600 שלום.csv'\n"
    )
    number = ended(
        client,
        JobRequest(
            name="שלום עולם مرحبا",
            script=script,
            labels={"<b>team</b>": nasty},
            outputs=(Output(path="*.csv"),),
        ),
    )
    failed = ended(client, JobRequest(command=("sh", "-c", f"echo '{nasty[2:]}' >&2; exit 3")), JobState.FAILED)
    page = signed_in()
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    for path in (
        "/",
        "/jobs",
        f"/jobs/{number}",
        f"/jobs/{failed}",
        f"/compare?job={number}",
        "/events",
        "/jobs?q=" + nasty,
    ):
        page.goto(path)
        assert page.locator("main img, main b, main i, main script").count() == 0, path
    page.goto(f"/jobs/{number}")
    expect(page.locator("h1 bdi")).to_have_text("שלום עולם مرحبا")
    expect(page.locator("#log-text")).to_contain_text("<script>alert(2)</script>")
    page.get_by_role("link", name="<b>\U0001f600 שלום.csv", exact=True).click()
    expect(page.locator("th").first).to_have_text("<b>x</b>")
    expect(page.locator("td").nth(1)).to_have_text("<script>alert(3)</script>")


def test_priority_and_the_queue(signed_in: SignedIn, client: Client, own: str) -> None:
    blockers = [running(client, name="blocker")]
    big = JobRequest(name=f"turn {own}", command=("true",), resources=Resources(cpus=10_000), wait_for_site=True)
    first, second, third = (client.jobs.submit(big).id for _ in range(3))
    page = signed_in()
    page.goto(f"/jobs?order=queue&q=turn+{own}")

    def order() -> list[str]:
        return page.locator("tbody .id").all_inner_texts()

    assert order() == [str(first), str(second), str(third)]
    page.locator(f"#row-{third}").drag_to(page.locator(f"#row-{first}"))
    expect(page.locator(".said")).to_contain_text(f"Job {third}: priority 1")
    page.goto(f"/jobs?order=queue&q=turn+{own}")
    assert order() == [str(third), str(first), str(second)]
    page.get_by_label(f"Mark job {second}").check()
    page.get_by_label("Priority", exact=True).fill("7")
    page.locator("#bulk-bar").get_by_role("button", name="Set").click()
    expect(page.locator(".said")).to_contain_text(f"Job {second}: priority 7")
    assert client.jobs.get(second).priority == 7
    # Why it waits: the page of the job says it for each site.
    page.goto(f"/jobs/{first}")
    expect(page.locator("#explain")).to_contain_text("it needs 10000 cores")
    expect(page.locator("#explain")).to_contain_text("does not fit")
    client.jobs.kill(first, second, third, *blockers)
    for number in blockers:
        client.jobs.wait(number)


def test_views_filters_and_keys(signed_in: SignedIn, client: Client, own: str) -> None:
    number = ended(client, JobRequest(name="findable", command=("true",), labels={"team": own}))
    page = signed_in()
    ready(page)
    page.keyboard.press("/")
    page.keyboard.type(str(number))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/jobs/{number}$"))
    page.goto(f"/jobs?label=team={own}&state=COMPLETED&since=3h")
    assert page.locator("tbody tr").count() == 1
    page.get_by_label("Name of this view").fill(f"{own}'s own")
    page.get_by_role("button", name="Save view").click()
    page.goto("/jobs")
    page.get_by_role("link", name=f"{own}'s own").click()
    expect(page).to_have_url(re.compile(f"label=team%3D{own}"))
    ready(page)
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_label(f"Mark job {number}")).to_be_checked()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/jobs/{number}$"))
    ready(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page).to_have_url(re.compile("/sites$"))


def test_a_long_log(signed_in: SignedIn, client: Client) -> None:
    lines = 400_000
    script = f"#!/bin/sh\nseq -f 'line %.0f of many' 1 {lines}\necho needle in the hay\nseq -f 'after %.0f' 1 2000\n"
    number = ended(client, JobRequest(name="talkative", script=script))
    page = signed_in()
    page.goto(f"/jobs/{number}")
    text = page.locator("#log-text")
    expect(text).to_contain_text("after 2000")
    assert text.evaluate("pre => pre.textContent.length") < 200_000
    page.get_by_label("Search the log").fill("NEEDLE")
    page.keyboard.press("Enter")
    expect(page.locator("#log-hits")).to_contain_text("1 found")
    page.locator("#log-hits button").click()
    expect(text).to_contain_text(f"line {lines} of many")
    for _ in range(3):
        text.evaluate("pre => { pre.scrollTop = 0; }")
        wait_for(lambda: text.evaluate("pre => pre.scrollTop") > 0, "an earlier piece of the log")
    assert text.evaluate("pre => pre.textContent.length") < 2_200_000
    with page.expect_download() as kept:
        page.locator("#log").get_by_role("link", name="Download").click()
    assert Path(kept.value.path()).read_text().count("\n") == lines + 2001


def test_sites_and_people(signed_in: SignedIn, client: Client, own: str) -> None:
    page = signed_in()
    page.goto("/sites/local")
    page.get_by_role("button", name="Drain").click()
    expect(page.locator(".lead .badge")).to_have_text("draining")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".lead .badge")).to_have_text("up")
    page.get_by_role("button", name="Test").click()
    expect(page.locator(".said")).to_contain_text("local answered")
    page.get_by_label("Spec in YAML").fill("name: local\nprise: {cpu_hour: 1}")
    page.get_by_role("button", name="Change").click()
    expect(page.locator("#spec-fault")).to_contain_text("Did you mean 'price'")
    expect(page.get_by_label("Spec in YAML")).to_have_value("name: local\nprise: {cpu_hour: 1}")
    page.get_by_label("Spec in YAML").fill("name: local\nprice: {node_hour: 1.25}")
    page.get_by_role("button", name="Change").click()
    expect(page.locator("#site")).to_contain_text("1.25 a node")
    page.goto("/datasets")
    page.get_by_label("Unused for").fill("long")
    page.get_by_role("button", name="How much?").click()
    expect(page.locator("#unused-fault")).to_contain_text("Write it like")
    expect(page.get_by_label("Unused for")).to_have_value("long")
    page.goto("/add-site")
    page.get_by_label("Name", exact=True).fill("Bad Name")
    page.get_by_label("Address").fill("local:")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#name-error")).to_contain_text("is not a name for a site")
    page.get_by_label("Address").fill("/etc/passwd")
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".said.error")).to_contain_text("is not the address of a site")
    expect(page.get_by_label("Address")).to_have_value("/etc/passwd")
    page.goto("/people")
    page.locator("form[action='/people'] input[name=name]").fill(f"mara-{own}")
    page.get_by_role("button", name="Add").click()
    token = page.locator(".token").inner_text()
    with Client(page.url.partition("/people")[0], token) as mara:
        assert mara.users.me().user == f"mara-{own}"


PROGRAM = """#!{python}
import sys
sys.path.insert(0, {source!r})
from isthmus.tasks import start, task, wait_on

@task(returns=1)
def load(x):
    return x

@task(returns=1)
def merge(a, b):
    return a + b

if __name__ == "__main__":
    start(workers=2)
    loaded = [load(x) for x in range(10)]
    assert sum(wait_on([merge(loaded[i], loaded[i + 1]) for i in range(0, 10, 2)])) == 45
"""
SOURCE = Path(__file__).parents[2] / "src"
RULES = ["wcag2a", "wcag2aa", "wcag21aa"]


def test_tasks_and_axe_on_every_page(signed_in: SignedIn, client: Client, own: str) -> None:
    program = PROGRAM.format(python=sys.executable, source=str(SOURCE))
    jobs = client.jobs.submit_many(
        [
            JobRequest(name="good", script=TRAIN),
            JobRequest(name="folder", script="#!/bin/sh\nmkdir out; echo x > out/x\n", outputs=OUT),
            JobRequest(name="bad", command=("sh", "-c", "exit 3")),
            JobRequest(name="tasks", script=program),
            # As a run tells of itself: what it says of its steps is all that its page shows of them.
            JobRequest(
                name=f"workflow axe-{own}",
                labels={"isthmus.workflow": f"axe-{own}", "isthmus.submitted": own},
                script=TOLD,
            ),
        ]
    )
    for job in jobs:
        client.jobs.wait(job.id)
    good, folder, bad, tasks, run = (job.id for job in jobs)
    left = client.jobs.outputs(folder)[0].id
    page = signed_in()
    # A program's tasks: its graph by function, and its workers.
    page.goto(f"/jobs/{tasks}")
    graph = page.locator(".task-graph")
    for words in ("load", "10/10", "merge", "5/5"):
        expect(graph).to_contain_text(words)
    expect(page.locator("#tasks")).to_contain_text("15 done")
    assert page.locator("figure[data-name='tasks/per_s']").count() == 1
    assert page.locator("figure[data-name='tasks/of/load/calls']").count() == 0
    page.goto(f"/jobs/{good}")
    assert page.locator("#tasks").count() == 0
    page.goto(f"/workflows/{run}")
    expect(page.locator("[data-step='train/fit'] .badge")).to_have_text("running")
    assert page.locator(".run-graph .box").count() == 2

    paths = [
        "/",
        "/jobs",
        "/jobs?order=queue",
        "/submit",
        "/sites",
        "/sites/local",
        "/add-site",
        "/datasets",
        "/images",
    ]
    paths += ["/people", "/events", "/settings", "/doctor", "/plan", "/no-such-page", f"/compare?job={good}&job={bad}"]
    paths += [f"/jobs/{good}", f"/jobs/{bad}?explain=1", f"/jobs/{folder}", f"/jobs/{folder}/files/{left}"]
    paths += [f"/jobs/{tasks}", "/workflows", f"/workflows/{run}", "/workflows/new"]
    paths += ["/placement", "/placement/whatif", "/placement/simulate"]
    found = []
    for path in paths:
        page.set_viewport_size({"width": 1360, "height": 850})
        page.emulate_media(color_scheme="light")
        page.goto(path)
        if path == f"/jobs/{tasks}":
            expect(graph).to_contain_text("merge")
        page.evaluate(AXE)
        result = page.evaluate(f"axe.run(document, {{runOnly: {RULES}, resultTypes: ['violations']}})")
        # Dark has other colours and the same structure; a phone the same page in another width.
        page.emulate_media(color_scheme="dark")
        dark = page.evaluate("axe.run(document, {runOnly: ['color-contrast'], resultTypes: ['violations']})")
        for fault in (*result["violations"], *dark["violations"]):
            if fault["impact"] in ("serious", "critical"):
                found.append((path, fault["id"], [node["html"][:200] for node in fault["nodes"]][:3]))
        page.set_viewport_size({"width": 390, "height": 844})
        if path.startswith("/jobs/"):  # its curves are drawn for the width that they find
            page.reload()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append((path, f"{wide} px too wide on a phone", []))
    assert not found, "\n".join(map(str, found))


TOLD = """#!/bin/sh
cat >> "$ISTHMUS_REPORT" <<'end'
{"workflow/step/prepare/order": 0, "workflow/step/prepare/started": 2, "workflow/step/prepare/done": 2}
{"workflow/step/train/order": 1, "workflow/step/train/fit/order": 2, "workflow/step/train/fit/started": 3}
{"workflow/step/train/fit/done": 1, "workflow/step/train/fit/wall_s": 4, "workflow/step/train/fit/end_s": 5}
{"workflow/site/local/train/fit": 1, "workflow/edge/0/1": 1}
end
"""


def test_what_every_answer_says(plane: ControlPlane, client: Client) -> None:
    with httpx.Client(base_url=plane.url) as browser:
        answer = browser.get("/jobs")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Fjobs")
        answer = browser.get("/sign-in?next=https://elsewhere.example/")
        assert 'name="next" value="/"' in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "style=" not in answer.text
        assert not re.search(r"<script(?! src)", answer.text)
        link = client.users.sign_in_link().url
        assert browser.get(link).status_code == 303
        assert browser.get("/jobs").status_code == 200
        again = browser.get(link)
        assert (again.status_code, "used already" in again.text) == (401, True)
        for path in (
            "/",
            "/jobs",
            "/submit",
            "/sites",
            "/datasets",
            "/people",
            "/settings",
            "/events",
            "/compare",
            "/doctor",
            "/plan",
            "/workflows",
            "/workflows/new",
            "/placement",
            "/placement/whatif",
            "/placement/simulate",
        ):
            text = browser.get(path).text
            assert "style=" not in text, path
            assert " on" not in re.sub(r'"[^"]*"', "", " ".join(re.findall(r"<[a-z][^>]*>", text))), path
        assert browser.get("/v1/jobs").status_code == 401  # the API takes tokens, never cookies
        assert browser.get("/nowhere").status_code == 404
        assert browser.get("/static/x/../../visitor.py").status_code == 404


def test_live_is_told_to_many(plane: ControlPlane, client: Client) -> None:
    with httpx.Client(base_url=plane.url, timeout=30) as browser:
        browser.get(client.users.sign_in_link().url)
        with browser.stream("GET", "/live") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event")) == "event: hello"
            job = client.jobs.submit(JobRequest(name="heard", command=("true",)))
            until = time.monotonic() + 30
            states: list[str] = []
            for line in lines:
                if line.startswith("data: {") and line != "data: {}":
                    cells = json.loads(line[6:]).get("cells", {}).get(str(job.id))
                    states += re.findall(r'badge \w+" title="[^"]*">(\w+)<', cells["state"]) if cells else []
                if "COMPLETED" in states:
                    break
                assert time.monotonic() < until, states
