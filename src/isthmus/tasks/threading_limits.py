"""How many threads numerical libraries may take, so that workers side by side don't take each other's processors.

Variables such as OMP_NUM_THREADS are read when a library is loaded; for OpenBLAS, OpenMP (scikit-learn's loops) and
PyTorch, loaded already, there are calls. What somebody has set in the environment is left as it is.
"""

import ctypes
import os
import sys
from contextlib import suppress
from typing import Any

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_STEMS = ("openblas_set_num_threads", "scipy_openblas_set_num_threads", "omp_set_num_threads")
_LIBRARIES = ("openblas", "libgomp", "libomp", "libiomp")
_chosen = {name for name in _VARIABLES if name in os.environ}


def limit(count: int) -> None:
    """At most `count` threads from now on, in this process."""
    if "OMP_NUM_THREADS" in _chosen or "OPENBLAS_NUM_THREADS" in _chosen:
        return
    for name in _VARIABLES:
        if name not in _chosen:
            os.environ[name] = str(count)
    for path in _loaded():
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(path)
            for stem in _STEMS:
                for suffix in ("", "64_"):  # with one more underscore it is Fortran's, and takes a pointer
                    call = getattr(library, stem + suffix, None)
                    if call is not None:
                        call(ctypes.c_int(count))
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):  # it counts for itself
        torch.set_num_threads(count)


def _loaded() -> set[str]:
    """The libraries with threads of their own that this process has loaded."""
    try:
        with open("/proc/self/maps") as maps:
            words = (line.split(maxsplit=5) for line in maps if any(name in line for name in _LIBRARIES))
            return {parts[5].strip() for parts in words if len(parts) == 6}
    except OSError:
        return set()
