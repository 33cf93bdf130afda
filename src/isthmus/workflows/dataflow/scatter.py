"""Taking lists apart for scattered steps, and putting results together in the same shape."""

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.workflows.dataflow.gather import GatherError
from isthmus.workflows.dataflow.graph import Cross, Scatter


class Spread:
    """One step's inputs, spread over positions 0 to ``count - 1``; ``inputs_at`` makes those of one of them."""

    def __init__(self, scatter: Scatter, inputs: Mapping[str, Any]) -> None:
        self._scatter = scatter
        self._inputs = inputs
        self._lists: list[list[Any]] = []
        for port in scatter.ports:
            value = inputs.get(port)
            if not isinstance(value, list):
                what = "null" if value is None else type(value).__name__
                raise GatherError(f"It is scattered over {port!r}, which must be a list, but is {what}.")
            self._lists.append(value)
        self.sizes = [len(each) for each in self._lists]
        if scatter.how is Cross.DOT:
            if len(set(self.sizes)) > 1:
                told = ", ".join(f"{port} has {size}" for port, size in zip(scatter.ports, self.sizes, strict=True))
                raise GatherError(f"A dot product needs lists of the same length: {told}.")
            self.count = self.sizes[0]
        else:
            self.count = 1
            for size in self.sizes:
                self.count *= size

    def inputs_at(self, position: int) -> dict[str, Any]:
        """The inputs of one position."""
        found = dict(self._inputs)
        if self._scatter.how is Cross.DOT:
            for port, values in zip(self._scatter.ports, self._lists, strict=True):
                found[port] = values[position]
            return found
        for port, values in zip(reversed(self._scatter.ports), reversed(self._lists), strict=True):
            position, index = divmod(position, len(values))
            found[port] = values[index]
        return found

    def shape(self, results: Sequence[Any]) -> list[Any]:
        """The results of all positions, in the shape that the scatter asks for."""
        if self._scatter.how is not Cross.NESTED:
            return list(results)
        found: list[Any] = list(results)
        for number in range(len(self.sizes) - 1, 0, -1):
            outer = 1
            for size in self.sizes[:number]:
                outer *= size
            inner = self.sizes[number]
            found = [found[index * inner : (index + 1) * inner] for index in range(outer)]
        return found
