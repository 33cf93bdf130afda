"""Tasks that are jobs beside tasks that are not: one program, on a real control plane, on a machine and a cluster."""

import os
from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid
from isthmus.domain.sites import SiteSpec
from isthmus.tasks import COLLECTION_IN, FILE_IN, FILE_OUT, INOUT, TaskError, start, stop, task, wait_on
from isthmus.tasks.constraints import constraint
from isthmus.tasks.directions import TABLE
from isthmus.tasks.kinds.decorators import binary, mpi
from tests.testbed.control import ControlPlane

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    from tests.testbed.slurm import SlurmCluster

    folder = tmp_path_factory.mktemp("plane")
    os.chmod(folder, 0o755)
    with SlurmCluster(nodes=2) as cluster, ControlPlane(folder / "plane", env=cluster.env()) as plane:
        with plane.client() as client:
            client.sites.add(SiteSpec(name="cluster", kind="slurm", workdir=str(folder / "work")))
        yield plane


@pytest.fixture(autouse=True, params=["processes", "threads"])
def program(request, plane, monkeypatch):
    monkeypatch.setenv("ISTHMUS_URL", plane.url)
    monkeypatch.setenv("ISTHMUS_TOKEN", plane.token)
    start(engine=request.param, workers=2)
    yield
    stop(kill=True)


@task(returns=1)
def here(x):
    return x + 1


@task(returns=2, site="cluster")
def there(x, more):
    return x * 10, os.environ.get("SLURM_JOB_ID", "")


@task(values=INOUT, resources={"cpus": 1}, returns=1)
def changes(values):
    values.append(len(values))
    return "changed"


@task(source=FILE_IN, result=FILE_OUT, site="cluster")
def copies(source, result):
    with open(source) as given, open(result, "w") as made:
        made.write(given.read().upper())


@task(site="local", returns=1, on_failure="FAIL")
def fails():
    raise ValueError("there it failed")


@task(values=COLLECTION_IN, returns=1)
def total(values):
    return sum(values)


@mpi(runner="mpirun", binary="sh", args="-c 'echo rank $OMPI_COMM_WORLD_RANK'", processes=2)
@task(result=TABLE["FILE_STDOUT"], site="cluster", returns=int)
def ranks(result):
    pass


@binary(binary="sort")
@task(source=FILE_IN, result=TABLE["FILE_STDOUT"], site="local")
def sort(source, result):
    pass


def test_values_and_files_go_there_and_come_back(tmp_path):
    value, number = there(here(1), [1, 2])
    assert wait_on(here(value)) == 21
    assert wait_on(number).isdigit()
    values = [7]
    assert wait_on(changes(values)) == "changed"
    assert wait_on(values) == [7, 1]
    source, result = tmp_path / "in", tmp_path / "out"
    source.write_text("abc")
    copies(str(source), str(result))

    @task(path=FILE_IN, returns=1)
    def read(path):
        return Path(path).read_text()

    assert wait_on(read(str(result))) == "ABC"


def test_programs_and_ranks_are_jobs(tmp_path):
    source = tmp_path / "in"
    source.write_text("b\na\n")
    sort(str(source), str(tmp_path / "sorted"))
    assert wait_on(ranks(str(tmp_path / "ranks"))) == 0
    stop()
    assert (tmp_path / "sorted").read_text() == "a\nb\n"
    assert sorted((tmp_path / "ranks").read_text().splitlines()) == ["rank 0", "rank 1"]


@constraint(computing_units=3)
@task(returns=2)
def wide(x):
    return x + 1, os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")


@constraint(computing_units=4000)
@task(returns=1)
def wider(x):
    return x


def test_what_this_machine_lacks_becomes_a_job_and_what_all_lack_is_said():
    value, processors = wide(here(1))
    assert wait_on(value) == 3
    assert int(wait_on(processors)) >= 3
    with pytest.raises(Invalid, match="No site can run it"):
        wait_on(wider(1))


def test_a_failed_job_says_which_and_what_it_said():
    with pytest.raises(TaskError, match=r"job \d+ is FAILED") as caught:
        wait_on(fails())
    assert "there it failed" in "\n".join(caught.value.__notes__)


def test_a_site_that_there_is_not_is_the_platforms_own_error():
    @task(returns=1, site="clutser")
    def lost():
        return 1

    with pytest.raises(Invalid, match="cluster"):
        wait_on(lost())
