"""One run, from a program and its inputs to its end: what the command lines share."""

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import Invalid, Unavailable
from isthmus.workflows.dataflow.machine import Finish
from isthmus.workflows.driver.drive import Drive, Places, Watcher
from isthmus.workflows.driver.guardian import Guardian
from isthmus.workflows.driver.here import Here
from isthmus.workflows.driver.places import OnThisMachine
from isthmus.workflows.placing import Bindings
from isthmus.workflows.program import Program

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from isthmus.client import AsyncClient
    from isthmus.workflows.driver.book import Book
    from isthmus.workflows.driver.results import Results
    from isthmus.workflows.driver.sites import AtSites


@dataclass(frozen=True, slots=True, kw_only=True)
class HereSettings:
    """How a run on this machine goes."""

    engine: str = ""  # the container engine; "": the first found
    cpus: float = 0.0  # used at once; 0: all
    stop_early: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What makes a run durable: its book, and the results that runs share."""

    run: str
    book: "Book"
    results: "Results"
    reuse: bool = True


class Scratch:
    """A folder for the steps of one run, gone when it is over."""

    def __init__(self, prefix: str = "") -> None:
        self.path = tempfile.mkdtemp(prefix="isthmus-run-", dir=prefix or None)

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abroad:
    """What sends steps to sites: the bindings, and how the control plane is reached when the first of them needs it."""

    bindings: Bindings
    connect: "Callable[[], Awaitable[AsyncClient]]"
    trust_host_keys: bool = False
    then: "Callable[[dict[str, Any], AtSites], Awaitable[dict[str, Any]]] | None" = None


def drive(
    program: Program,
    given: Mapping[str, Any],
    root: str,
    settings: HereSettings,
    watcher: Watcher | None = None,
    memory: Memory | None = None,
    abroad: Abroad | None = None,
) -> Finish:
    """Run a program: on this machine, in step folders below ``root``, and where ``abroad`` says so at sites. Blocks.

    SIGINT and SIGTERM end what runs, then raise KeyboardInterrupt. Raises Invalid for wrong inputs.
    """
    if abroad is not None:
        abroad.bindings.check(program.graph)
    inputs = program.inputs(given)
    os.makedirs(root, exist_ok=True)
    guardian = Guardian(root)
    try:
        return asyncio.run(_drive(program, inputs, root, settings, watcher, memory, abroad, guardian))
    except asyncio.CancelledError:
        if memory is not None:
            memory.book.note(state="interrupted", ended=time.time())
        raise KeyboardInterrupt from None
    finally:
        guardian.dismiss()


async def _drive(
    program: Program,
    inputs: dict[str, Any],
    root: str,
    settings: HereSettings,
    watcher: Watcher | None,
    memory: Memory | None,
    abroad: Abroad | None,
    guardian: Guardian,
) -> Finish:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    async with AsyncExitStack() as stack:
        here = Here(root, engine=settings.engine, guardian=guardian)
        if abroad is None and program.contained() and not here.contained:
            raise Unavailable(
                "This process needs a container engine, and there is none on this machine.",
                hint="Install podman, docker, apptainer or charliecloud, or bind the step to a site that has one.",
                place=program.contained(),
                code="no-engine",
            )
        _refuse_impossible(program, here, abroad.bindings if abroad is not None else Bindings())
        on_this_machine = OnThisMachine(here, cpus=settings.cpus)
        places: Places = on_this_machine
        sites: AtSites | None = None
        keys: dict[str, str] = {}
        if abroad is not None:
            from isthmus.workflows.driver.routing import Routing

            run = memory.run if memory is not None else secrets.token_hex(8)
            sites = await _sites(abroad, program, run, Path(root).parent / "fetched", stack)
            places = routing = Routing(on_this_machine, sites, abroad.bindings, program)
            keys = routing.keys
        if memory is not None:
            from isthmus.workflows.driver.remembering import Remembering

            stack.callback(memory.results.flush)
            stack.callback(memory.book.flush)
            plane = sites.plane if sites is not None else ""
            places = remembering = Remembering(
                places, program, memory.book, memory.results, run=memory.run, reuse=memory.reuse, plane=plane, keys=keys
            )
            if sites is not None:
                sites.submitted = remembering.submitted
        if sites is not None:
            from isthmus.workflows.driver import lying

            inputs = await lying.known(inputs, sites.client)
        drive = Drive(program, places, stop_early=settings.stop_early, watcher=watcher)
        try:
            finish = await drive.run(inputs)
        except asyncio.CancelledError:
            if sites is not None:
                await sites.end(kill=True)
            raise
        if sites is not None and abroad is not None and abroad.then is not None:
            finish = replace(finish, outputs=await abroad.then(finish.outputs, sites))
    if memory is not None:
        failures = [{"task": name, "message": why} for name, why in finish.failures]
        memory.book.note(state="failed" if failures else "completed", ended=time.time(), failures=failures)
    return finish


def _refuse_impossible(program: Program, here: Here, bindings: Bindings) -> None:
    """Raise Invalid where a step that stays here asks for more than this machine has."""
    for path, need, place in program.asked():
        refusal = here.refusal(need) if bindings.target(path).here else ""
        if refusal:
            raise Invalid(
                f"{path}: {refusal}",
                place=place,
                hint="Ask for less, or bind the step to a site that has it.",
                code="impossible",
            )


async def _sites(abroad: Abroad, program: Program, run: str, fetched: Path, stack: AsyncExitStack) -> "AtSites":
    """The control plane, with the sites that the bindings describe. Raises Invalid for a site that does not exist."""
    from isthmus.workflows.driver.sites import AtSites

    client = await abroad.connect()
    stack.push_async_callback(client.close)
    known = {site.name: site for site in await client.sites.list()}
    abroad.bindings.check(program.graph, known)
    described = (abroad.bindings.named_sites() & set(abroad.bindings.sites)) - set(known)
    specs = [abroad.bindings.sites[name] for name in sorted(described)]
    adding = (client.sites.add(spec, trust_host_keys=abroad.trust_host_keys) for spec in specs)
    known.update({site.name: site for site in await asyncio.gather(*adding)})
    engines = {name: frozenset(site.inventory.engines) for name, site in known.items()}
    plane = (await client.server()).instance
    found = AtSites(
        client,
        run=run,
        plane=plane,
        images=dict(abroad.bindings.images),
        engines=engines,
        fetched=fetched,
        prices={name: site.spec.price for name, site in known.items() if site.spec is not None},
    )
    stack.push_async_callback(found.end, kill=False)
    return found


def steps_of(folder: Path) -> str:
    """Where the step folders of a run are."""
    return str(folder / "steps")
