"""Every verb of the command line has its page, or a reason why it can't: as docs/panel.md says."""

from __future__ import annotations

import re
from pathlib import Path

from isthmus.cli.verbs import every
from isthmus.panel.application import PAGES

DOCS = Path(__file__).parents[3] / "docs/panel.md"


def table() -> dict[str, tuple[str, str]]:
    """By verb: the page, and what is said besides."""
    text = DOCS.read_text().partition("## Every verb")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {verb.strip(" `"): (where.strip(" `"), note.strip()) for verb, where, note in rows}


def test_every_verb_is_in_the_panel_or_says_why_not() -> None:
    told = table()
    known = [" ".join(path) for path, _ in every()]
    assert sorted(told) == sorted(known), "docs/panel.md and the command line differ"
    paths = {re.sub(":[a-z]+}", "}", path) for pages in PAGES for path in pages.paths}
    for verb, (where, note) in told.items():
        if where == "local":
            assert note, f"{verb} has neither a page nor a reason"
        else:
            assert where in paths, f"{verb}: there is no page {where}"
