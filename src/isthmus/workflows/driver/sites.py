"""Steps as jobs: handed to the control plane by its client, in batches; what they leave stays at their sites.

    run ─► work ─► a job's spec ─┐                          ┌─► outputs, by name and digest
                                 ├─ one request for many ─► jobs
    files ─► datasets ───────────┘                          └─► the next step's inputs, where they lie

A file that a job left is ``job:PLANE/17/model.pt``: PLANE is the control plane's name, 17 the job. As the input of a
step at the same site it is linked there, and at another the control plane brings it over.
"""

import asyncio
import contextlib
import hashlib
import math
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import Conflict, IsthmusError, NotFound
from isthmus.domain.jobs import Input, JobRequest, Output, Resources, Retry
from isthmus.domain.reasons import Reason
from isthmus.domain.units import Bytes, Seconds
from isthmus.runner.command import WORK
from isthmus.workflows.dataflow.machine import Start
from isthmus.workflows.driver.drive import Performed
from isthmus.workflows.driver.results import located
from isthmus.workflows.locations import DATASET, path_of
from isthmus.workflows.placing import ANYWHERE, Target
from isthmus.workflows.program import Run
from isthmus.workflows.work import Ended, Folders, InputsGone, Left, LeftEntry, Need, Placed, StepFailed, Wanted, Work

if TYPE_CHECKING:
    from isthmus.client import AsyncClient
    from isthmus.domain.sites import Price
    from isthmus.domain.views import JobView, OutputView

OWN = ".isthmus"  # our folder in a job's work folder: what is not the command's to look at
CODE, OUTSIDE = f"{OWN}/code", f"{OWN}/outside/"
GATHER_S = 0.02  # how long a submission waits for others to go with it
MOST_AT_ONCE = 1000
AWAY_S = 2.0
ENDING_S = 60.0  # a site that is away would keep an interrupted driver here longer
TEXT_BYTES = 64 << 10
MOST_TEXT = 96 << 10  # of texts in a job's variables: the kernel allows 128 KiB in one
RUN, TASK, KEY = "isthmus.run", "isthmus.task", "isthmus.key"

# What the job runs first. Its words and texts come as arguments and variables: no shell reads them as its own.
BEGIN = """\
set -e
success=
while [ "$1" != -- ]; do
  case $1 in
    dir) mkdir -p "$2"; shift 2;;
    text) case $2 in */*) mkdir -p "${2%/*}";; esac; eval "printf %s \\"\\$$3\\"" > "$2"; unset "$3"; shift 3;;
    stdin) exec < "$2"; shift 2;;
    link) mkdir -p "${3%/*}"; ln -s "$PWD/$2" "$3"; shift 3;;
    move) mkdir -p "${3%/*}"; cp -R "$2" "$3"; shift 3;;
    success) success=$2; shift 2;;
  esac
done
shift
[ -n "$success" ] || exec "$@"
"$@" && code=0 || code=$?
echo "$code" > @CODE@
case ,$success, in *",$code,"*) exit 0;; esac
[ "$code" != 0 ] || exit 1
exit "$code"
""".replace("@CODE@", CODE)


class AtSites:
    """Runs steps through a client. ``submitted`` is told of each task that has become a job, before it goes on."""

    def __init__(
        self,
        client: "AsyncClient",
        *,
        run: str,
        plane: str,
        images: dict[str, str],
        engines: dict[str, frozenset[str]],
        fetched: Path,
        prices: "dict[str, Price] | None" = None,
        submitted: Callable[[str, int, str], None] | None = None,
    ) -> None:
        self.client = client
        self._run = run
        self.plane = plane
        self._images = images
        self._engines = engines  # by site: the container engines there
        self._fetched = fetched
        self._prices = prices or {}
        self.submitted = submitted
        self._waiting: list[tuple[JobRequest, asyncio.Future[int]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._live: dict[int, asyncio.Future[JobView]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._more = asyncio.Event()  # there are more live jobs than are waited for
        self._datasets: dict[str, asyncio.Task[str]] = {}
        self._fetches: dict[str, asyncio.Task[str]] = {}
        self._known: dict[str, tuple[int, str]] | None = None
        self._asking: asyncio.Task[dict[str, tuple[int, str]]] | None = None
        self._forgotten: set[str] = set()
        self._sites: dict[int, str] = {}  # job -> where it ran
        self._there: set[tuple[str, str]] = set()  # what this run brought to which site
        self._secrets: dict[str, asyncio.Task[str]] = {}

    async def perform(self, task: str, start: Start, run: Run, target: Target, key: str) -> Performed:
        """Run it as a job to its end, or go on with the job that an earlier driver made of it. Raises StepFailed."""
        began = time.time()
        folders = Folders(WORK, f"{WORK}/{OWN}/tmp", f"{WORK}/{OWN}/in", own_paths=False)
        work = run.work(folders, contained=self._contained(target))
        if target.image is not None:
            work = replace(work, image=target.image)
        wanted = run.wanted()
        try:
            job = await self._earlier(task, key)
            if job == 0:
                job = await self._submit(await self._request(task, work, wanted, target, key))
            if self.submitted is not None:
                self.submitted(task, job, ",".join(target.sites))
            view = await self._ended(job)
            self._refuse_without(view, start)
            left = await self._left(view, wanted)
            ended = await self._how(view, left)
        except asyncio.CancelledError:
            raise
        except IsthmusError as error:
            raise StepFailed(str(error)) from None
        outputs = run.collect(ended, left)
        return Performed(
            outputs=outputs,
            ended=ended,
            place=view.site,
            job=job,
            started=view.started_at.timestamp() if view.started_at else began,
            moved=self._moved(start, view),
            cost=self._cost(work.need, target, view),
        )

    def _moved(self, start: Start, view: "JobView") -> int:
        """The bytes that came to the job's site for it, and were not there since an earlier job of this run."""
        self._sites[view.id] = view.site
        total = 0
        for file in located(start.inputs):
            place = str(file["location"])
            _, job, _ = split(place)
            if (place, view.site) in self._there or (job and self._sites.get(job) == view.site):
                continue
            self._there.add((place, view.site))
            total += int(file.get("size") or _size(path_of(place)))
        return total

    def far_bytes(self, start: Start) -> int:
        """How much of what a task reads must be brought to this machine first."""
        far = {str(file["location"]): file for file in located(start.inputs) if split(str(file["location"]))[1]}
        return sum(int(file.get("size") or 0) for place, file in far.items() if place not in self._fetches)

    def _cost(self, need: Need, target: Target, view: "JobView") -> float:
        price = self._prices.get(view.site)
        if price is None:
            return 0.0
        asked = self._resources(need, target)
        said = price.gpu(asked.gpu_type).hour
        gpu_hour = price.gpu_hour if said is None else said
        an_hour = (asked.cpus * price.cpu_hour + asked.gpus * gpu_hour + price.node_hour) * asked.nodes
        return an_hour * _seconds(view) / 3600

    def forget(self, task: str) -> None:
        """Its earlier job is of no use any more: the next `perform` makes another."""
        self._forgotten.add(task)

    def _refuse_without(self, view: "JobView", start: Start) -> None:
        """Raise InputsGone where the job could not get what other jobs had left."""
        if view.reason is not Reason.STAGE:
            return
        gone = []
        for file in located(start.inputs):
            _, job, path = split(str(file["location"]))
            if job and f"output {path} of job {job}" in view.message:
                gone.append(str(file["location"]))
        if gone:
            raise InputsGone(view.message, tuple(gone))

    async def end(self, *, kill: bool) -> None:
        """Nothing more is waited for; with ``kill`` the jobs of this run are ended first, those too of which it is not
        known yet that they were made. A control plane in this process could not end them later."""
        for task in (self._sending, self._looking, *self._datasets.values(), *self._fetches.values()):
            if task is not None:
                task.cancel()
        if kill:
            live = [job.id async for job in self.client.jobs.all(label={RUN: self._run}) if not job.state.ended]
            if live:
                await self.client.jobs.kill(*live)
                await self.client.jobs.wait_many(live, timeout_s=ENDING_S)
        for kept in self._secrets.values():
            with contextlib.suppress(IsthmusError):
                await self.client.secrets.remove(await kept)

    async def fetch(self, place: str) -> str:
        """The path of a copy, on this machine, of what a job left. Raises StepFailed."""
        if place not in self._fetches:
            self._fetches[place] = asyncio.ensure_future(self._fetch(place))
        try:
            return await self._fetches[place]
        except (NotFound, Conflict) as error:
            self._fetches.pop(place, None)
            raise InputsGone(f"{place} can't be brought here: {error}", (place,)) from None
        except IsthmusError as error:
            raise StepFailed(f"{place} can't be brought here: {error}") from None

    # ---- from work to a job

    def _contained(self, target: Target) -> bool:
        sites = self._engines if target.sites == (ANYWHERE,) else target.sites
        return any(self._engines.get(site) for site in sites)

    async def _request(self, task: str, work: Work, wanted: Wanted, target: Target, key: str) -> JobRequest:
        begin = ["dir", f"{WORK}/{OWN}/tmp"]
        env = {**work.env, **target.env}
        inputs = []
        size = 0
        for each in work.placed:
            inside = self._inside(each, contained=work.image is not None)
            if each.text is not None:
                size += len(each.text.encode())
                if size > MOST_TEXT and WORK not in each.text and not _hides(work, each.text):
                    inputs.append(Input(path=inside, dataset=await self._text(each.text), mode="copy"))
                else:
                    name = f"ISTHMUS_TEXT_{len(env)}"
                    env[name] = each.text
                    begin += ["text", inside, name]
            elif each.location is None:
                begin += ["dir", inside]
            else:
                inputs.append(await self._input(each, inside))
            if inside.startswith(OUTSIDE):
                begin += ["move" if each.writable else "link", inside, each.target]
        if work.success != (0,):
            begin += ["success", ",".join(map(str, work.success))]
        if work.stdin:
            begin += ["stdin", work.stdin]
        kept = {name: await self._secret(text) for name, text in env.items() if _hides(work, text)}
        return JobRequest(
            name=self._name(task),
            command=("/bin/sh", "-c", BEGIN, "sh", *begin, "--", *work.argv),
            image=self._image(work),
            env={name: text for name, text in env.items() if name not in kept},
            secrets=kept,
            resources=self._resources(work.need, target),
            inputs=tuple(inputs),
            outputs=tuple(
                Output(path=path, optional=True, collect=False)
                for path in (*wanted.paths, *([CODE] if work.success != (0,) else []))
                if path
            ),
            stdout=work.stdout,
            stderr=work.stderr,
            sites=() if target.sites == (ANYWHERE,) else target.sites,
            site_options={name: dict(each) for name, each in target.options.items()},
            retry=Retry(),
            labels={RUN: self._run, TASK: task, KEY: key[:32]},
        )

    async def _secret(self, text: str) -> str:
        """The name under which the control plane keeps a secret text for this run."""
        if text not in self._secrets:
            self._secrets[text] = asyncio.ensure_future(self._keep(f"workflow-{secrets.token_hex(8)}", text))
        return await self._secrets[text]

    async def _keep(self, name: str, text: str) -> str:
        await self.client.secrets.set(name, text)
        return name

    def _name(self, task: str) -> str:
        kept = "".join(char if char.isalnum() or char in "_.:@+/()[]=,-" else "." for char in task)
        return f"w/{kept}"[-190:].lstrip("/.[](),=+-:@") or "step"

    def _inside(self, each: Placed, *, contained: bool) -> str:
        """The path in the work folder of something that is placed. What lies elsewhere in a container is put there by
        the job's first commands, where its image lets it."""
        if each.target.startswith(WORK + "/"):
            return each.target[len(WORK) + 1 :]
        if not contained:
            raise StepFailed(f"{each.target} lies outside of the work folder, which needs a container at the site.")
        return f"{OUTSIDE}{each.target.lstrip('/')}"

    def _image(self, work: Work) -> str:
        if work.image is None:
            return ""
        reference = work.image.reference
        if reference in self._images:
            return self._images[reference]
        if work.image.load or work.image.imported or work.image.dockerfile or not reference:
            raise StepFailed("At a site an image must be a reference, or be named in the bindings' `images`.")
        return reference if "://" in reference or reference.startswith("/") else f"docker://{reference}"

    def _resources(self, need: Need, target: Target) -> Resources:
        more = dict(target.resources)
        found: dict[str, Any] = {
            "cpus": max(1, math.ceil(need.cpus)),
            "mem": Bytes(need.mem),
            "gpus": need.gpus,
            "time": Seconds(math.ceil(need.time)),
        }
        for name, value in more.items():
            found[name] = (
                Bytes.parse(value) if name in ("mem", "gpu_mem", "scratch") and isinstance(value, str) else value
            )
            if name == "time" and isinstance(value, str):
                found[name] = Seconds.parse(value)
        return Resources(**found)

    async def _input(self, each: Placed, inside: str) -> Input:
        # What may be changed in place is changed in a copy: the step's output is the changed one.
        mode = "copy" if each.writable or each.in_place else "link"
        assert each.location is not None
        plane, job, path = split(each.location)
        if job and plane == self.plane:
            return Input(path=inside, job=job, output=path, mode=mode)  # type: ignore[arg-type]
        if each.location.startswith(DATASET):
            return Input(path=inside, dataset=each.location.removeprefix(DATASET), mode=mode)  # type: ignore[arg-type]
        own = path_of(each.location)
        if not own:
            own = await self.fetch(each.location)
        return Input(path=inside, dataset=await self._dataset(own), mode=mode)  # type: ignore[arg-type]

    async def _text(self, text: str) -> str:
        folder = self._fetched / "texts"
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        path = folder / hashlib.sha256(text.encode()).hexdigest()
        await asyncio.to_thread(path.write_text, text)
        return await self._dataset(str(path))

    async def _dataset(self, path: str) -> str:
        """The name of a dataset with the content of a path of this machine; registered when it is first used."""
        if path not in self._datasets:
            self._datasets[path] = asyncio.ensure_future(self._register(path))
        return await self._datasets[path]

    async def _register(self, path: str) -> str:
        from isthmus.data import digests

        if not os.path.exists(path):
            raise StepFailed(f"There is no {path}.")
        measured = await asyncio.to_thread(digests.measure_now, Path(path))
        name = f"workflow-{measured.digest.removeprefix('sha256:')[:40]}"
        try:
            await self.client.datasets.get(f"{name}@1")
        except NotFound:
            await self.client.datasets.register(
                name, path, version="1", labels={"isthmus.run": self._run}, description="An input of a workflow's step."
            )
        return f"{name}@1"

    # ---- jobs

    async def _earlier(self, task: str, key: str) -> int:
        """The job that an earlier driver of this run made of a task, if its content is the same."""
        if task in self._forgotten:
            return 0
        if self._known is None:
            if self._asking is None:
                self._asking = asyncio.ensure_future(self._ask())
            self._known = await self._asking
        found, of = self._known.pop(task, (0, ""))
        return found if of == key[:32] else 0

    async def _ask(self) -> dict[str, tuple[int, str]]:
        """The jobs that the control plane knows of this run, by task, without those that failed."""
        known: dict[str, tuple[int, str]] = {}
        async for job in self.client.jobs.all(label={RUN: self._run}):
            if TASK in job.labels and job.state.value not in ("FAILED", "KILLED"):
                known.setdefault(job.labels[TASK], (job.id, job.labels.get(KEY, "")))
        return known

    async def _submit(self, request: JobRequest) -> int:
        """The id of the job, submitted together with whatever is submitted at the same time."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send())
        return await future

    async def _send(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_S)
            batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            await self._send_batch(batch)

    async def _send_batch(self, batch: "list[tuple[JobRequest, asyncio.Future[int]]]") -> None:
        try:
            made = await self.client.jobs.submit_many([request for request, _ in batch])
        except IsthmusError as error:
            if len(batch) > 1:  # all or none: one is refused, the others may be good
                for one in batch:
                    await self._send_batch([one])
                return
            if not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, future), job in zip(batch, made, strict=True):
            if not future.done():
                future.set_result(job.id)

    async def _ended(self, job: int) -> "JobView":
        future = self._live.get(job)
        if future is None:
            future = self._live[job] = asyncio.get_running_loop().create_future()
        self._more.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        return await asyncio.shield(future)

    async def _look(self) -> None:
        """Wait for the end of any of the live jobs, again and again: the control plane says when."""
        while self._live:
            await asyncio.sleep(GATHER_S)  # what begins or ends at the same time goes together
            self._more.clear()
            try:
                found = await self._some_ended(list(self._live))
            except IsthmusError as error:
                if not error.transient:
                    for future in self._live.values():
                        future.set_exception(error)
                    self._live.clear()
                    return
                await asyncio.sleep(AWAY_S)  # the control plane is away; its jobs go on
                continue
            for view in found:
                self._live.pop(view.id).set_result(view)

    async def _some_ended(self, jobs: list[int]) -> "list[JobView]":
        """Those that have ended, when there are some; none when there are more jobs to wait for than these."""
        parts = [jobs[first : first + MOST_AT_ONCE] for first in range(0, len(jobs), MOST_AT_ONCE)]
        calls = [asyncio.ensure_future(self.client.jobs.wait_any(part)) for part in parts]
        more = asyncio.ensure_future(self._more.wait())
        try:
            done, _ = await asyncio.wait({*calls, more}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (*calls, more):
                each.cancel()
        return [view for call in calls if call in done for view in call.result()]

    async def _how(self, view: "JobView", left: Left) -> Ended:
        attempts = await self.client.jobs.attempts(view.id)
        code = view.exit_code or 0
        if view.state.value == "COMPLETED" and any(each.path == CODE for each in left.entries):
            code = int(await self._text_at(view.id, CODE))
        last = attempts[-1] if attempts else None
        if view.state.value == "COMPLETED" or view.reason.value == "EXIT_CODE":
            return Ended(
                exit_code=code,
                wall_s=_seconds(view),
                cpu_s=last.usage.cpu_s if last else 0.0,
                peak_mem=last.usage.peak_mem_bytes if last else 0,
                log="" if view.state.value == "COMPLETED" else await self._log(view.id),
                rest=f"isthmus job logs {view.id}",
            )
        why = " ".join(filter(None, (view.reason.sentence, view.message)))
        raise StepFailed(
            f"Job {view.id} at {view.site or 'no site'}: {view.state.value}. {why}",
            log=await self._log(view.id),
            rest=f"isthmus job logs {view.id}",
            exit_code=view.exit_code,
        )

    async def _log(self, job: int) -> str:
        try:
            part = await self.client.jobs.log(job, offset=-4000)
        except IsthmusError:
            return ""
        return part.data.decode("utf-8", "replace").strip()

    # ---- what it left

    async def _left(self, view: "JobView", wanted: Wanted) -> Left:
        if view.state.value != "COMPLETED":
            return Left()
        from isthmus.workflows.driver.patterns import matches

        found = await self.client.jobs.outputs(view.id)
        entries = tuple(
            LeftEntry(
                path=each.path,
                location=f"job:{self.plane}/{view.id}/{each.path}",
                size=each.size,
                is_folder=each.kind == "folder",
                digest=each.digest,
            )
            for each in found
        )
        read = [each for each in found if each.kind != "folder" and matches(each.path, wanted.texts)]
        texts = {each.path: await self._text_of(each) for each in read}
        return Left(entries=entries, texts=texts)

    async def _text_of(self, output: "OutputView") -> str:
        if output.size > TEXT_BYTES and not output.path.endswith(".json"):
            raise StepFailed(f"{output.path} has more than 64 KiB, so loadContents can't load it.")
        return await self._text_at(output.job, output.path)

    async def _text_at(self, job: int, path: str) -> str:
        return await asyncio.to_thread(Path(await self._fetch(f"job:{self.plane}/{job}/{path}")).read_text)

    async def _fetch(self, place: str) -> str:
        if place.startswith(DATASET):
            name = place.removeprefix(DATASET)
            to = self._fetched / "datasets" / name
            if not await asyncio.to_thread(to.exists):
                await asyncio.to_thread(to.parent.mkdir, parents=True, exist_ok=True)
                await self.client.datasets.download(name, to)
            return str(to)
        plane, job, path = split(place)
        if not job or plane != self.plane:
            raise StepFailed(f"{place} was left at another control plane.")
        to = self._fetched / str(job) / path
        if not await asyncio.to_thread(to.exists):
            await asyncio.to_thread(to.parent.mkdir, parents=True, exist_ok=True)
            await self.client.jobs.download(job, path, to)
        return str(to)


def _size(path: str) -> int:
    """The bytes of a file or folder of this machine."""
    if not os.path.isdir(path):
        return os.path.getsize(path) if os.path.exists(path) else 0
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names)


def _hides(work: Work, text: str) -> bool:
    return work.hidden is not None and work.hidden.within(text)


def split(place: str) -> tuple[str, int, str]:
    """``(plane, job, path)`` of what a job left; job 0 for other locations."""
    if not place.startswith("job:"):
        return "", 0, ""
    plane, _, rest = place[4:].partition("/")
    job, _, path = rest.partition("/")
    return plane, int(job), path


def _seconds(view: "JobView") -> float:
    if view.started_at is None or view.ended_at is None:
        return 0.0
    return (view.ended_at - view.started_at).total_seconds()
