"""Doubles for tests of Isthmus and of what is built on it: a site, a transport and a clock, all in memory."""

from isthmus.testing.clock import ManualClock
from isthmus.testing.site import FakeAttempt, FakeSite
from isthmus.testing.transport import Cut, FakeProgram, FakeTransport

__all__ = ["Cut", "FakeAttempt", "FakeProgram", "FakeSite", "FakeTransport", "ManualClock"]
