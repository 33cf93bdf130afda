"""Texts that must not be shown: the values of inputs that a document calls secret."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

MASK = "(secret)"


class Hidden:
    """The secret texts of one run; more may come while it goes on."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, value: Any) -> None:
        """Hide a value: every text in it."""
        known = {*self._texts, *(text for text in _texts(value) if text)}
        self._texts = sorted(known, key=len, reverse=True)  # one that holds another goes first

    def within(self, text: str) -> bool:
        """Whether a text gives one of them away."""
        return any(each in text for each in self._texts)

    def text(self, text: str, mark: Callable[[str], str] | None = None) -> str:
        """A text without them. ``mark``: what stands for each; else all look the same."""
        for each in self._texts:
            if each in text:
                text = text.replace(each, mark(each) if mark is not None else MASK)
        return text

    def value(self, value: Any, mark: Callable[[str], str] | None = None) -> Any:
        """A value with its texts so."""
        if not self._texts:
            return value
        if isinstance(value, str):
            return self.text(value, mark)
        if isinstance(value, Mapping):
            return {name: self.value(each, mark) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each, mark) for each in value]
        return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
