"""The documents that docs/placement.md shows are good ones."""

import re
from pathlib import Path

from isthmus import codec, documents
from isthmus.domain.placement import Catalogue, Rules, check_catalogue, check_rules
from isthmus.placement import constraints
from isthmus.placement.policies import policy_names
from isthmus.placement.scores import WEIGHTS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "placement.md").read_text()
BLOCKS = [documents.parse(one, "docs") for one in re.findall(r"^```yaml\n(.*?)^```", DOCUMENT, re.M | re.S)]


def test_the_rules() -> None:
    (text,) = [one for one in BLOCKS if "providers" in one]
    rules = codec.read(Rules, text)
    check_rules(rules, WEIGHTS, policy_names())
    assert rules.metrics["latency_ms"].better == "lower"
    assert rules.metrics["energy_mix"].missing == 0.3


def test_the_catalogue() -> None:
    (text,) = [one for one in BLOCKS if "offers" in one]
    check_catalogue(codec.read(Catalogue, text))


def test_the_constraints() -> None:
    (line,) = re.findall(r"^    constraints: (\[.*\])$", DOCUMENT, re.M)
    assert len(constraints.check(documents.parse(line, "docs"))) == 6


def test_scores_and_policies_are_those_of_the_code() -> None:
    shown = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", DOCUMENT, re.M))
    assert {name: float(weight) for name, weight in shown.items()} == dict(WEIGHTS)
    for name in policy_names():
        assert f"| `{name}` |" in DOCUMENT
