"""Settings: what is given goes over the environment, over the defaults; nonsense names its place."""

import pytest

from isthmus.domain.errors import Invalid
from isthmus.tasks.settings import settings


def test_what_is_given_goes_over_the_environment():
    found = settings({"workers": 3}, {"ISTHMUS_TASKS": "threads", "ISTHMUS_TASKS_WORKERS": "5"})
    assert (found.engine, found.workers) == ("threads", 3)


@pytest.mark.parametrize(
    ("given", "environment", "says"),
    [
        ({}, {"ISTHMUS_TASKS": "thread"}, "ISTHMUS_TASKS: 'thread' is no engine. Did you mean 'threads'?"),
        ({}, {"ISTHMUS_TASKS_WORKERS": "two"}, "ISTHMUS_TASKS_WORKERS"),
        ({"worker": 2}, {}, "workers"),
        ({"workers": -1}, {}, "too small"),
        ({"start": "boot"}, {}, "fork"),
    ],
)
def test_nonsense_names_its_place(given, environment, says):
    with pytest.raises(Invalid) as caught:
        settings(given, environment)
    assert says in str(caught.value)
