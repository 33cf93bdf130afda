"""A site said anew in part: ``labels.location=DE`` puts a value at a place of its spec, ``zone`` leaves one out."""

from collections.abc import Sequence
from typing import Any

from isthmus import codec
from isthmus.client import files
from isthmus.domain.errors import Invalid
from isthmus.domain.sites import SiteSpec

# Their names are people's own, and may have dots.
NAMED = ("labels", "metrics", "options", "queue_policies")


def revise(spec: SiteSpec, put: Sequence[str] = (), leave: Sequence[str] = ()) -> SiteSpec:
    """The spec with ``PLACE=VALUE`` put (values as in YAML), and the places in ``leave`` as if never said.

    Raises Invalid with the place.
    """
    said: dict[str, Any] = codec.changed(spec)
    for text in put:
        place, equals, value = text.partition("=")
        if not equals or not place:
            raise Invalid(f"{text!r} is not PLACE=VALUE.", place="--set", hint="Write it like labels.location=DE.")
        home, last = _find(said, place, make=True)
        home[last] = files.value(value)
    for place in leave:
        home, last = _find(said, place, make=False)
        if last not in home:
            raise Invalid(
                f"{place!r} is not said of {spec.name}.", place="--unset", hint="`isthmus site show` -o yaml."
            )
        del home[last]
    fresh = codec.read(SiteSpec, said)
    if (fresh.name, fresh.kind) != (spec.name, spec.kind):
        raise Invalid("A site's name and kind stay.", place="name" if fresh.name != spec.name else "kind")
    return fresh


def _find(said: dict[str, Any], place: str, *, make: bool) -> tuple[dict[str, Any], str]:
    """The mapping that holds a place, and the place's last word."""
    words = place.split(".", 1) if place.partition(".")[0] in NAMED else place.split(".")
    home = said
    for word in words[:-1]:
        inner = home.setdefault(word, {}) if make else home.get(word, {})
        if not isinstance(inner, dict):
            raise Invalid(f"{word!r} is a value, nothing lies below it.", place=place)
        home = inner
    return home, words[-1]
