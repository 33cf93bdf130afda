"""The program of a workflow's job: drives the run whose bundle lies in its work folder (`workflows.submission`).

It runs in the job's work folder. The run itself is in the checkpoint folder: another attempt goes on with it.
"""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from isthmus.cli.main import tell
from isthmus.domain.errors import IsthmusError


def main() -> None:
    """Drive it and exit."""
    try:
        sys.exit(_drive(Path.cwd()))
    except IsthmusError as error:
        tell(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _drive(folder: Path) -> int:
    from isthmus import report
    from isthmus.cli import workflows
    from isthmus.workflows import running
    from isthmus.workflows.cwl import opening, orders, results
    from isthmus.workflows.driver.book import Book
    from isthmus.workflows.runs import Runs
    from isthmus.workflows.submission import BUNDLE, CRATE, ORDER, OUT, WITHHELD
    from isthmus.workflows.told import Telling

    bundle = folder / BUNDLE
    order = json.loads((bundle / ORDER).read_text())
    runs = Runs(Path(os.environ["ISTHMUS_CHECKPOINT"]))
    shown = orders.located(order["given"], str(folder / "-"))
    given = {**shown, **json.loads(os.environ.pop(WITHHELD, "{}"))}
    program = opening.again(str(bundle / order["process"]), given, order["requirements"])
    known = [each for each in runs.ids() if runs.facts(each)]
    facts = {
        "name": order["name"],
        "process": str(bundle / order["process"]),
        "given": shown,
        "requirements": order["requirements"],
        "outdir": str(folder / OUT),
        "settings": order["settings"],
        "reuse": order["reuse"],
        "bindings": str(bundle / "bindings.yml") if order["bindings"] else "",
        "workflow": order["workflow"],
        "server": True,
        "trust": False,
    }
    if known:
        where = runs.folder(known[-1])
        book = Book.found(where)
        book.note(**facts, state="running", ended=None)
        print(f"going on with {where.name}", flush=True)
    else:
        where, book = runs.begin(facts, order["run"])
    if (bundle / "ca.pem").exists():
        os.environ["ISTHMUS_CA"] = str(bundle / "ca.pem")
    memory = running.Memory(run=where.name, book=book, results=runs.results(), reuse=facts["reuse"])
    telling = Telling(program.graph, book, report)
    telling.tell()

    def watch(told: Any) -> None:
        telling(told)
        if told.kind == "failed":
            print(f"{told.task} failed: {told.message}\n{told.log}", flush=True)

    try:
        abroad = workflows.abroad(book.facts())
        settings = running.HereSettings(**order["settings"])
        finish = running.drive(program, given, running.steps_of(where), settings, watch, memory, abroad)
        found = results.deliver(finish.outputs, facts["outdir"], owned=str(where), keep=True)
        book.note(outputs=program.hidden.value(found))
        if not finish.failures:
            _crate(book, folder / CRATE)
    finally:
        telling.tell()
        program.close()
        memory.results.close()
        book.close()
    out = folder / OUT
    out.mkdir(exist_ok=True)
    (out / "outputs.json").write_text(json.dumps(found, indent=2))
    count = telling.total
    print(f"{count['done']} done, {count['reused']} reused, {count['failed']} failed", flush=True)
    if finish.failures:
        return 1
    asyncio.run(_say_goodbye(order))
    return 0


def _crate(book: Any, to: Path) -> None:
    """The run as a crate with its workflow; what it read and made is named there, and lies where it is."""
    from isthmus.workflows import crate

    facts = book.facts()
    crate.write(facts, list(book.entries()), to, content=False)
    process = Path(facts["process"].partition("#")[0])
    shutil.copyfile(process, to / process.name)


async def _say_goodbye(order: dict[str, Any]) -> None:
    """Remove the token and the secrets of this run, which nobody needs any more."""
    from isthmus.client import AsyncClient
    from isthmus.workflows.submission import forget

    try:
        async with AsyncClient() as client:
            await forget(client, order["token"], order["secrets"])
    except IsthmusError as error:  # the run is good all the same, and the next `submit` removes them
        tell(error)


if __name__ == "__main__":
    main()
