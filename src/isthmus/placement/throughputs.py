"""Throughputs learned from jobs that ran: how long the same kind of job takes with so many GPUs of a type.

Each run of some length is one sample, the seconds that the whole job would have taken like this. Of a kind's samples
the logarithms are averaged, newer ones weighing more. A number of GPUs that was never seen takes its place on the usual
curve through those that were (`isthmus.placement.performance`). How sure a figure is is said with it: the standard
deviation of the next job's time from it, which begins as if a case had been seen that was off by `ALONE`, and goes to
what the cases show; `UNSEEN` where the curve stands in.
"""

import math
import re
from dataclasses import dataclass

from isthmus.domain.jobs import JobSpec
from isthmus.placement.performance import usual_share

KIND = "kind"  # the label that says which jobs are alike
MEMORY = 0.8  # what a sample weighs for each that came after it
UNSEEN = 0.3  # uncertainty of a number of GPUs that was never seen, of the time
ALONE = 0.2  # of a time of which no case was seen
_NUMBERS = re.compile(r"[\d\[\]]+")


def kind_of(spec: JobSpec) -> str:
    """What jobs have in common that should take equally long: the label `kind`, else name without numbers, else
    what they run; and the image."""
    if spec.labels.get(KIND):
        return f"kind {spec.labels[KIND]}"
    name = _NUMBERS.sub("", spec.name).strip(" -_.")
    if name:
        return f"name {name} {spec.image}"
    words = (spec.script,) if spec.script else tuple(_NUMBERS.sub("", word) for word in spec.command)
    return f"runs {' '.join(words)} {spec.image}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of the whole job, and how far the next one's may be off, as a part of it."""

    time_s: float
    uncertainty: float


@dataclass(slots=True)
class _Seen:
    weight: float = 0.0
    mean: float = 0.0  # of logarithms
    square: float = 0.0  # sum of squared distances from it
    count: int = 0

    def add(self, value: float) -> None:
        old = self.weight * MEMORY
        self.weight = old + 1.0
        off = value - self.mean
        self.mean += off / self.weight
        self.square = self.square * MEMORY + off * (value - self.mean)
        self.count += 1

    @property
    def uncertainty(self) -> float:
        made_up = MEMORY**self.count  # what the case weighs that was not seen
        weight = self.weight + made_up
        variance = (self.square + made_up * ALONE**2) / weight
        return math.sqrt(variance * (1.0 + 1.0 / weight))


class Throughputs:
    """What was seen so far, by kind of job, GPU type and number of GPUs."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[int, _Seen]] = {}

    def add(self, kind: str, gpu_type: str, gpus: int, time_s: float) -> None:
        """A job of that kind ran so that the whole of it would have taken so long."""
        if time_s > 0 and gpus > 0:
            row = self._seen.setdefault((kind, gpu_type.casefold()), {})
            row.setdefault(gpus, _Seen()).add(math.log(time_s))

    def estimates(self, kind: str, gpu_type: str, most: int) -> tuple[Estimate, ...]:
        """With 1 to ``most`` GPUs of that type; () where no such job was seen there."""
        row = self._seen.get((kind, gpu_type.casefold()))
        if not row:
            return ()
        total = sum(one.weight for one in row.values())
        # The whole job on one GPU, by the usual curve, as all that was seen of it says together.
        alone = sum(one.weight * (one.mean - math.log(usual_share(gpus))) for gpus, one in row.items()) / total
        found = []
        for gpus in range(1, most + 1):
            one = row.get(gpus)
            if one is not None:
                found.append(Estimate(math.exp(one.mean), one.uncertainty))
            else:
                found.append(Estimate(math.exp(alone) * usual_share(gpus), UNSEEN))
        return tuple(found)

    def run_times(self, kind: str, gpu_type: str, most: int) -> tuple[Estimate, ...]:
        """The same, where more GPUs never take longer."""
        found: list[Estimate] = []
        for one in self.estimates(kind, gpu_type, most):
            found.append(min(one, found[-1], key=lambda each: each.time_s) if found else one)
        return tuple(found)
