"""GPUs on a machine without any: a library that answers as NVIDIA's does, compiled when it is first asked for."""

from __future__ import annotations

import functools
from pathlib import Path

from tests.testbed.daemon import run
from tests.testbed.errors import program

SOURCE = Path(__file__).parent / "fake_nvml.c"


@functools.cache
def library(folder: Path) -> Path:
    """The folder to put on LD_LIBRARY_PATH; the environment variable NVIDIA_FAKE_GPUS says how many there are."""
    target = folder / "libnvidia-ml.so.1"
    words = [program("cc"), "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(target), str(SOURCE)]
    run(words, what="compiling the library of the GPUs")
    return folder
