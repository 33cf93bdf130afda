"""Engines of tasks as fixtures: `engine` is each in turn, `parallel` those with workers, `apart` those with processes.

Ray is one of them where ISTHMUS_TEST_RAY says so.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isthmus.tasks import start, stop
from tests.testbed import ray

__all__ = ["apart", "engine", "parallel"]

PARALLEL = ("threads", "processes", *ray.ENGINE)


def started(engine: str) -> Iterator[str]:
    """An engine with two workers, which ends with the test."""
    if engine == "ray":
        ray.cluster()
    start(engine=engine, workers=2)
    yield engine
    stop(kill=True)


@pytest.fixture(params=("sequential", *PARALLEL))
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from started(request.param)


@pytest.fixture(params=PARALLEL)
def parallel(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from started(request.param)


@pytest.fixture(params=("processes", *ray.ENGINE))
def apart(request: pytest.FixtureRequest) -> Iterator[str]:
    """Engines whose tasks have copies of their own, in processes that can die."""
    yield from started(request.param)
