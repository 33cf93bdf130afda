"""What programs of PyCOMPSs count on, the same on every engine."""

import threading
import time

import numpy as np
import pytest

from isthmus.domain.errors import Invalid
from isthmus.tasks import start, stop, task, wait_on
from isthmus.tasks.directions import TABLE
from tests.contract.test_tasks import ENGINES, PARALLEL, started


@pytest.fixture(params=ENGINES)
def engine(request):
    yield from started(request.param)


@pytest.fixture(params=PARALLEL)
def parallel(request):
    yield from started(request.param)


@task(spreads=True)
def spread(x):
    if x > 1:
        return x, [x]
    return x + 1, None


class Counter:
    def __init__(self, n):
        self.n = n

    @task()
    def add(self, more):
        self.n += more

    @task(target_direction=TABLE["IN"], returns=1)
    def doubled(self):
        return 2 * self.n


@task(returns=Counter)
def counter(n):
    time.sleep(0.05)
    return Counter(n)


def test_what_a_return_statement_writes_out_is_several_values(engine):
    first, second = spread(3)
    assert wait_on(first, second) == [3, [3]]
    assert list(wait_on(spread(1))) == [2, None]


@task(returns=1)
def zeros(dtype):
    return np.zeros(3, dtype)


def test_a_class_is_an_argument_as_any_other(engine):
    assert wait_on(zeros(np.float32)).dtype == np.float32


@task(returns=1)
def seen(values):
    return values


@task(returns=1)
def unsendable():
    return threading.Lock()


def test_what_cannot_be_pickled_is_named_with_its_place():
    start(engine="processes", workers=2)
    try:
        with pytest.raises(Invalid, match=r"The lock values\['deep'\]\[1\] in the argument 'values' .*seen"):
            seen({"deep": [zeros(int), threading.Lock()]})
        with pytest.raises(Invalid, match=r"The argument 'values' of .*seen can't be sent"):
            seen(threading.Lock())
        with pytest.raises(TypeError) as failed:
            wait_on(unsendable())
        assert "can't be sent back" in str(failed.value.__notes__) and "unsendable" in str(failed.value.__notes__)
    finally:
        stop(kill=True)


def test_methods_that_are_tasks_are_called_on_futures(engine):
    made = counter(4)
    made.add(3)
    made.add(wait_on(counter(1)).n)
    assert wait_on(made.doubled()) == 16
    assert wait_on(made).n == 8
    made.add(1)  # its class is known by its value now
    assert wait_on(made).n == 9


def test_a_future_says_why_it_has_no_attribute(parallel):
    made = counter(4)
    with pytest.raises(AttributeError, match="wait_on it first"):
        made.n  # noqa: B018
    assert not hasattr(made, "anything")


# -- pycompss.interactive --------------------------------------------------------------------------------------------


@pytest.fixture
def prompt(tmp_path, monkeypatch):
    """Where a person types, with nothing running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISTHMUS_TASKS_WORKERS", "2")
    yield {"task": task, "__name__": "__main__"}
    stop(kill=True)


def test_stop_brings_the_prompts_variables_up_to_date(prompt, capsys, tmp_path):
    from isthmus.tasks.pycompss import interactive

    said = (
        "interactive.start(graph=True, trace=True, project_xml='project.xml', debug=True)\n"
        "a = add(2, 3)\n"
        "several = [add(a, 1), 7]\n"
        "values = [1]\n"
        "append(values)\n"
        "interactive.tasks_info()\n"
        "drawn = interactive.current_task_graph()\n"
        "interactive.stop(sync=True)\n"
    )
    prompt |= {"interactive": interactive, "add": add_two, "append": append_one}
    exec(said, prompt)
    assert (prompt["a"], prompt["several"], prompt["values"]) == (5, [6, 7], [1, 1])
    assert "add_two: 2 called" in capsys.readouterr().out
    assert prompt["drawn"].count("<circle") >= 3
    assert (tmp_path / "trace.prv").exists()
    interactive.stop()
    assert "not running" in capsys.readouterr().out


def test_what_start_is_told_wrongly_has_a_nearest(prompt):
    from isthmus.tasks.pycompss import interactive

    with pytest.raises(Invalid, match="graph"):
        interactive.start(grahp=True)


@task(returns=1)
def add_two(a, b):
    return a + b


@task(values=TABLE["INOUT"])
def append_one(values):
    values.append(1)
