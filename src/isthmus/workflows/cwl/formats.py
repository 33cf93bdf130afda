"""File formats: IRIs, compared by the ontologies that a document names in ``$schemas``."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from isthmus.workflows.cwl import loading
from isthmus.workflows.cwl.context import Context
from isthmus.workflows.work import StepFailed


def iri(name: str, namespaces: Mapping[str, str]) -> str:
    """The whole IRI of a name such as ``edam:format_2330``."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix in namespaces and not rest.startswith("//"):
        return namespaces[prefix] + rest
    return name


def asked(context: Context, formats: tuple[str, ...], self_: Any = None) -> list[str]:
    """The IRIs that a parameter's ``format`` means."""
    found: list[str] = []
    for each in formats:
        value = context.value(each, self_)
        found += [iri(str(one), context.process.namespaces) for one in (value if isinstance(value, list) else [value])]
    return found


def check(context: Context, name: str, file: Mapping[str, Any], formats: tuple[str, ...]) -> None:
    """Raise StepFailed unless the file's format is one of those. A file that says none is refused."""
    wanted = asked(context, formats, file)
    actual = file.get("format")
    if not actual:
        raise StepFailed(
            f"The input {name!r}: {file.get('basename')} says no format; it must be {' or '.join(wanted)}."
        )
    actual = iri(str(actual), context.process.namespaces)
    if actual in wanted or any(_is_a(actual, each, context.process.schemas) for each in wanted):
        return
    raise StepFailed(
        f"The input {name!r}: the format of {file.get('basename')} is {actual}, not {' or '.join(wanted)}."
    )


def _is_a(actual: str, wanted: str, schemas: tuple[str, ...]) -> bool:
    """Whether the ontologies say that one format is a kind of the other, or the same."""
    seen = {actual}
    waiting = [actual]
    parents = [_parents(each) for each in schemas]
    while waiting:
        one = waiting.pop()
        for known in parents:
            for parent in known.get(one, ()):
                if parent == wanted:
                    return True
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
    return False


@lru_cache(maxsize=16)
def _parents(schema: str) -> Mapping[str, tuple[str, ...]]:
    """By class: what it is a kind of, and what it is the same as."""
    try:
        import rdflib
    except ImportError:
        raise StepFailed("To compare formats by an ontology rdflib is needed: pip install 'isthmus[cwl]'.") from None
    graph = rdflib.Graph()
    data = loading.text_of(schema)
    for kind in ("xml", "turtle", "json-ld"):
        try:
            graph.parse(data=data, format=kind)
            break
        except Exception as error:  # noqa: BLE001  (whatever a parser says to a text in another format)
            problem = error
    else:
        raise StepFailed(f"The ontology {schema} can't be read: {problem}.")
    found: dict[str, list[str]] = {}
    for predicate in (rdflib.RDFS.subClassOf, rdflib.OWL.equivalentClass):
        for child, _, parent in graph.triples((None, predicate, None)):
            found.setdefault(str(child), []).append(str(parent))
            if predicate == rdflib.OWL.equivalentClass:
                found.setdefault(str(parent), []).append(str(child))
    return {name: tuple(each) for name, each in found.items()}
