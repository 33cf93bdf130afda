"""The words of a command line, from inputs, arguments and their bindings. CommandLineTool.html#Input_binding."""

import shlex
from collections.abc import Mapping
from typing import Any

from isthmus.workflows.cwl import files, types
from isthmus.workflows.cwl.context import Context
from isthmus.workflows.cwl.model import ArrayType, Binding, CommandLineTool, EnumType, RecordType, Type
from isthmus.workflows.work import StepFailed

Key = tuple[tuple[int, Any], ...]


def words(context: Context, tool: CommandLineTool) -> list[str]:
    """The argument vector. With ShellCommandRequirement it is a shell's, whose one text has what must be quoted quoted.
    Raises StepFailed."""
    shell = context.in_force.get("ShellCommandRequirement") is not None
    found: list[tuple[Key, list[str], bool]] = []
    for number, argument in enumerate(tool.arguments):
        binding = argument if isinstance(argument, Binding) else Binding(value_from=argument)
        key = ((0, _position(context, binding, None)), (0, number))
        value = context.value(binding.value_from) if binding.value_from is not None else None
        found.append((key, _words(binding, value), binding.shell_quote))
    for name, parameter in tool.inputs.items():
        value = context.inputs.get(name)
        collector = _Collector(context)
        collector.bind(parameter.type, parameter.binding, value, (), (1, name))
        found += collector.found
    found.sort(key=lambda each: each[0])
    vector = [str(context.value(word)) for word in tool.base_command]
    if not shell:
        return vector + [word for _, each, _ in found for word in each]
    text = [shlex.quote(word) for word in vector]
    text += [shlex.quote(word) if quoted else word for _, each, quoted in found for word in each]
    return ["/bin/sh", "-c", " ".join(text)]


class _Collector:
    """Goes through one input by its type and gathers the words of every binding met, with the keys that order them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.found: list[tuple[Key, list[str], bool]] = []

    def bind(self, kind: Type, binding: Binding | None, value: Any, lead: Key, tail: tuple[int, Any]) -> None:
        if value is None:
            return
        kind = types.chosen(kind, value) or kind
        own = self._key(binding, value, lead, tail)
        base: Key = own if binding is not None else (*lead,)
        hidden = binding is not None and binding.value_from is not None
        if not hidden:
            self._inner(kind, binding, value, base, tail)
        if binding is not None:
            self._add(binding, value, own)

    def _key(self, binding: Binding | None, value: Any, lead: Key, tail: tuple[int, Any]) -> Key:
        if binding is None:
            return lead
        return (*lead, (0, _position(self._context, binding, value)), tail)

    def _inner(self, kind: Type, binding: Binding | None, value: Any, base: Key, tail: tuple[int, Any]) -> None:
        own = getattr(kind, "binding", None)
        if isinstance(kind, RecordType) and isinstance(value, Mapping):
            if own is not None:
                self._add(own, value, (*base, (0, _position(self._context, own, value)), tail))
            for name, field in kind.fields.items():
                self.bind(field.type, field.binding, value.get(name), base, (1, name))
        elif isinstance(kind, ArrayType) and isinstance(value, list):
            if own is None and binding is not None and binding.item_separator is None:
                own = Binding()
            for number, item in enumerate(value):
                self.bind(kind.items, own, item, (*base, (0, number)), tail)
        elif isinstance(kind, EnumType) and own is not None and binding is None:
            self._add(own, value, (*base, (0, _position(self._context, own, value)), tail))

    def _add(self, binding: Binding, value: Any, key: Key) -> None:
        if binding.value_from is not None:
            value = self._context.value(binding.value_from, value)
        self.found.append((key, _words(binding, value), binding.shell_quote))


def _position(context: Context, binding: Binding, value: Any) -> int:
    position: Any = binding.position
    if isinstance(position, str):
        position = context.value(position, value)
        if position is None:
            return 0
    if isinstance(position, bool) or not isinstance(position, int | float):
        raise StepFailed(f"A position must be a number, but {binding.position!r} is {position!r}.")
    return int(position)


def _words(binding: Binding, value: Any) -> list[str]:
    """What one binding adds for a value."""
    if isinstance(value, list):
        if not value:
            return []
        if binding.item_separator is not None:
            value = binding.item_separator.join(_text(each) for each in value)
        elif binding.value_from is not None:
            texts = [_text(each) for each in value]
            return ([binding.prefix] if binding.prefix else []) + texts
        else:
            return [binding.prefix] if binding.prefix else []
    elif value is None or value is False:
        return []
    elif value is True or (isinstance(value, Mapping) and not files.is_file(value)):
        return [binding.prefix] if binding.prefix else []
    text = _text(value)
    if binding.prefix is None or binding.prefix == "":
        return [text]
    return [binding.prefix, text] if binding.separate else [binding.prefix + text]


def _text(value: Any) -> str:
    if files.is_file(value):
        if "path" not in value:
            raise StepFailed(f"The {value['class']} {value.get('basename')!r} has no path here.")
        return str(value["path"])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _decimal(value)
    return str(value)


def _decimal(value: float) -> str:
    """A number without an exponent, as CWL v1.2 asks for."""
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value)) if abs(value) >= 1e16 else repr(value)
    from decimal import Decimal

    text = repr(value)
    return format(Decimal(text), "f") if "e" in text else text
