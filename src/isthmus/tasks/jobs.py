"""Tasks that become jobs: placed, given their data, queued and run by the platform, with results that come back as
futures.

A task with `site=`, `image=` or `resources=`, or whose constraints this machine can't meet while a server answers, is
submitted through the client that `isthmus login` or `isthmus up` has set up. Its function travels by value with its
arguments, its files as datasets, and what it returns and writes comes back as the job's outputs. A `@binary` or an
`@mpi` program is the job's own command.
"""

import base64
import hashlib
import os
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import Conflict, Invalid, IsthmusError
from isthmus.tasks import directions
from isthmus.tasks.calls import arguments, results
from isthmus.tasks.constraints import resources
from isthmus.tasks.declaration import Task, place_of
from isthmus.tasks.failures import TaskError
from isthmus.tasks.graph import DONE, SENT, Node
from isthmus.tasks.kinds.command import Binary, Streams
from isthmus.tasks.kinds.mpi import Mpi
from isthmus.tasks.kinds.words import fill, given

if TYPE_CHECKING:
    from isthmus.client import Client

_AT_ONCE = 64  # jobs that are waited for
_EMBEDDED = 200_000  # a larger call goes as a dataset
_CALL, _RESULT = "isthmus-call.pkl", "isthmus-result.pkl"

_SCRIPT = """#!/usr/bin/env python3
import base64, io, pickle, sys, zipfile
if sys.version_info[:2] != {version!r}:
    sys.exit("This task was made by Python %d.%d, and the site's is %d.%d." % ({version!r} + sys.version_info[:2]))
zipfile.ZipFile(io.BytesIO(base64.b64decode({pickler!r}))).extractall(".isthmus-task")
sys.path[:0] = [".isthmus-task"]
function, args, keywords, written = pickle.loads({call})
value = function(*args, **keywords)
left = [args[w] if isinstance(w, int) else keywords[w] for w in written]
with open({result!r}, "wb") as file:
    pickle.dump((value, left), file, 5)
"""


@dataclass
class _Files:
    """Files of a call: what goes along as datasets, and what is to come back, by their names in the job's folder."""

    sent: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)


class Jobs:
    """Submits calls as jobs, each from a thread that waits for it; the program's workers are left to other tasks."""

    def __init__(self, program: Any, client: "Client | None" = None) -> None:
        self._program = program
        self._client = client
        self._making = threading.Lock()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="isthmus-job")
        self._ids: dict[Node, int] = {}

    def start(self, node: Node) -> None:
        """Submit the call. Locked; does not block."""
        node.state = SENT
        self._pool.submit(self._run, node)

    def cancel(self, node: Node) -> None:
        """Kill the call's job, if it has one. Locked; does not block."""
        number = self._ids.get(node)
        if number is not None and self._client is not None:
            self._pool.submit(self._client.jobs.kill, number)

    def close(self) -> None:
        """Wait for nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    # -- a call ------------------------------------------------------------------------------------------------

    def _run(self, node: Node) -> None:
        program = self._program
        try:
            with program.lock:
                if node.state >= DONE:
                    return
                stored = [version.value for version in node.inputs or ()]
                encoding, args = node.encoding, node.args
                outputs = len(node.outputs or ())
            engine = program.engine
            inputs = [engine.get(value) for value in stored]
            filled, keywords = arguments(args, encoding, inputs, lambda packed: engine.unpack(packed, inputs))
            outs = encoding.outs if encoding is not None else ()
            values = self._submit(node, filled, keywords, outputs - len(outs), encoding)
            kept = [engine.put(value) for value in values]
        except Exception as error:  # noqa: BLE001  (whatever it is, it is this task's end, and the program's to see)
            with program.lock:
                program.failed(node, error, retry=not isinstance(error, Invalid))
            return
        finally:
            self._ids.pop(node, None)
        with program.lock:
            program.finished(node, kept, 0.0)

    def _submit(self, node: Node, args: list[Any], keywords: dict[str, Any], returns: int, encoding: Any) -> list[Any]:
        task: Task = node.function
        client = self._connected()
        with tempfile.TemporaryDirectory(prefix="isthmus-job-") as place:
            files = _Files()
            local_args, local_keywords = _moved(task, args, keywords, files)
            request = self._described(task, local_args, local_keywords, encoding, files, Path(place), client)
            job = client.jobs.submit(request)
            self._ids[node] = job.id
            ended = client.jobs.wait(job.id)
            if ended.state != "COMPLETED":
                raise self._failure(task, client, ended)
            for name, target in files.wanted.items():
                client.jobs.download(job.id, name, os.path.join(place, "out-" + name))
                _place(Path(place, "out-" + name), target)
            if task.kind is not None:
                value: Any = 0 if returns else None
                return results(value, returns, encoding, args, keywords, task.name)
            return self._result(client, job.id, Path(place), args, keywords, returns, encoding, task)

    def _result(
        self,
        client: "Client",
        job: int,
        place: Path,
        args: list[Any],
        keywords: dict[str, Any],
        returns: int,
        encoding: Any,
        task: Task,
    ) -> list[Any]:
        import pickle

        client.jobs.download(job, _RESULT, str(place / _RESULT))
        with (place / _RESULT).open("rb") as file:
            value, left = pickle.load(file)
        after, named = list(args), dict(keywords)
        for where, item in zip(_written(encoding), left, strict=True):
            if isinstance(where, int):
                after[where] = item
            else:
                named[where] = item
        return results(value, returns, encoding, after, named, task.name)

    def _described(
        self,
        task: Task,
        args: list[Any],
        keywords: dict[str, Any],
        encoding: Any,
        files: _Files,
        place: Path,
        client: "Client",
    ) -> dict[str, Any]:
        """The job's request."""
        options = task.options
        values = given(task, tuple(args), keywords)
        resources = _resources(task, values)
        request: dict[str, Any] = {"name": task.function.__qualname__.replace("<locals>.", "")[:120]}
        inputs = [{"path": name, "dataset": self._dataset(client, path)} for name, path in files.sent.items()]
        outputs = [{"path": name} for name in files.wanted]
        if task.kind is None:
            import cloudpickle

            call = cloudpickle.dumps((task.function, args, keywords, _written(encoding)), 5)
            if len(call) > _EMBEDDED:
                (place / _CALL).write_bytes(call)
                inputs.append({"path": _CALL, "dataset": self._dataset(client, str(place / _CALL))})
                read = f"open({_CALL!r}, 'rb').read()"
            else:
                read = f"base64.b64decode({base64.b64encode(call).decode()!r})"
            request["script"] = _SCRIPT.format(
                version=tuple(sys.version_info[:2]), pickler=_pickler(place), call=read, result=_RESULT
            )
            outputs.append({"path": _RESULT})
        else:
            request["command"] = _command(task, values, resources, request)
        request |= {"inputs": inputs, "outputs": outputs, "resources": resources}
        if options.site:
            request["sites"] = [options.site] if isinstance(options.site, str) else list(options.site)
        if options.image:
            request["image"] = options.image
        return request

    def _dataset(self, client: "Client", path: str) -> str:
        """The name of a dataset with this content; registered once."""
        digest = hashlib.sha256()
        for file in sorted(Path(path).rglob("*")) if os.path.isdir(path) else [Path(path)]:
            if file.is_file():
                digest.update(str(file.relative_to(path) if file != Path(path) else "").encode())
                with file.open("rb") as content:
                    while piece := content.read(1 << 20):
                        digest.update(piece)
        name = f"tasks-{digest.hexdigest()[:32]}"
        with suppress(Conflict):
            client.datasets.register(name, path, labels={"from": "tasks"})
        return name

    def _failure(self, task: Task, client: "Client", ended: Any) -> TaskError:
        error = TaskError(
            f"{task.name}: job {ended.id} is {ended.state}, {getattr(ended, 'reason', '')}.",
            place=place_of(task.function),
            hint=f"isthmus job explain {ended.id} and isthmus job logs {ended.id} say more.",
        )
        note_log(error, client, ended.id)
        return error

    def _connected(self) -> "Client":
        with self._making:
            if self._client is None:
                from isthmus.client import Client

                self._client = Client()
            return self._client


def server_answers() -> bool:
    """Whether a server is known here, and answers. Blocks for a second or two where it does not."""
    from isthmus.client import Client

    try:
        with Client(patience_s=1.0) as client:
            client.sites.list()
    except IsthmusError:
        return False
    return True


def note_log(error: BaseException, client: "Client", job: int) -> None:
    """Note the end of the job's log on the error, if there is one to be had."""
    with suppress(IsthmusError):
        said = client.jobs.log(job)
        data = getattr(said, "data", b"")
        text = data.decode(errors="replace") if isinstance(data, bytes) else str(data)
        if text.strip():
            error.add_note("The end of its log:\n" + text.strip()[-2000:])


def _written(encoding: Any) -> list[Any]:
    """The arguments that the function changes."""
    if encoding is None:
        return []
    return list(dict.fromkeys(where for where, _ in encoding.outs if where is not None))


def _moved(
    task: Task, args: Sequence[Any], keywords: Mapping[str, Any], files: _Files
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments with files by their names in the job's folder."""
    shape = task.shape

    def local(name: str, value: Any) -> Any:
        how = shape.parameters.get(name)
        if how is None or how.kind not in (directions.FILE, directions.DIRECTORY) or value is None:
            return value
        path = os.path.abspath(value)
        inside = f"{name}-{os.path.basename(path)}"
        if how.reads:
            files.sent[inside] = path
        if how.writes:
            files.wanted[inside] = path
        return inside

    moved = [local(name, value) for name, value in zip(shape.names, args, strict=False)]
    moved += args[len(moved) :]
    return moved, {name: local(name, value) for name, value in keywords.items()}


def _place(source: Path, target: str) -> None:
    """Put what came where the program expects it: whole, or not at all."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(str(source), target)
    else:
        part = f"{target}.part"
        shutil.copyfile(source, part)
        os.replace(part, target)


def _pickler(place: Path) -> str:
    """cloudpickle's own source, packed: the site need not have it."""
    import cloudpickle

    archive = shutil.make_archive(
        str(place / "pickler"), "zip", Path(cloudpickle.__file__).parents[1], Path(cloudpickle.__file__).parent.name
    )
    return base64.b64encode(Path(archive).read_bytes()).decode()


def _resources(task: Task, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the job needs: `resources=`, over what @constraint says."""
    return resources(task, values) | dict(task.options.resources)


def _command(task: Task, values: Mapping[str, Any], resources: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """The command of a program that is a job; its ranks are the job's."""
    from isthmus.tasks.kinds.command import words

    kind = task.kind
    if isinstance(kind, Binary):
        command, streams, _ = kind.command(task, values, here=False)
    elif isinstance(kind, Mpi) and kind.binary:
        ranks = kind.ranks(task, values)
        nodes = int(resources.get("nodes", 1))
        if ranks % nodes:
            raise Invalid(
                f"{task.name}: {ranks} processes don't divide into {nodes} nodes.", place=place_of(task.function)
            )
        resources["tasks_per_node"] = ranks // nodes
        request["launcher"] = "mpirun" if os.path.basename(kind.runner).startswith("mpi") else "srun"
        listed, streams = words(task, values, kind.args)
        command = [fill(kind.binary, values, task), *listed]
    else:
        raise Invalid(
            f"{task.name}: a task that becomes a job is a function, a @binary or an @mpi program.",
            place=place_of(task.function),
        )
    return _redirected(command, streams, request)


def _redirected(command: list[str], streams: Streams, request: dict[str, Any]) -> list[str]:
    """The command with its standard streams from and to files: the job's own, where it writes them anew."""
    line = ""
    if streams.stdin:
        line += " < " + shlex.quote(streams.stdin)
    for name, (path, mode), number in (("stdout", streams.stdout, 1), ("stderr", streams.stderr, 2)):
        if path and mode == "ab":
            line += f" {number}>> {shlex.quote(path)}"
        elif path:
            request[name] = path
    return ["sh", "-c", shlex.join(command) + line] if line else command
