"""`@task`: what is known of a task from its declaration, before any call.

A `Task` stands where the function stood: calling it adds a call to the running program's graph and gives futures. The
plain function stays reachable as `.function`.
"""

import dis
import functools
import importlib
import inspect
import itertools
import os
import sys
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.directions import COLLECTION, DEFAULT, DICTIONARY, INOUT, OBJECT, TABLE, Parameter, parse

RETRY, FAIL, IGNORE, CANCEL_SUCCESSORS = "RETRY", "FAIL", "IGNORE", "CANCEL_SUCCESSORS"
POLICIES = (RETRY, FAIL, IGNORE, CANCEL_SUCCESSORS)

# As older programs spell them.
_OLD = {
    "isReplicated": "is_replicated",
    "isDistributed": "is_distributed",
    "varargsType": "varargs_type",
    "targetDirection": "target_direction",
    "timeOut": "time_out",
    "computingNodes": "computing_nodes",
}

_numbers = itertools.count(1)
declared: "weakref.WeakValueDictionary[int, Task]" = weakref.WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Options:
    """What `@task` says besides directions."""

    returns: Any = None  # None: found out from the function
    priority: bool = False
    on_failure: str = RETRY
    defaults: Mapping[str, Any] = field(default_factory=dict)  # by IGNORE: values for what it would have written
    time_out: float = 0.0  # seconds; 0: none
    is_replicated: bool = False
    is_distributed: bool = False
    cache_returns: bool = True
    target_direction: Any = INOUT
    varargs_type: Any = DEFAULT
    retries: int = 2  # after the first attempt, by RETRY
    numba: Any = False
    numba_flags: Mapping[str, Any] = field(default_factory=dict)
    numba_signature: Any = None
    numba_declaration: Any = None
    tracing_hook: bool = False
    computing_nodes: Any = 1
    chunk_size: int = 0  # @reduction: how many elements a step takes; 0: all at once
    is_reduce: bool = False
    nested: bool = True  # a call of it within a task is a task too; else a plain call
    spreads: bool = False  # where no returns are declared, `return a, b` gives two values instead of a tuple
    site: str = ""  # run as a job of the platform, there
    image: str = ""
    resources: Mapping[str, Any] = field(default_factory=dict)


_OPTIONS = tuple(Options.__dataclass_fields__)


class Task:
    """A function whose calls are tasks. See :func:`task`."""

    def __init__(self, function: Callable[..., Any], options: Options, parameters: Mapping[str, Parameter]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.options = options
        self.declared = dict(parameters)
        self.constraints: Mapping[str, Any] = {}
        self.alternatives: list[Task] = []
        self.kind: Any = None  # what runs instead of the function: a program, MPI, an HTTP request
        self.around: list[Any] = []  # @prolog, @epilog
        self.stands_for: Task | None = None  # the task whose step this is
        self.transforms: list[Any] | None = None  # @data_transformation; empty: each call says which
        self.number = next(_numbers)
        declared[self.number] = self
        self._shape: Shape | None = None
        self.seconds = -1.0  # what a call took lately; -1: not known
        self.calls = 0

    @property
    def name(self) -> str:
        """What to call it in messages: module.function."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def is_job(self) -> bool:
        """Whether a call becomes a job of the platform."""
        options = self.options
        return bool(options.site or options.image or options.resources)

    @property
    def shape(self) -> "Shape":
        """Its parameters and results, found out at the first call."""
        if self._shape is None:
            self._shape = Shape(self)
        return self._shape

    def redeclare(self, **changes: Any) -> "Task":
        """Another decorator adds to the declaration."""
        self.options = replace(self.options, **changes)
        self._shape = None
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _program().call(self, args, kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __reduce__(self) -> Any:
        """By name, else by value (its function must be picklable then)."""
        if importable(self):
            return load_task, (self.function.__module__, self.function.__qualname__)
        state = dict(self.__dict__)
        for made in ("_shape", "_variants", "_compiled", "__wrapped__"):
            state.pop(made, None)
        # The state comes later, so that a function that calls itself finds the task made already.
        return _blank, (), state

    def __repr__(self) -> str:
        return f"<task {self.name}>"


def _program() -> Any:
    from isthmus.tasks.current import current

    global _program
    _program = current  # found once
    return _program()


def importable(task: Task) -> bool:
    """Whether importing the function's module, and looking it up, gives this task."""
    module = task.function.__module__
    if module == "__main__" or task.stands_for is not None:
        return False
    found: Any = sys.modules.get(module)
    for part in task.function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is task or (isinstance(found, functools.partial) and found.func is task)


def load_task(module: str, name: str) -> Task:
    """The task of that name in that module."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if isinstance(found, functools.partial):
        found = found.func
    assert isinstance(found, Task), found
    return found


def _blank() -> Task:
    made = Task.__new__(Task)
    made._shape = None
    made.seconds = -1.0
    return made


class Shape:
    """The parameters of a task in order, and how many values it returns."""

    def __init__(self, task: Task) -> None:
        function, options = task.function, task.options
        signature = inspect.signature(function)
        self.names: list[str] = []
        self.keyword_only: list[str] = []
        self.varargs = self.varkw = ""
        self.defaults: dict[str, Any] = {}
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.varargs = parameter.name
            elif parameter.kind is parameter.VAR_KEYWORD:
                self.varkw = parameter.name
            elif parameter.kind is parameter.KEYWORD_ONLY:
                self.keyword_only.append(parameter.name)
            else:
                self.names.append(parameter.name)
            if parameter.default is not parameter.empty:
                self.defaults[parameter.name] = parameter.default
        self.index = {name: place for place, name in enumerate(self.names)}
        self.parameters = dict(task.declared)
        known = {*self.names, *self.keyword_only, self.varargs, self.varkw} - {""}
        for name in self.parameters:
            if name not in known and not self.varkw and not (self.varargs and name.startswith(self.varargs)):
                raise Invalid(
                    f"{name!r} is neither an option of @task nor a parameter of {function.__qualname__}.",
                    place=place_of(function),
                    hint=_choices(name, known),
                )
        if self.varargs and self.varargs not in self.parameters:
            self.parameters[self.varargs] = parse(options.varargs_type, f"{task.name}: varargs_type")
        self.is_method = bool(self.names) and self.names[0] in ("self", "cls") and "." in function.__qualname__
        if self.is_method and self.names[0] not in self.parameters:
            target = parse(options.target_direction, f"{task.name}: target_direction")
            self.parameters[self.names[0]] = target if self.names[0] == "self" else DEFAULT
        self.of = [self.parameters.get(name, DEFAULT) for name in self.names]
        self.returns = number_of_returns(task)
        self.written = [name for name, how in self.parameters.items() if how.writes]
        self.required = sum(name not in self.defaults for name in self.names)
        self.most = len(self.names)
        # Then a call whose arguments are plain values or futures needs no look at its parameters.
        self.simple = (
            all(how.kind == OBJECT and how.direction == "IN" for how in self.of)
            and not self.varargs
            and not self.keyword_only
            and not self.written
            and isinstance(self.returns, int)
            and not task.alternatives
            and task.transforms is None
            and not options.chunk_size
            and not task.is_job
            and task.kind is None
            and not task.constraints
        )


def number_of_returns(task: Task) -> int | str:
    """How many values a call gives; a string is looked up at each call (an argument, a global or a number)."""
    options = task.options
    return _found_returns(task.function, options.spreads) if options.returns is None else _number(task, options.returns)


def returns_of_call(task: Task, kwargs: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | str | None]:
    """The keywords that are the function's own, and what a `returns=` among the others says for this call."""
    if "returns" not in kwargs or "returns" in task.shape.index or "returns" in task.shape.keyword_only:
        return kwargs, None
    given = kwargs["returns"]
    return {name: value for name, value in kwargs.items() if name != "returns"}, _number(task, given)


def _number(task: Task, returns: Any) -> int | str:
    if isinstance(returns, bool):
        return int(returns)
    if isinstance(returns, int):
        if returns < 0:
            raise Invalid(f"{returns} is no number of returned values.", place=place_of(task.function))
        return returns
    if isinstance(returns, str):
        return int(returns) if returns.isdigit() else returns
    if isinstance(returns, tuple | list):
        return len(returns)
    return 1


def _found_returns(function: Callable[..., Any], spreads: bool) -> int:
    """0 where the function can only return None, else 1; a declared tuple counts.

    With `spreads`, also a tuple or list that every return statement writes out, always with as many elements.
    """
    hint = getattr(function, "__annotations__", {}).get("return", inspect.Parameter.empty)
    if hint is None or hint == "None":
        return 0
    if isinstance(hint, tuple | list):  # -> (int, str): no type, but what people write
        return len(hint)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        return 1 if Ellipsis in inner else len(inner)
    if hint is not inspect.Parameter.empty:
        return 1
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & inspect.CO_GENERATOR:
        return 1
    found = list(_returned(code))
    if not found:
        return 0
    return found[0] if spreads and found[0] > 1 and len(set(found)) == 1 else 1


def _returned(code: Any) -> Iterator[int]:
    """For each return of something else than None: how many elements it writes out, or 1."""
    before: dis.Instruction | None = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "RETURN_CONST":
            if instruction.argval is not None:
                yield _elements(instruction.argval)
        elif instruction.opname == "RETURN_VALUE":
            if before is None or instruction.is_jump_target:
                yield 1
            elif before.opname == "LOAD_CONST":
                if before.argval is not None:
                    yield _elements(before.argval)
            else:
                yield int(before.argval) if before.opname in ("BUILD_TUPLE", "BUILD_LIST") else 1
        before = instruction


def _elements(constant: Any) -> int:
    return len(constant) if isinstance(constant, tuple) else 1


def place_of(function: Callable[..., Any]) -> str:
    """Where a function stands: file:line."""
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else getattr(function, "__qualname__", "")


def task(*args: Any, **given: Any) -> Any:
    """Mark a function: its calls become tasks, run in parallel where their arguments allow.

        @task(c=INOUT)
        def multiply(a, b, c):
            c += a @ b

    Arguments are the directions of parameters (see `isthmus.tasks.directions`; IN where nothing is said) and:
    `returns` (a number, a type, a tuple of types; found out when not given), `priority`, `on_failure` (RETRY,
    FAIL, IGNORE, CANCEL_SUCCESSORS), `defaults`, `time_out` in seconds, `target_direction` of `self`, `varargs_type`,
    `is_replicated`, `cache_returns`, `nested` (False: within a task a call of it is a plain call), `spreads` (True:
    `return a, b` gives two values where nothing is declared), and for calls that become jobs `site`, `image`,
    `resources`.
    Raises Invalid for what is none of these, naming the nearest right word.
    """
    if len(args) == 1 and not given and callable(args[0]):
        return declare(args[0], {})
    if args:
        raise Invalid("@task takes names only: @task(c=INOUT).")
    return lambda function: declare(function, given)


def declare(function: Callable[..., Any], given: Mapping[str, Any]) -> Task:
    """The task that `@task(**given)` makes of the function."""
    where = place_of(function)
    options: dict[str, Any] = {}
    parameters: dict[str, Parameter] = {}
    names = _parameters(function)
    for word, value in given.items():
        name = _OLD.get(word, word)
        if name in _OPTIONS and name not in names:
            options[name] = _option(name, value, where)
        elif name == "onFailure":
            options["on_failure"] = _option("on_failure", value, where)
        elif not isinstance(value, Parameter | Mapping | str) or (
            isinstance(value, str) and value not in TABLE and name not in names
        ):
            raise Invalid(
                f"{word!r} is neither an option of @task nor a parameter of {function.__qualname__}.",
                place=where,
                hint=_choices(word, names),
            )
        else:
            parameters[name] = parse(value, f"{where}: {word}")
    return Task(function, Options(**options), parameters)


def _choices(word: str, names: Iterable[str]) -> str:
    return nearest(word, [*names, *_OPTIONS]) or f"Its parameters: {', '.join(sorted(names)) or 'none'}."


def _parameters(function: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _option(name: str, value: Any, where: str) -> Any:
    if name == "on_failure" and value not in POLICIES:
        raise Invalid(f"{value!r} is no failure policy.", place=where, hint=nearest(str(value), POLICIES))
    if name == "time_out":
        try:
            seconds = float(os.path.expandvars(value)) if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            raise Invalid(f"{value!r} is no number of seconds.", place=f"{where}: time_out") from None
        if seconds < 0:
            raise Invalid(f"{value!r} is no number of seconds.", place=f"{where}: time_out")
        return seconds
    if name in ("target_direction", "varargs_type"):
        parse(value, f"{where}: {name}")
    if name == "defaults" and not isinstance(value, Mapping):
        raise Invalid("defaults is a dict: what the task would have written, and its value.", place=where)
    return value


def is_collection(how: Parameter) -> bool:
    """Whether each element of the argument is a datum of its own."""
    return how.kind in (COLLECTION, DICTIONARY)
