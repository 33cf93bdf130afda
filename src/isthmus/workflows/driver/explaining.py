"""Why a task was run again, or where its result came from: its parts beside those of the last result of its name."""

import json
from typing import Any

from isthmus.workflows.driver.book import Entry
from isthmus.workflows.driver.results import intact
from isthmus.workflows.runs import Runs

SENTENCES = {
    "tool": "The tool has changed.",
    "requirements": "What is in force for it has changed (requirements, image).",
}


def explained(entry: Entry, facts: dict[str, Any], runs: Runs) -> list[str]:
    """Sentences for people."""
    if entry.state == "reused":
        return [f"The run {entry.reused} had done the same: tool, requirements and inputs are as they were then."]
    if not facts.get("reuse", True):
        return ["The run was told not to reuse results (--no-reuse)."]
    results = runs.results()
    try:
        last = _before(results, facts, entry)
    finally:
        results.close()
    if last is None:
        return ["No earlier run had done a task of this name."]
    parts: dict[str, Any] = json.loads(entry.parts or "{}")
    said = [f"Its last result is of the run {last.run}."]
    for name, sentence in SENTENCES.items():
        if parts.get(name) != last.parts.get(name):
            said.append(sentence)
    now, then = parts.get("inputs", {}), last.parts.get("inputs", {})
    for name in sorted({*now, *then}):
        if now.get(name) != then.get(name):
            said.append(f"The input {name!r} has changed: {_short(then.get(name))} is now {_short(now.get(name))}.")
    if len(said) == 1 and not intact(last.outputs):
        said.append("A file that it had made has gone or has another size.")
    elif len(said) == 1:
        said.append("It was of the same content: the tool's WorkReuse forbids to take it.")
    return said


def _before(results: Any, facts: dict[str, Any], entry: Entry) -> Any:
    return results.latest(facts["name"], entry.task, other_than=facts["run"])


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 90 else text[:87] + "…"
