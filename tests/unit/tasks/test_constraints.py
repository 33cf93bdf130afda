"""Constraints: values from everywhere, and what can't be met said at once."""

import warnings

import pytest

from isthmus.domain.errors import Invalid
from isthmus.tasks import task
from isthmus.tasks.constraints import constraint, units


def declared(**given):
    @constraint(**given)
    @task(returns=1)
    def f(x, n=1):
        return x

    return f


def test_values_come_from_numbers_strings_variables_and_arguments(monkeypatch):
    monkeypatch.setenv("ComputingUnits", "2")
    assert units(declared(computing_units=2), {}, 4) == 2
    assert units(declared(computing_units="3"), {}, 4) == 3
    assert units(declared(computing_units="${ComputingUnits}"), {}, 4) == 2
    assert units(declared(computing_units="$ComputingUnits"), {}, 4) == 2
    assert units(declared(computing_units="n"), {"n": 4}, 4) == 4
    assert units(declared(computing_units="2 * n + len(x)"), {"n": 1, "x": [1]}, 4) == 3
    assert units(declared(computingUnits=2), {}, 4) == 2
    assert units(declared(processors=[{"processorType": "CPU", "computingUnits": "2"}]), {}, 4) == 2


def test_a_variable_that_is_not_set_is_told_once(monkeypatch):
    monkeypatch.delenv("NotSetAnywhere", raising=False)
    task = declared(computing_units="${NotSetAnywhere}")
    with pytest.warns(UserWarning, match="NotSetAnywhere"):
        assert units(task, {}, 2) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert units(task, {}, 2) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"computing_units": 3}, "2 workers"),
        ({"memory_size": 1e9}, "GB of memory"),
        ({"processor_architecture": "vax"}, "vax"),
        ({"processors": [{"processor_type": "FPGA", "computing_units": 1}]}, "FPGA"),
        ({"computing_units": "many"}, "no number"),
        ({"computing_units": -1}, "less than 0"),
    ],
)
def test_what_cannot_be_met_is_said_with_what_there_is(given, says):
    with pytest.raises(Invalid) as caught:
        units(declared(**given), {}, 2)
    assert says in str(caught.value)


def test_an_unknown_constraint_has_a_nearest_word():
    with pytest.raises(Invalid, match="computing_units"):
        constraint(computing_unit=1)
