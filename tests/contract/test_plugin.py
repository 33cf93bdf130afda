"""The batch system that docs/write-a-batch-system.md shows, as a package of somebody else's, runs jobs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import JobSpec
from isthmus.domain.sites import SiteSpec
from isthmus.domain.units import Seconds
from isthmus.sites import kinds, open_site
from isthmus.sites.base import Kill, Known, Polled, Site, Submission, Submitted
from isthmus.sites.kinds import Where, check_site, find_kind

DOCUMENT = Path(__file__).parents[2] / "docs" / "write-a-batch-system.md"
SPEC = SiteSpec(name="toy", kind="detached", poll=Seconds(1), options={"nice": 5})
LONG_S = 60


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The document's two files, installed as the package isthmus_detached."""
    module, kind = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    package = tmp_path / "isthmus_detached"
    package.mkdir()
    (package / "batch.py").write_text(module)
    (package / "__init__.py").write_text(kind)
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("detached", "isthmus_detached:KIND", kinds.GROUP)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point])
    caches = (kinds._found, kinds.find_kind)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()
    for name in ("isthmus_detached", "isthmus_detached.batch"):
        sys.modules.pop(name, None)


@pytest.fixture
async def site(plugin: None, tmp_path: Path) -> Any:
    there = open_site(SPEC, instance="0badc0de", data_dir=tmp_path / "data")
    yield there
    await there.close()


async def submission(site: Site, key: str, *command: str) -> Submission:
    inventory = await site.probe()
    assert inventory.batch == "detached"
    assert inventory.queues[0].nodes[0].cpus >= 1
    job = JobSpec(command=command)
    batch, argv = find_kind("detached").render(SPEC, inventory, job, Where(key=key, queue="all"))
    assert argv == ("nice", "-n", "5")
    described = {"key": key, "job_id": 1, "attempt": 1, "command": list(command), "env": {}, "grace_s": 20}
    return Submission(key, described, {}, batch, argv)


async def until(site: Site, key: str, native_id: str, kind: str) -> dict[str, Any]:
    """The first report of that kind."""
    offset, state = 0, ""
    async with asyncio.timeout(LONG_S):
        while True:
            polled: Polled = await site.poll({key: Known(native_id, offset, state)}, wait_s=5)
            assert polled.query_error == ""
            seen = polled.attempts.get(key)
            if seen is None:
                continue
            state = seen.native_state or state
            offset += len(seen.reports)
            for line in seen.reports.splitlines():
                report: dict[str, Any] = json.loads(line)
                if report["kind"] == kind:
                    return report


async def test_a_job_runs_once_however_often_it_is_submitted(site: Site) -> None:
    one = await submission(site, "1.1-aaaa", "sh", "-c", "echo hello; exit 3")
    answers = [(await site.submit([one]))[one.key] for _ in range(3)]
    assert len(set(answers)) == 1
    (first, *_) = answers
    assert isinstance(first, Submitted)
    final = await until(site, one.key, first.native_id, "finished")
    assert (final["exit_code"], final["reason"]) == (3, "EXIT_CODE")
    assert (await site.logs(one.key)).data == b"hello\n"


async def test_a_kill_gives_its_grace(site: Site) -> None:
    one = await submission(
        site, "2.1-aaaa", "sh", "-c", "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    )
    answer = (await site.submit([one]))[one.key]
    assert isinstance(answer, Submitted)
    await until(site, one.key, answer.native_id, "started")
    assert (await site.locate({one.key: answer.native_id}))[one.key]
    async with asyncio.timeout(LONG_S):
        while b"up" not in (await site.logs(one.key)).data:
            await site.poll({one.key: Known(answer.native_id)}, wait_s=0.1)
    assert await site.kill({one.key: Kill(answer.native_id)}) == {one.key: None}
    final = await until(site, one.key, answer.native_id, "finished")
    assert final["reason"] == "KILLED"
    assert (await site.logs(one.key)).data.replace(b"Terminated\n", b"") == b"up\nsaved\n"


async def test_a_job_that_vanishes_is_gone(site: Site) -> None:
    polled = await site.poll({"3.1-aaaa": Known("1-1")}, wait_s=5)
    assert polled.attempts["3.1-aaaa"].state == "gone"


def test_its_options_are_checked_like_any_others(plugin: None) -> None:
    check_site(SPEC)
    with pytest.raises(Invalid, match="nice"):
        check_site(dataclasses.replace(SPEC, options={"nicce": 1}))
