"""`@data_transformation` (`@dt`): a function between an argument and the task, as a task of its own.

@dt(target="data", function=decode, type=FILE_TO_OBJECT)
@task(returns=1)
def analyse(data): ...
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.declaration import Task, declare, place_of
from isthmus.tasks.directions import TABLE

FILE_TO_OBJECT: Final = "file_to_object"
FILE_TO_COLLECTION: Final = "file_to_collection"
OBJECT_TO_FILE: Final = "object_to_file"
OBJECT_TO_COLLECTION: Final = "object_to_collection"
COLLECTION_TO_OBJECT: Final = "collection_to_object"
COLLECTION_TO_FILE: Final = "collection_to_file"
TYPES = (
    FILE_TO_OBJECT,
    FILE_TO_COLLECTION,
    OBJECT_TO_FILE,
    OBJECT_TO_COLLECTION,
    COLLECTION_TO_OBJECT,
    COLLECTION_TO_FILE,
)


class DTObject:
    """A transformation of one parameter, for a list of them in one decorator."""

    def __init__(self, param_name: str, func: Callable[..., Any], **func_kwargs: Any) -> None:
        self.target = param_name
        self.function = func
        self.type = func_kwargs.pop("type", None)
        self.destination = func_kwargs.pop("destination", None)
        self.size = func_kwargs.pop("size", None)
        self.is_workflow = bool(func_kwargs.pop("is_workflow", False))
        self.options = func_kwargs
        if self.type is not None and self.type not in TYPES:
            raise Invalid(
                f"{self.type!r} is no transformation.", place="@dt: type", hint=nearest(str(self.type), TYPES)
            )
        self._task: Task | None = None

    def apply(self, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
        """The arguments of the task, with the target transformed."""
        shape = task.shape
        if self.target not in shape.names and not shape.varkw:
            raise Invalid(
                f"@dt: {self.target!r} is no parameter of {task.name}.",
                place=place_of(task.function),
                hint=nearest(self.target, shape.names),
            )
        place = shape.index.get(self.target, len(args))
        value = args[place] if place < len(args) else kwargs.get(self.target, shape.defaults.get(self.target))
        made = self._transformed(value)
        if place < len(args):
            return (*args[:place], made, *args[place + 1 :]), kwargs
        return args, {**kwargs, self.target: made}

    def _transformed(self, value: Any) -> Any:
        if self.is_workflow:
            return self.function(value, **self.options)
        if self.type in (OBJECT_TO_FILE, COLLECTION_TO_FILE):
            path = self.destination or f"{self.target}.{id(value):x}.dt"
            self._declared({})(value, path, **self.options)
            return path
        return self._declared({"returns": self.size or 1})(value, **self.options)

    def _declared(self, given: dict[str, Any]) -> Task:
        """The function as a task: what it is given and gives is declared from the type."""
        if self._task is None:
            import inspect

            names = list(inspect.signature(self.function).parameters)
            declared: dict[str, Any] = dict(given)
            if self.type in (FILE_TO_OBJECT, FILE_TO_COLLECTION):
                declared[names[0]] = TABLE["FILE_IN"]
            elif self.type in (COLLECTION_TO_OBJECT, COLLECTION_TO_FILE):
                declared[names[0]] = TABLE["COLLECTION_IN"]
            if self.type in (OBJECT_TO_FILE, COLLECTION_TO_FILE):
                declared[names[1]] = TABLE["FILE_OUT"]
            self._task = declare(_first(self.function, int(self.size)) if self.size else self.function, declared)
            self._task.stands_for = self._task  # importing its module gives the plain function
        return self._task


def _first(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """The function, whose collection has so many elements: what it gives beyond them is left out."""

    @functools.wraps(function)
    def first(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        return list(made)[:size] if size > 1 else made

    return first


def data_transformation(
    target: Any = None, function: Callable[..., Any] | None = None, **given: Any
) -> Callable[[Any], Task]:
    """Put a function between an argument and the task:

    `target`, `function`, `type`, `destination`, `size`, `is_workflow`. Without any of these, each call says what to
    transform: a DTObject, or a list of them, as its argument `dt`.
    """
    if target is None and function is None and not given:
        made = []
    elif isinstance(target, DTObject):
        made = [target]
    elif isinstance(target, list | tuple):
        made = list(target)
    elif target is None or function is None:
        raise Invalid("@data_transformation needs a target and a function.", place="@data_transformation")
    else:
        made = [DTObject(target, function, **given)]

    def mark(thing: Any) -> Task:
        task = thing if isinstance(thing, Task) else declare(thing, {})
        task.transforms = [*(task.transforms or ()), *made]
        return task.redeclare()

    return mark


def of_call(task: Task, kwargs: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[DTObject]]:
    """The keywords that are the task's own, and the transformations that this call asks for."""
    wanted = kwargs.get("dt")
    if wanted is None or "dt" in task.shape.parameters or "dt" in task.shape.index:
        return kwargs, []
    made = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    for item in made:
        if not isinstance(item, DTObject):
            raise Invalid(
                f"dt={item!r} in a call of {task.name} is no transformation.",
                place=place_of(task.function),
                hint="Give a DTObject(parameter, function), or a list of them.",
            )
    return {name: value for name, value in kwargs.items() if name != "dt"}, made


dt = data_transformation
