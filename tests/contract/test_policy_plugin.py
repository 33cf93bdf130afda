"""The policy that docs/placement.md shows, as a package of somebody else's, orders jobs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from isthmus.domain.sites import NodeType, Queue
from isthmus.placement import policies
from isthmus.placement.needs import Need
from isthmus.placement.plan import Ticket, explain, plan
from isthmus.placement.snapshot import SiteSnapshot

DOCUMENT = Path(__file__).parents[2] / "docs" / "placement.md"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The document's module, installed as the package that its entry point names."""
    text = DOCUMENT.read_text()
    (module,) = [one for one in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "POLICY" in one]
    name, value = re.search(r'^ +([\w-]+) = "(my_package:\w+)"', text, re.MULTILINE).groups()  # type: ignore[union-attr]
    (tmp_path / "my_package.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(policies, "entry_points", lambda group: [EntryPoint(name, value, policies.GROUP)])
    caches = (policies._points, policies.find_policy)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()
    sys.modules.pop("my_package", None)


def test_it_orders_jobs_and_shows_in_explain(plugin: None) -> None:
    queue = Queue(name="main", default=True, nodes=(NodeType(name="n", cpus=2),))
    here = SiteSnapshot(name="here", policy="earliest-deadline", queues=(queue,))
    need, other = Need(user="ada"), Need(user="bob")
    lines = {
        need: [Ticket(0, 1, deadline=300.0), Ticket(0, 2, deadline=100.0)],
        other: [Ticket(-9, 3), Ticket(0, 4, deadline=200.0)],
    }
    assert [one.job for one in plan(lines, [here], now=0.0).assignments] == [2, 4]
    assert explain(need, [here])[0].policy == "earliest-deadline"
    assert "earliest-deadline" in policies.policy_names()
