"""Ray for contract tests: one cluster on this machine for the whole test process, where Ray is installed.

`make test-ray` installs it and runs the tests of tasks on it. `make test` does not: two minutes more, for an engine
that no other part builds on.
"""

import importlib.util
import logging
import os

INSTALLED = importlib.util.find_spec("ray") is not None
ENGINE = ("ray",) if INSTALLED and os.environ.get("ISTHMUS_TEST_RAY") else ()


def cluster() -> None:
    """Have a cluster of two processors, which engines started from now on join and leave as it is."""
    import ray

    if not ray.is_initialized():
        ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
