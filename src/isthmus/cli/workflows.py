"""`isthmus workflow`: run CWL files on this machine, look at runs, go on with them."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output, serverruns
from isthmus.cli.output import Format, Output, note

if TYPE_CHECKING:
    from isthmus.client import AsyncClient
    from isthmus.workflows.cwl.opening import Opened
    from isthmus.workflows.driver.book import Entry
    from isthmus.workflows.placing import Bindings
    from isthmus.workflows.running import Abroad

app = typer.Typer(no_args_is_help=True, help="Run CWL workflows, each step where it fits.")

Run = Annotated[str, typer.Argument(help="A run's id, or its beginning.", show_default=False)]
Server = Annotated[
    bool, typer.Option("--server", help="One that a job of the server of `isthmus login` drives: RUN is that job.")
]
Inputs = Annotated[str, typer.Argument(help="A YAML or JSON file of inputs.")]
BindingsFile = Annotated[
    Path | None, typer.Option("--bindings", "-b", help="The file that says which step goes where.")
]
WhichWorkflow = Annotated[str, typer.Option(help="Which workflow of a streamflow.yml.")]
ServersSites = Annotated[
    bool, typer.Option("--server", help="Sites of the server of `isthmus login`, not of this machine.")
]
Reuse = Annotated[bool, typer.Option(help="Take results that an earlier run made of the same.")]
KeepGoing = Annotated[bool, typer.Option(help="After a failure, go on with what does not need it.")]
PASSED = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=PASSED)
def run(
    context: typer.Context,
    process: Annotated[
        str, typer.Argument(help="A CWL file, its URL, FILE#NAME, or a streamflow.yml.", show_default=False)
    ],
    inputs: Inputs = "",
    bindings: BindingsFile = None,
    workflow: WhichWorkflow = "",
    server: ServersSites = False,
    trust: Annotated[
        bool, typer.Option("--trust-host-keys", help="Pin the host keys of new sites, without asking.")
    ] = False,
    outdir: Annotated[Path, typer.Option(help="Where the outputs go.")] = Path(),
    reuse: Reuse = True,
    keep_going: KeepGoing = False,
    engine: Annotated[str, typer.Option(help="The container engine: podman, docker, apptainer, charliecloud.")] = "",
    cpus: Annotated[float, typer.Option(help="Cores used at once here; 0 is all.")] = 0.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell of failures only.")] = False,
) -> None:
    """Run a CWL process; its outputs are printed as JSON. Inputs may also be given as --NAME VALUE."""
    from isthmus.workflows.hidden import MASK
    from isthmus.workflows.runs import Runs

    opened, bindings = _opened(process, inputs, context.args, bindings, workflow)
    runs = Runs()
    withheld = {name: opened.given[name] for name in opened.program.secrets() if name in opened.given}
    folder, book = runs.begin(
        {
            "name": opened.program.name,
            "process": opened.address,
            "given": {**opened.given, **dict.fromkeys(withheld, MASK)},
            "requirements": opened.requirements,
            "outdir": str(outdir.absolute()),
            "settings": {"engine": engine, "cpus": cpus, "stop_early": not keep_going},
            "reuse": reuse,
            "bindings": str(bindings.absolute()) if bindings is not None else "",
            "workflow": workflow,
            "server": server,
            "trust": trust,
        }
    )
    if withheld:
        runs.withhold(folder, withheld)
    raise typer.Exit(_go(opened.program, opened.given, folder, book, runs, quiet=quiet))


@app.command(context_settings=PASSED)
def submit(
    context: typer.Context,
    process: Annotated[str, typer.Argument(help="A CWL file, FILE#NAME, or a streamflow.yml.", show_default=False)],
    inputs: Inputs = "",
    bindings: BindingsFile = None,
    workflow: WhichWorkflow = "",
    on: Annotated[str, typer.Option(help="The site on the server's machine that drives it.")] = "local",
    cpus: Annotated[int, typer.Option(help="Cores for the steps that stay with the driver.")] = 1,
    reuse: Reuse = True,
    keep_going: KeepGoing = False,
) -> None:
    """Hand a run to the server of `isthmus login`: a job there drives it. Prints the job's id."""
    import asyncio

    from isthmus.cli.calling import client
    from isthmus.workflows import submission

    opened, bindings = _opened(process, inputs, context.args, bindings, workflow)

    async def send() -> int:
        async with client() as server:
            job = await submission.submit(
                server,
                opened,
                bindings=bindings,
                workflow=workflow,
                site=on,
                cpus=cpus,
                reuse=reuse,
                stop_early=not keep_going,
            )
            return job.id

    print(asyncio.run(send()))


def _opened(
    process: str, inputs: str, words: list[str], bindings: Path | None, workflow: str
) -> "tuple[Opened, Path | None]":
    """A process with its inputs, both checked, and the file that says which step goes where."""
    from isthmus.workflows.cwl import opening

    if inputs.startswith("--"):
        words, inputs = [inputs, *words], ""
    process, inputs, bindings = _streamflow(process, inputs, bindings, workflow)
    bound = _bindings(bindings, workflow) if bindings is not None else None
    opened = opening.opened(process, inputs, words, bindings=bound)
    for told in opened.strange:
        note(f"isthmus: {told}")
    opened.program.inputs(opened.given)
    return opened, bindings


def _streamflow(process: str, inputs: str, bindings: Path | None, workflow: str) -> tuple[str, str, Path | None]:
    """The process, inputs and bindings, where it is a streamflow.yml that names them."""
    from isthmus.workflows.streamflow import reading

    if not reading.is_streamflow(process):
        return process, inputs, bindings
    found = reading.read(Path(process), workflow)
    for told in found.notes:
        note(f"isthmus: {told}")
    return found.process, inputs or found.inputs, bindings or Path(process)


def _bindings(path: Path, workflow: str) -> "Bindings":
    from isthmus.workflows import bindings
    from isthmus.workflows.streamflow import reading

    if reading.is_streamflow(str(path)):
        return reading.read(path, workflow).bindings
    return bindings.read(path)


@app.command()
def resume(
    run: Run,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell of failures only.")] = False,
    server: Server = False,
) -> None:
    """Go on with a run that failed or was interrupted: what is done stays done."""
    if server:
        serverruns.resume(run)
        return
    from isthmus.domain.errors import Conflict
    from isthmus.workflows.cwl import opening
    from isthmus.workflows.driver.book import Book
    from isthmus.workflows.hidden import MASK
    from isthmus.workflows.runs import Runs

    runs = Runs()
    folder = runs.folder(run)
    book = Book.found(folder)
    facts = book.facts()
    given = {**facts["given"], **runs.withheld(folder)}
    program = opening.again(facts["process"], given, facts["requirements"])
    gone = [name for name in program.secrets() if given.get(name) == MASK]
    if gone:
        raise Conflict(f"The run has ended, and its secret {gone[0]!r} is kept no more.", hint="Run it anew.")
    book.note(state="running", ended=None)
    raise typer.Exit(_go(program, given, folder, book, runs, quiet=quiet))


def _go(program: Any, given: Any, folder: Path, book: Any, runs: Any, *, quiet: bool) -> int:
    """Drive a run to its end; the exit code."""
    from isthmus.workflows import running
    from isthmus.workflows.cwl import results
    from isthmus.workflows.runs import WITHHELD, locked

    facts = book.facts()
    watcher = _Watcher(folder.name, quiet=quiet)
    memory = running.Memory(run=folder.name, book=book, results=runs.results(), reuse=facts["reuse"])
    settings = running.HereSettings(**facts["settings"])
    try:
        far = abroad(facts)
        with locked(folder):
            finish = running.drive(program, given, running.steps_of(folder), settings, watcher, memory, far)
            found = results.deliver(finish.outputs, facts["outdir"], owned=str(folder), keep=True)
            book.note(outputs=program.hidden.value(found))
            if not finish.failures:
                (folder / WITHHELD).unlink(missing_ok=True)
    except BaseException:
        if book.facts().get("state") == "running":
            book.note(state="failed", ended=time.time())
        raise
    finally:
        watcher.end()
        program.close()
        memory.results.close()
        book.close()
    json.dump(found, sys.stdout, indent=2)
    sys.stdout.write("\n")
    if finish.failures:
        note(f"isthmus: the run failed. When that is mended: isthmus workflow resume {folder.name}")
        return 1
    return 0


def abroad(facts: dict[str, Any]) -> "Abroad | None":
    """How steps get to sites, where the bindings send any there."""
    if not facts.get("bindings"):
        return None
    from isthmus.workflows import running
    from isthmus.workflows.driver.delivery import brought

    bindings = _bindings(Path(facts["bindings"]), facts["workflow"])
    if not bindings.remote and not any(target.image for target in bindings.targets):
        return None

    return running.Abroad(
        bindings=bindings, connect=lambda: _client(facts["server"]), trust_host_keys=facts["trust"], then=brought
    )


class _Watcher:
    """Tells what happens: a line that counts, on a terminal; failures always."""

    def __init__(self, run: str, *, quiet: bool) -> None:
        self._counts = {"started": 0, "done": 0, "reused": 0, "skipped": 0, "failed": 0}
        self._line = sys.stderr.isatty() and not quiet
        self._told = 0.0
        self._quiet = quiet
        if not quiet:
            note(f"isthmus: run {run}")

    def __call__(self, told: Any) -> None:
        self._counts[told.kind] += 1
        if told.kind == "failed":
            self._clear()
            note(f"isthmus: {told.task} failed: {told.message}")
            for line in told.log.splitlines()[-10:]:
                note(f"    {line}")
            if told.rest:
                note(f"    all of it: {told.rest}")
        if self._line and time.monotonic() - self._told > 0.1:
            self._told = time.monotonic()
            sys.stderr.write(f"\r{self._sentence()}\x1b[K")
            sys.stderr.flush()

    def _sentence(self) -> str:
        count = self._counts
        running = max(0, count["started"] - count["done"] - count["failed"])
        more = "".join(f", {count[kind]} {kind}" for kind in ("reused", "skipped", "failed") if count[kind])
        return f"isthmus: {count['done']} done, {running} running{more}"

    def _clear(self) -> None:
        if self._line:
            sys.stderr.write("\r\x1b[K")

    def end(self) -> None:
        """The last word."""
        self._clear()
        if not self._quiet:
            count = self._counts
            more = "".join(f", {count[kind]} {kind}" for kind in ("reused", "skipped", "failed") if count[kind])
            note(f"isthmus: {count['done']} done{more}")


@app.command()
def validate(
    process: Annotated[str, typer.Argument(help="A CWL file, its URL, or FILE#NAME.", show_default=False)],
    inputs: Inputs = "",
    form: Output = Format.TABLE,
) -> None:
    """Say what is wrong with a process, or with its inputs, without running anything."""
    from isthmus.workflows.cwl import opening

    opened = opening.opened(process, inputs)
    if inputs:
        opened.program.inputs(opened.given)
    for told in opened.strange:
        note(f"isthmus: {told}")
    if form is not Format.TABLE:
        graph = opened.program.graph
        output.data({"process": opened.address, "inputs": [*graph.inputs], "outputs": [*graph.outputs]}, form)
        return
    print(f"{process}: good")


@app.command()
def plan(
    process: Annotated[str, typer.Argument(help="A CWL file, FILE#NAME, or a streamflow.yml.", show_default=False)],
    inputs: Annotated[str, typer.Argument(help="A YAML or JSON file of inputs: checked too.")] = "",
    bindings: BindingsFile = None,
    workflow: WhichWorkflow = "",
    server: ServersSites = False,
    form: Output = Format.TABLE,
) -> None:
    """Where each step would go and why, and what would move. Nothing runs."""
    from isthmus.workflows import planning
    from isthmus.workflows.cwl import opening
    from isthmus.workflows.placing import Bindings

    process, inputs, bindings = _streamflow(process, inputs, bindings, workflow)
    found = _bindings(bindings, workflow) if bindings is not None else Bindings()
    opened = opening.opened(process, inputs, bindings=found)
    if inputs:
        opened.program.inputs(opened.given)
    if found.named_sites() - set(found.sites):
        found.check(opened.program.graph, _known_sites(server))
    rows = planning.plan(opened.program.graph, found)
    _show(rows, form, ["step", "where", "why", "moves"], lambda row: {**row, "moves": ", ".join(row["moves"])})


def _known_sites(server: bool) -> list[str]:
    """The names of the sites that a run would know."""
    import asyncio

    async def ask() -> list[str]:
        client = await _client(server)
        try:
            return [site.name for site in await client.sites.list()]
        finally:
            await client.close()

    return asyncio.run(ask())


async def _client(server: bool) -> "AsyncClient":
    """The server of `isthmus login`, or a control plane in this process."""
    if server:
        from isthmus.client import AsyncClient

        return AsyncClient()
    from isthmus.embedded import AsyncEmbeddedClient

    return await AsyncEmbeddedClient.open()


@app.command()
def crate(
    run: Run,
    to: Annotated[Path, typer.Option("--to", help="The folder to make.", show_default=False)],
    content: Annotated[bool, typer.Option(help="With the workflow, its inputs and outputs.")] = True,
    server: Server = False,
) -> None:
    """Write a run as a Workflow Run RO-Crate. That of a server's run names its files, and has the workflow alone."""
    if server:
        serverruns.crate(run, to)
        return
    from isthmus.domain.errors import Conflict
    from isthmus.workflows import crate as crates

    facts, entries = _read(run)
    try:
        print(crates.write(facts, entries, to, content=content))
    except FileExistsError:
        raise Conflict(f"{to} is there already.", hint="Name another folder.") from None


@app.command("list")
def list_(
    form: Output = Format.TABLE,
    server: Annotated[bool, typer.Option("--server", help="Those that jobs of the server drive.")] = False,
) -> None:
    """The runs of this machine, the newest last."""
    if server:
        serverruns.table(form)
        return
    from isthmus.workflows.runs import Runs

    runs = Runs()
    found = []
    for each in runs.ids():
        facts = {"run": each, "state": "cut off", **runs.facts(each)}
        found.append({name: facts.get(name) for name in ("run", "name", "state", "started", "ended", "process")})
    _show(found, form, ["run", "state", "took", "process"], lambda row: {**row, "took": _took(row)})


@app.command()
def show(run: Run, form: Output = Format.TABLE, server: Server = False) -> None:
    """A run: its state, and what became of each task, or with --server of each step."""
    if server:
        serverruns.show(run, form, figures=False)
        return
    facts, entries = _read(run)
    rows = [_row(entry) for entry in entries]
    if form is not Format.TABLE:
        output.data({**_brief(facts), "tasks": rows}, form)
        return
    print(f"{facts['run']}: {facts['state']}  {_took(facts)}  {facts['process']}")
    for failure in facts.get("failures") or ():
        print(f"  {failure['task']}: {failure['message']}")
    _show(rows, form, ["task", "state", "place", "took", "message"], lambda row: row)


@app.command()
def explain(
    run: Run,
    task: Annotated[str, typer.Argument(help="A task, as `show` names it.", show_default=False)],
    form: Output = Format.TABLE,
) -> None:
    """Why a task was run, or what its result was taken from."""
    from isthmus.domain.errors import NotFound, nearest
    from isthmus.workflows.driver.explaining import explained
    from isthmus.workflows.runs import Runs

    facts, entries = _read(run)
    found = next((entry for entry in entries if entry.task == task), None)
    if found is None:
        raise NotFound(f"The run has no task {task!r}.", hint=nearest(task, [entry.task for entry in entries]))
    said = explained(found, facts, Runs())
    if form is not Format.TABLE:
        output.data({"task": task, "state": found.state, "why": said}, form)
        return
    print(f"{task}: {found.state}")
    for line in said:
        print(f"  {line}")


@app.command()
def report(run: Run, form: Output = Format.TABLE, server: Server = False) -> None:
    """Where a run's time went: a line for each step, waits, what was used."""
    if server:
        serverruns.show(run, form, figures=True)
        return
    from isthmus.workflows.reporting import lines, summary

    facts, entries = _read(run)
    if form is not Format.TABLE:
        output.data({**_brief(facts), **summary(facts, entries)}, form)
        return
    for line in lines(facts, entries):
        print(line)


@app.command()
def graph(
    process: Annotated[str, typer.Argument(help="A CWL file, its URL, or FILE#NAME.", show_default=False)],
    to: Annotated[Path | None, typer.Option("--to", help="The SVG file to write; stdout.")] = None,
    form: Output = Format.TABLE,
) -> None:
    """Draw a workflow as SVG, or say as JSON or YAML which steps wait for which."""
    from isthmus.workflows.cwl import opening
    from isthmus.workflows.drawing import svg, waits

    drawn = opening.opened(process).program.graph
    if form is not Format.TABLE:
        output.data(waits(drawn), form)
        return
    text = svg(drawn)
    if to is None:
        sys.stdout.write(text)
    else:
        to.write_text(text)


@app.command()
def clean(
    older: Annotated[str, typer.Option(help="Runs that ended longer ago than this.")] = "30d",
    runs: Annotated[list[str] | None, typer.Argument(help="These runs, whatever their age.")] = None,
    form: Output = Format.TABLE,
) -> None:
    """Remove runs, their files and the results in them. Delivered outputs stay."""
    from isthmus.domain.units import Seconds
    from isthmus.workflows.runs import Runs

    known = Runs()
    chosen = list(runs or ())
    if not chosen:
        before = time.time() - Seconds.parse(older)
        for each in known.ids():
            facts = known.facts(each)
            ended = facts.get("ended") if facts else known.folder(each).stat().st_mtime
            if ended and ended < before:
                chosen.append(each)
    freed = sum(known.remove(each) for each in chosen)
    if form is not Format.TABLE:
        output.data({"removed": chosen, "bytes": freed}, form)
        return
    print(f"{len(chosen)} runs removed, {freed / 1e6:.1f} MB")


def _read(run: str) -> "tuple[dict[str, Any], list[Entry]]":
    from isthmus.workflows.driver.book import Book
    from isthmus.workflows.runs import Runs

    book = Book.found(Runs().folder(run))
    try:
        return book.facts(), list(book.entries())
    finally:
        book.close()


def _brief(facts: dict[str, Any]) -> dict[str, Any]:
    names = ("run", "name", "state", "process", "started", "ended", "outdir", "failures", "outputs")
    return {name: facts.get(name) for name in names}


def _row(entry: "Entry") -> dict[str, Any]:
    return {
        "task": entry.task,
        "state": entry.state,
        "place": entry.place or ("run " + entry.reused if entry.reused else ""),
        "job": entry.job or None,
        "started": entry.started or None,
        "ended": entry.ended or None,
        "took": f"{entry.wall_s:.2f} s" if entry.wall_s else "",
        "exit_code": entry.exit_code,
        "cpu_s": entry.cpu_s,
        "peak_mem": entry.peak_mem,
        "message": entry.message,
    }


def _took(facts: dict[str, Any]) -> str:
    if not facts.get("started"):
        return ""
    return f"{(facts.get('ended') or time.time()) - facts['started']:.1f} s"


def _show(rows: list[dict[str, Any]], form: Format, columns: list[str], shown: Any) -> None:
    if form is not Format.TABLE:
        output.data(rows, form)
        return
    texts = [[str(shown(row).get(name) or "") for name in columns] for row in rows]
    output.table([name.upper() for name in columns], texts)
