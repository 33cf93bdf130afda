"""Types as documents write them: ``string[]?``, names of a SchemaDefRequirement, maps with a ``type`` of their own."""

from collections.abc import Callable
from typing import Any

from isthmus.documents import Map, place_of
from isthmus.domain.errors import nearest
from isthmus.workflows.cwl.loading import short
from isthmus.workflows.cwl.model import ArrayType, Binding, EnumType, Parameter, RecordType, Type, UnionType
from isthmus.workflows.cwl.types import PRIMITIVES, STREAMS

Fault = Callable[..., None]


class TypeReader:
    """Reads the types of one process. ``defined``: the types of its SchemaDefRequirement, as written."""

    def __init__(
        self,
        defined: list[Any],
        fault: Fault,
        parameter: "Callable[[str, Map, TypeReader], Parameter | None]",
        version: str,
    ) -> None:
        self._named = {short(str(each.get("name", ""))): each for each in defined if isinstance(each, Map)}
        self._known: dict[str, Type] = {}
        self._fault = fault
        self._parameter = parameter
        self.version = version

    def read(self, written: Any, at: Any, key: str | int | None) -> Type | None:
        """The type; None where there is a fault."""
        if isinstance(written, str):
            return self._name(written, at, key)
        if isinstance(written, list):
            found = [self.read(each, written, index) for index, each in enumerate(written)]
            kinds = [each for each in found if each is not None]
            return None if len(kinds) < len(found) else (kinds[0] if len(kinds) == 1 else UnionType(tuple(kinds)))
        if isinstance(written, Map):
            return self._schema(written)
        self._fault("This is no type.", place_of(at, key))
        return None

    def _name(self, written: str, at: Any, key: str | int | None) -> Type | None:
        if written.endswith("?"):
            inner = self._name(written[:-1], at, key)
            return None if inner is None else UnionType(("null", inner))
        if written.endswith("[]"):
            inner = self._name(written[:-2], at, key)
            return None if inner is None else ArrayType(inner)
        if written in PRIMITIVES:
            return written
        if written in STREAMS:
            self._fault(f"The type {written} stands alone only.", place_of(at, key))
            return None
        name = short(written)
        if name in self._known:
            return self._known[name]
        if name in self._named:
            found = self._schema(self._named[name])
            if found is not None:
                self._known[name] = found
            return found
        known = [*PRIMITIVES, *self._named, *(f"{each}[]" for each in PRIMITIVES), *(f"{each}?" for each in PRIMITIVES)]
        self._fault(f"There is no type {written!r}.", place_of(at, key), nearest(written, known))
        return None

    def _schema(self, node: Map) -> Type | None:
        kind = node.get("type")
        spec = node.get("inputBinding")
        binding: Binding | None = None
        if isinstance(spec, Map):
            holder = self._parameter("", Map({"type": "Any", "inputBinding": spec}, file=node.file), self)
            binding = holder.binding if holder else None
        if kind == "array":
            items = self.read(node.get("items"), node, "items")
            listing = str(node.get("loadListing") or "")
            return None if items is None else ArrayType(items, binding, listing)
        if kind == "enum":
            symbols = tuple(short(str(each)) for each in node.get("symbols") or ())
            return EnumType(symbols, binding, short(str(node.get("name", ""))))
        if kind == "record":
            return self._record(node, binding)
        if kind is None:
            self._fault("This type says no `type`.", place_of(node))
            return None
        return self.read(kind, node, "type")

    def _record(self, node: Map, binding: Binding | None) -> Type | None:
        written = node.get("fields") or {}
        if isinstance(written, Map):
            entries = [
                (short(name), each if isinstance(each, Map) and "type" in each else Map({"type": each}, file=node.file))
                for name, each in written.items()
            ]
        else:
            entries = [(short(str(each.get("name", ""))), each) for each in written]
        fields = {}
        for name, each in entries:
            field = self._parameter(name, each, self)
            if field is None:
                return None
            fields[name] = field
        return RecordType(fields, binding, short(str(node.get("name", ""))))
