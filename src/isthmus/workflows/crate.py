"""A run as a Workflow Run RO-Crate: the workflow, its inputs and outputs, and each task as an action.

Profiles: Process Run Crate and Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5), RO-Crate 1.1.
"""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isthmus import __version__
from isthmus.workflows.driver.book import Entry
from isthmus.workflows.driver.results import located
from isthmus.workflows.locations import path_of

CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
PROFILES = (
    "https://w3id.org/ro/wfrun/process/0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
)
CWL = "https://w3id.org/workflowhub/workflow-ro-crate#cwl"
METADATA = "ro-crate-metadata.json"


def write(facts: dict[str, Any], entries: list[Entry], to: Path, *, content: bool = True) -> Path:
    """Write the crate of a run into a new folder; with ``content`` its workflow file, inputs and outputs too.

    Raises FileExistsError where the folder is there already.
    """
    to.mkdir(parents=True)
    graph = list(_entities(facts, entries, to if content else None))
    path = to / METADATA
    path.write_text(json.dumps({"@context": CONTEXT, "@graph": graph}, indent=2) + "\n")
    return path


def _entities(facts: dict[str, Any], entries: list[Entry], to: Path | None) -> Iterator[dict[str, Any]]:
    workflow = os.path.basename(facts["process"].partition("#")[0])
    _copy(facts["process"].partition("#")[0], to, workflow)
    inputs = [_value(name, value, to, "inputs") for name, value in facts["given"].items()]
    outputs = [_value(name, value, to, "outputs") for name, value in (facts.get("outputs") or {}).items()]
    made = [entity for _, entities in (*inputs, *outputs) for entity in entities]
    files = [entity["@id"] for entity in made if entity["@type"] in ("File", "Dataset")]
    yield {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": [{"@id": "https://w3id.org/ro/crate/1.1"}],
        "about": {"@id": "./"},
    }
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Run {facts['run']} of {facts['name']}",
        "description": "A workflow, what it was given and what it made.",
        "datePublished": _time(facts.get("ended") or facts["started"]),
        "license": {"@id": "https://spdx.org/licenses/CC0-1.0"},
        "conformsTo": [{"@id": profile} for profile in PROFILES],
        "mainEntity": {"@id": workflow},
        "hasPart": [{"@id": each} for each in [workflow, *dict.fromkeys(files)]],
        "mentions": [{"@id": "#run"}, *({"@id": f"#task/{entry.task}"} for entry in entries)],
    }
    for profile in PROFILES:
        yield {"@id": profile, "@type": "CreativeWork", "name": profile.rsplit("/", 2)[-2], "version": profile[-3:]}
    yield {
        "@id": workflow,
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        "name": facts["name"],
        "programmingLanguage": {"@id": CWL},
        "input": [{"@id": f"#input/{name}"} for name in facts["given"]],
        "output": [{"@id": f"#output/{name}"} for name in facts.get("outputs") or {}],
    }
    yield {
        "@id": CWL,
        "@type": "ComputerLanguage",
        "name": "Common Workflow Language",
        "identifier": {"@id": "https://w3id.org/cwl/"},
        "url": {"@id": "https://www.commonwl.org/"},
    }
    for kind, names in (("input", facts["given"]), ("output", facts.get("outputs") or {})):
        for name, value in names.items():
            yield {
                "@id": f"#{kind}/{name}",
                "@type": "FormalParameter",
                "name": name,
                "additionalType": _type(value),
                "conformsTo": {"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"},
            }
    yield {"@id": "#isthmus", "@type": "SoftwareApplication", "name": "Isthmus", "softwareVersion": __version__}
    yield _run(facts, [{"@id": each} for each, _ in inputs], [{"@id": each} for each, _ in outputs], workflow)
    seen = set()
    for entity in made:
        if entity["@id"] not in seen:
            seen.add(entity["@id"])
            yield entity
    for entry in entries:
        yield _action(entry)


def _run(facts: dict[str, Any], inputs: list[Any], outputs: list[Any], workflow: str) -> dict[str, Any]:
    states = {"completed": "CompletedActionStatus", "running": "ActiveActionStatus"}
    found = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run of {facts['name']}",
        "startTime": _time(facts["started"]),
        "instrument": {"@id": workflow},
        "agent": {"@id": "#isthmus"},
        "actionStatus": f"http://schema.org/{states.get(facts['state'], 'FailedActionStatus')}",
        "object": inputs,
        "result": outputs,
    }
    if facts.get("ended"):
        found["endTime"] = _time(facts["ended"])
    failures = facts.get("failures") or []
    if failures:
        found["error"] = "; ".join(f"{each['task']}: {each['message']}" for each in failures)
    return found


def _action(entry: Entry) -> dict[str, Any]:
    status = "FailedActionStatus" if entry.state == "failed" else "CompletedActionStatus"
    found: dict[str, Any] = {
        "@id": f"#task/{entry.task}",
        "@type": "CreateAction",
        "name": entry.task,
        "actionStatus": f"http://schema.org/{status}",
        "identifier": entry.key,
    }
    if entry.started:
        found["startTime"] = _time(entry.started)
    if entry.ended:
        found["endTime"] = _time(entry.ended)
    if entry.message:
        found["error"] = entry.message
    if entry.reused:
        found["description"] = f"Its result was taken from the run {entry.reused}."
    elif entry.place:
        found["description"] = f"It ran at: {entry.place}."
    return found


def _value(name: str, value: Any, to: Path | None, folder: str) -> tuple[str, list[dict[str, Any]]]:
    """The id of a value, and what stands for it: its files, or a property."""
    files = list(located(value))
    example = {"exampleOfWork": {"@id": f"#{folder[:-1]}/{name}"}}
    if not files:
        known = f"#{folder}/{name}"
        return known, [{"@id": known, "@type": "PropertyValue", "name": name, "value": json.dumps(value), **example}]
    entities = []
    for file in files:
        path = path_of(str(file["location"]))
        known = f"{folder}/{name}/{file.get('basename') or os.path.basename(path)}"
        if not _copy(path, to, known):
            known = str(file["location"])
        entity: dict[str, Any] = {
            "@id": known,
            "@type": "Dataset" if file["class"] == "Directory" else "File",
            "name": file.get("basename"),
        }
        if file.get("size") is not None:
            entity["contentSize"] = str(file["size"])
        if file.get("checksum"):
            entity["sha1"] = str(file["checksum"]).removeprefix("sha1$")
        entities.append(entity)
    if len(entities) == 1:
        entities[0].update(example)
        return entities[0]["@id"], entities
    known = f"#{folder}/{name}"
    parts = [{"@id": entity["@id"]} for entity in entities]
    return known, [{"@id": known, "@type": "Collection", "name": name, "hasPart": parts, **example}, *entities]


def _copy(path: str, to: Path | None, name: str) -> bool:
    if to is None or not path or not os.path.exists(path):
        return False
    target = to / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.isdir(path):
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(path, target)
    return True


def _type(value: Any) -> str:
    if isinstance(value, dict):
        return {"File": "File", "Directory": "Dataset"}.get(str(value.get("class")), "PropertyValue")
    if isinstance(value, list):
        return _type(value[0]) if value else "PropertyValue"
    kinds = {bool: "Boolean", int: "Integer", float: "Float", str: "Text"}
    return kinds.get(type(value), "PropertyValue")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
