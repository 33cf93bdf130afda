"""The job's page of a program with tasks, on a real control plane, in a real job."""

import sys
from pathlib import Path

import httpx
import pytest

from isthmus.domain.jobs import JobRequest
from isthmus.domain.states import JobState
from tests.testbed.control import ControlPlane

pytestmark = pytest.mark.system

SOURCE = Path(__file__).parents[2] / "src"

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


def test_a_job_shows_its_tasks(tmp_path):
    with ControlPlane(tmp_path / "plane") as plane, plane.client() as client:
        script = PROGRAM.format(python=sys.executable, source=str(SOURCE))
        job = client.jobs.submit(JobRequest(script=script))
        ended = client.jobs.wait(job.id)
        assert ended.state is JobState.COMPLETED, ended
        with httpx.Client(base_url=plane.url, follow_redirects=True, timeout=60) as browser:
            browser.get(client.users.sign_in_link().url)
            page = browser.get(f"/jobs/{job.id}").text
            assert f'hx-get="/jobs/{job.id}/tasks?attempt=1"' in page
            assert 'data-name="tasks/per_s"' in page
            assert 'data-name="tasks/of/load/calls"' not in page
            tasks = browser.get(f"/jobs/{job.id}/tasks?attempt=1").text
            assert "15 done" in tasks
            assert "10/10" in tasks
            assert "5/5" in tasks
            assert "worker 0" in tasks or "worker 1" in tasks
            assert "style=" not in tasks  # the page's policy forbids it
            other = client.jobs.submit(JobRequest(command=("true",)))
            client.jobs.wait(other.id)
            assert 'id="tasks"' not in browser.get(f"/jobs/{other.id}").text
