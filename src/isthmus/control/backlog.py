"""The queue in memory: what waits for a place, grouped by need, each group in order."""

import bisect
import heapq
from collections.abc import Iterable

from isthmus.placement.needs import Need
from isthmus.placement.plan import Ticket


class Backlog:
    """Queued jobs of the leading supervisor. A job is in it once: ready, or asleep until its back-off is over."""

    def __init__(self) -> None:
        self.ready: dict[Need, list[Ticket]] = {}
        self._where: dict[int, tuple[Need, Ticket]] = {}
        self._asleep: list[tuple[float, int, Need, Ticket]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._where)

    def put(self, need: Need, ticket: Ticket, *, wake_at: float = 0.0, now: float = 0.0) -> None:
        """Add a job, or put it where its new priority, need or waking time says."""
        self.drop(ticket.job)
        self._where[ticket.job] = (need, ticket)
        if wake_at > now:
            self._count += 1
            heapq.heappush(self._asleep, (wake_at, self._count, need, ticket))
            return
        self._ready(need, ticket)

    def drop(self, job_id: int) -> None:
        """Take a job out; silent if it is not there."""
        known = self._where.pop(job_id, None)
        if known is None:
            return
        need, ticket = known
        tickets = self.ready.get(need)
        if not tickets:
            return
        place = bisect.bisect_left(tickets, ticket)
        if place < len(tickets) and tickets[place].job == job_id:
            del tickets[place]
            if not tickets:
                del self.ready[need]

    def drop_many(self, job_ids: Iterable[int]) -> None:
        """Take out many, as an assignment does: cheap where they stand at the front."""
        by_need: dict[Need, set[int]] = {}
        for job_id in job_ids:
            known = self._where.pop(job_id, None)
            if known is not None:
                by_need.setdefault(known[0], set()).add(job_id)
        for need, gone in by_need.items():
            tickets = self.ready.get(need, [])
            front = tickets[: len(gone)]
            if {ticket.job for ticket in front} == gone:
                del tickets[: len(gone)]
            else:
                tickets[:] = [ticket for ticket in tickets if ticket.job not in gone]
            if not tickets:
                self.ready.pop(need, None)

    def wake(self, now: float) -> float | None:
        """Make ready what slept long enough; when the next one wakes, or None."""
        while self._asleep and self._asleep[0][0] <= now:
            _, _, need, ticket = heapq.heappop(self._asleep)
            if self._where.get(ticket.job) == (need, ticket):
                self._ready(need, ticket)
        return self._asleep[0][0] if self._asleep else None

    def need_of(self, job_id: int) -> Need | None:
        known = self._where.get(job_id)
        return known[0] if known else None

    def _ready(self, need: Need, ticket: Ticket) -> None:
        tickets = self.ready.setdefault(need, [])
        if not tickets or tickets[-1] < ticket:
            tickets.append(ticket)
        else:
            place = bisect.bisect_left(tickets, ticket)
            if place == len(tickets) or tickets[place] != ticket:
                tickets.insert(place, ticket)
