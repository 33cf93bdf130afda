"""`@task(numba=...)`: the function as numba compiles it, where the task runs."""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.declaration import Task, place_of

MODES = ("jit", "njit", "generated_jit", "vectorize", "guvectorize", "stencil", "cfunc")


def compiled(task: Task) -> Callable[..., Any]:
    """The compiled function, made once in each process. Raises Invalid where numba is not there, or has no such mode.

    `numba` is True, a mode's name, or flags of `jit`; `numba_flags`, `numba_signature` and `numba_declaration` are
    what numba's own decorators take (numba.readthedocs.io).
    """
    found: Callable[..., Any] | None = task.__dict__.get("_compiled")
    if found is None:
        found = task.__dict__["_compiled"] = functools.wraps(task.function)(_made(task))
    return found


def _made(task: Task) -> Callable[..., Any]:
    options, function = task.options, task.function
    mode: Any = options.numba
    flags: dict[str, Any] = dict(options.numba_flags)
    if isinstance(mode, Mapping):
        mode, flags = "jit", {**flags, **mode}
    elif mode is True:
        mode = "jit"
    if mode not in MODES:
        raise Invalid(f"{mode!r} is no way of numba's.", place=place_of(function), hint=nearest(str(mode), MODES))
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        raise Invalid(
            f"{task.name} is to be compiled by numba, which is not installed here.",
            place=place_of(function),
            hint="pip install numba, or leave numba= out.",
        ) from None
    decorator = getattr(numba, mode, None)
    if decorator is None:
        raise Invalid(f"This numba, {numba.__version__}, has no {mode}.", place=place_of(function))
    if mode == "vectorize":
        made = decorator(options.numba_signature, **flags)(function)
    elif mode == "guvectorize":
        made = decorator(options.numba_signature, options.numba_declaration, **flags)(function)
    elif mode == "cfunc":
        made = decorator(options.numba_signature)(function).ctypes
    else:
        made = decorator(**flags)(function)

    def run(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    return run
