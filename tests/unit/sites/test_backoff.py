"""When an unreachable site is tried again."""

import pytest

from isthmus.domain.errors import Unreachable
from isthmus.domain.sites import Health
from isthmus.sites.backoff import Backoff
from isthmus.testing import ManualClock

DOWN = Unreachable("login1:22 refuses connections.", hint="Is sshd running?", code="refused")


async def test_waits_grow_to_a_bound_and_end_with_success() -> None:
    clock, spans = ManualClock(), []

    def longest(low: float, high: float) -> float:
        spans.append((low, high))
        return high

    backoff = Backoff(clock=clock, first_s=1, longest_s=10, uniform=longest)
    backoff.check()
    for _ in range(6):
        backoff.failed(DOWN)
        await clock.advance(10)
    assert spans == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 10), (0, 10)]
    assert backoff.contact.failures == 6
    backoff.succeeded()
    assert (backoff.contact.health, backoff.contact.failures) == (Health.UP, 0)
    backoff.failed(DOWN)
    assert spans[-1] == (0, 1)


async def test_the_wait_is_random_from_nothing_on() -> None:
    waits = set()
    for _ in range(50):
        backoff = Backoff(clock=ManualClock())
        for _ in range(5):
            backoff.failed(DOWN)
        waits.add(backoff.contact.retry_in_s)
    assert len(waits) == 50
    assert min(waits) < 8 < max(waits) <= 16


async def test_meanwhile_calls_fail_with_the_reason_and_when_it_is_tried_again() -> None:
    clock = ManualClock()
    backoff = Backoff(clock=clock, uniform=lambda low, high: high)
    since = clock.now()
    backoff.failed(DOWN)
    await clock.advance(0.5)
    with pytest.raises(Unreachable) as caught:
        backoff.check()
    assert str(caught.value) == "login1:22 refuses connections. Is sshd running? It is tried again in 0.5s."
    assert caught.value.code == "refused"
    contact = backoff.contact
    assert (contact.health, contact.reason, contact.since) == (Health.UNREACHABLE, DOWN.message, since)
    backoff.forget()
    backoff.check()
    assert backoff.contact.reason == DOWN.message


async def test_a_connection_lost_in_use_is_tried_again_at_once() -> None:
    backoff = Backoff(clock=ManualClock())
    backoff.succeeded()
    backoff.lost(DOWN)
    assert backoff.contact.health is Health.UNREACHABLE
    backoff.check()
