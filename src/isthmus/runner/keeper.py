"""The keeper: starts and watches this machine's attempts, and outlives whoever asked for them.

    proxy ──unix socket──► keeper ──socket pair──► worker ──► the command
                              └── news of reports ──► proxies that wait for them

One for each work folder. Its workers are forked from its warm interpreter, so that an attempt costs no start of an
interpreter. It keeps nothing on disk: a new keeper learns from the job folders what runs. If it is killed, the
attempts go on; if a runner is killed, it ends what that left behind. It decides nothing, except which GPUs, or which
part of one (`sharing`), a job sees, and that no more start than there are processors for.

Requests and answers are JSON lines (`isthmus.proxy.batch.process` speaks them):

    {"do": "hello"}                  {"archive", "pid", "live"}
    {"do": "start", "jobs": {key: [gpus, cpus, part of one]}}   {"refused": {key: message}}; the others wait or run
    {"do": "state", "keys": […]}     {"states": {key: waiting, running, ended, gone}}
    {"do": "kill", "keys": […]}      {}; their kill files are there already
    {"do": "watch"}                  {}, then {"news": [keys]} whenever there are reports or ends
    {"do": "retire"}                 {}; another version takes over, this one ends with its last attempt
"""

import errno
import fcntl
import gc
import json
import os
import selectors
import signal
import sys
import time
import traceback

from isthmus.runner import claim, command, gpu, process, program, sharing, worker
from isthmus.runner import folder as files
from isthmus.runner.attempt import node_facts
from isthmus.runner.clients import Clients
from isthmus.runner.keeperfiles import LOCK, environment, socket_path
from isthmus.runner.pool import Pool
from isthmus.runner.signals import Signals
from isthmus.runner.standing import has_gpus, standing, wants

IDLE_EXIT_S = 600.0
MOST_STARTS = 3  # of one attempt, in workers that die before they claim it
SURVEY_S = 1.0  # what NVML said is believed for so long
PAUSE_S = 2.0  # between looks at whether it is still needed
FOREIGN_LOOK_S = 0.2  # between looks at attempts that no worker of this keeper runs


class Live(object):
    """An attempt that waits or runs."""

    def __init__(self, gpus_wanted, cpus_wanted, part_wanted=None):
        self.gpus_wanted = gpus_wanted
        self.cpus_wanted = cpus_wanted
        self.part_wanted = part_wanted  # of one GPU, as job.json says it
        self.gpus = []
        self.env = {}
        self.running = False
        self.pid = 0  # of its own batch.sh, if no worker runs it
        self.starts = 0
        self.foreign = False  # no worker of this keeper runs it: its reports are looked at now and then
        self.size = 0


class Keeper(object):
    """The loop, and the attempts that wait or run."""

    def __init__(self, workdir: str, lock: int) -> None:
        self.workdir = workdir
        self.lock = lock
        self.base = environment(os.environ)
        self.signals = Signals()
        self.selector = selectors.DefaultSelector()
        self.clients = Clients(self.selector, socket_path(workdir), self._answer)
        self.pool = Pool(self.selector, self._be_worker, self._told)
        self.live: dict = {}
        self.waiting: list = []
        self.news: set = set()
        self.cpus = len(os.sched_getaffinity(0))
        survey = survey_gpus()
        self.gpus = gpu.visible(os.environ) or [str(said["index"]) for said in survey]
        self.shares = sharing.Table()
        self.shares.update(self.gpus, survey)
        self._surveyed = time.monotonic()
        self.retired = False
        self.busy = time.monotonic()

    # ---- the loop

    def serve(self) -> None:
        """Work until there has been nothing to do for a while, or another version has taken over."""
        self.selector.register(self.signals, selectors.EVENT_READ, self._signalled)
        self._learn()
        while not self._over():
            self.pool.trim(keep_ready=not self.retired)
            for event, _ in self.selector.select(self._pause()):
                event.data(event.fileobj)
            self._look_at_foreign()
            self._start_waiting()
            if self.news:
                self.clients.tell({"news": sorted(self.news)})
                self.news.clear()
        self._stop_listening()

    def _pause(self):
        if any(live.foreign for live in self.live.values()):
            return FOREIGN_LOOK_S
        return PAUSE_S

    def _over(self):
        if self.retired:
            return not self.live
        if self.live or self.clients:
            self.busy = time.monotonic()
        if signal.SIGTERM in self.signals.take() or time.monotonic() - self.busy > IDLE_EXIT_S:
            return True
        if os.path.exists(os.path.join(self.workdir, LOCK)):
            self.clients.look()
            return False
        # A work folder that was removed takes its keeper with it; what still runs in it is watched to its end.
        return not self.live

    def _signalled(self, _):
        """Children have ended: workers, set-up lines, and orphans that workers have left to this process."""
        self.signals.drain()
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.pool.reaped(pid)
            for key in [key for key, live in self.live.items() if live.pid == pid]:
                self._ended(key)

    def _answer(self, client, request):
        what = request["do"]
        if what == "hello":
            return {"archive": program.archive(), "pid": os.getpid(), "live": len(self.live)}
        if what == "watch":
            client.watching = True
            return {}
        if what == "start":
            refused = {}
            for key, (gpus_wanted, cpus_wanted, part_wanted) in request["jobs"].items():
                message = self._accept_attempt(key, gpus_wanted, cpus_wanted, part_wanted)
                if message:
                    refused[key] = message
            self._start_waiting()
            return {"refused": refused}
        if what == "state":
            return {"states": {key: self._state(key) for key in request["keys"]}}
        if what == "kill":
            for key in request["keys"]:
                self._kill(key)
            return {}
        if what == "retire":
            self._retire()
            return {}
        raise KeyError(what)

    # ---- attempts

    def _folder(self, key):
        return files.Folder(os.path.join(self.workdir, files.JOBS, key))

    def _accept_attempt(self, key, gpus_wanted, cpus_wanted, part_wanted):
        """Take an attempt over; "" or why not. Again for one that it knows: nothing happens."""
        if key in self.live or self._folder(key).has(files.CLAIM):
            return ""
        whole = len(self.shares.whole(self.gpus))
        if gpus_wanted > whole:
            divided = len(self.gpus) - whole
            more = ", and %d is divided" % divided if divided else ""
            return "It asks for %d GPUs; this machine has %d%s." % (gpus_wanted, whole, more)
        if part_wanted:
            self.shares.declare(part_wanted.get("remote") or [])
            message = self.shares.refuses(part_wanted)
            if message:
                return message
        self.live[key] = Live(gpus_wanted, cpus_wanted, part_wanted)
        self.waiting.append(key)
        return ""

    def _start_waiting(self):
        """Start what waits, in order, as far as there are processors; jobs whose GPUs are in use wait aside."""
        if not self.waiting:
            return
        free = self.cpus - sum(live.cpus_wanted for live in self.live.values() if live.running)
        still = []
        for place, key in enumerate(self.waiting):
            live = self.live[key]
            # One that is to be killed needs nothing: its runner only says how it ended.
            if not self._folder(key).has(files.KILL):
                if live.cpus_wanted > free and free < self.cpus:
                    # The first that does not fit holds those behind it back, or it might wait for ever.
                    still.extend(self.waiting[place:])
                    break
                gpus = self._free_gpus() if live.gpus_wanted else []
                if live.gpus_wanted > len(gpus):
                    still.append(key)
                    continue
                live.gpus = gpus[: live.gpus_wanted]
                if live.part_wanted and not self._share(key, live):
                    still.append(key)
                    continue
            live.running = True
            free -= live.cpus_wanted
            if self._folder(key).has(files.BATCH):
                self._start_script(key, live)
            else:
                live.starts += 1
                self.pool.start(worker.start_message(key, self._visible(live), live.env), key)
        self.waiting = still

    def _free_gpus(self):
        taken = {name for live in self.live.values() for name in live.gpus} | self.shares.shared()
        return [name for name in self.shares.whole(self.gpus) if name not in taken]

    def _share(self, key, live):
        """Give an attempt its part of a GPU; whether there was room."""
        if time.monotonic() - self._surveyed > SURVEY_S:
            self.shares.update(self.gpus, survey_gpus())
            self._surveyed = time.monotonic()
        whole = {name for other in self.live.values() if not other.part_wanted for name in other.gpus}
        device = self.shares.take(key, live.part_wanted, whole)
        if device is None:
            return False
        live.env = sharing.variables(device, key)
        live.gpus = [live.env.pop("CUDA_VISIBLE_DEVICES")] if "CUDA_VISIBLE_DEVICES" in live.env else []
        return True

    def _visible(self, live):
        return ",".join(live.gpus) if self.gpus else None

    def _start_script(self, key, live):
        """Start an attempt that has set-up lines of its own: its batch.sh, which ends in the runner."""
        import subprocess

        folder = self._folder(key)
        env = dict(self.base)
        if self.gpus:
            env["CUDA_VISIBLE_DEVICES"] = self._visible(live)
        env.update(live.env)
        with open(folder.at(files.BATCH_LOG), "ab") as log:
            started = subprocess.Popen(
                ["/bin/sh", folder.at(files.BATCH)],
                cwd=folder.path,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.returncode = 0  # it is reaped with the others
        live.pid = started.pid
        live.foreign = True

    def _state(self, key):
        if key in self.live:
            return "running" if self.live[key].running else "waiting"
        folder = self._folder(key)
        found = standing(folder)
        if found == "none" and self._accepted_here(folder):
            # Accepted by an earlier keeper that was killed before it could start it.
            return "gone" if self._accept_attempt(key, *wants(folder)) else "waiting"
        return found if found in ("running", "ended") else "gone"

    def _accepted_here(self, folder):
        """Whether an attempt was accepted since this machine started.

        Before that, nobody knows whether it ran: its claim need not have reached the disk. So it is not started.
        """
        return folder.read_json(files.SPEC).get("boot") == process.boot_id()

    def _kill(self, key):
        live = self.live.get(key)
        if live is None:
            return
        if self.pool.kill(key):
            return
        if live.pid:
            os.kill(live.pid, signal.SIGTERM)
        # One that waits is started by the loop: its runner finds the kill file and says how it ended.

    def _ended(self, key):
        """An attempt is over, or its runner is, or it found that another runner has it."""
        if self.live.pop(key, None) is None:
            return
        self.shares.give_back(key)
        self.news.add(key)
        found = standing(self._folder(key))
        if found == "running":
            self._adopt(key)
        elif found == "none":
            # Its set-up lines failed, or its workers die before they have begun: it must not begin anew.
            claim.fence(self._folder(key))
        elif found == "gone":
            self._clear_up([key])

    def _adopt(self, key):
        """Watch an attempt that runs, but in no worker of this keeper."""
        folder = self._folder(key)
        _, cpus_wanted, part_wanted = wants(folder)
        live = self.live[key] = Live(0, cpus_wanted, part_wanted)
        live.running = live.foreign = True
        live.gpus = has_gpus(folder)
        if part_wanted and live.gpus:
            self.shares.keep(key, part_wanted, live.gpus[0])
        live.size = folder.size(files.REPORTS)

    def _clear_up(self, keys):
        """End what killed runners left running."""
        known = self.pool.pids() | {live.pid for live in self.live.values()}
        for pid in process.children(os.getpid()):
            if pid not in known:
                process.signal_group(pid, signal.SIGKILL)
        command.kill_strays([self._folder(key) for key in keys])

    # ---- workers

    def _be_worker(self, link):
        """In a forked process: run attempts. What is the keeper's alone is given up first."""
        self.selector.close()
        self.clients.close_here()
        os.close(self.lock)
        worker.serve(link, self.workdir, self.base)

    def _told(self, kind, key):
        """A worker told something of an attempt, or died with it."""
        if kind == worker.NEWS:
            self.news.add(key)
        elif kind == worker.DONE:
            self.live.pop(key, None)  # its final report was news already
            self.shares.give_back(key)
        elif kind == worker.REFUSED:
            self._ended(key)
        elif key in self.live:
            live = self.live[key]
            if live.starts < MOST_STARTS and standing(self._folder(key)) == "none":
                # Its worker died before it had begun: another may.
                live.running = False
                self.shares.give_back(key)
                self.waiting.insert(0, key)
            else:
                self._ended(key)

    # ---- what an earlier keeper left

    def _learn(self):
        """Take over the attempts that an earlier keeper accepted or that still run."""
        lost = []
        try:
            keys = os.listdir(os.path.join(self.workdir, files.JOBS))
        except FileNotFoundError:
            return
        for key in sorted(keys):
            folder = self._folder(key)
            found = standing(folder)
            if found == "running":
                self._adopt(key)
            elif found == "none" and self._accepted_here(folder):
                self._accept_attempt(key, *wants(folder))
            elif found == "gone":
                lost.append(key)
        if lost:
            self._clear_up(lost)

    def _look_at_foreign(self):
        for key, live in list(self.live.items()):
            if not live.foreign:
                continue
            size = self._folder(key).size(files.REPORTS)
            if size != live.size:
                live.size = size
                self.news.add(key)
            if not live.pid and standing(self._folder(key)) != "running":
                self._ended(key)

    # ---- the end

    def _retire(self):
        """Let another version take over: what runs here is watched here until it ends."""
        self._stop_listening()
        self.retired = True
        for key in self.waiting:
            del self.live[key]  # the new keeper finds it unclaimed, and starts it
        self.waiting = []

    def _stop_listening(self):
        if self.retired:
            return
        self.clients.stop_listening()
        # Last: whoever holds the lock owns the socket's name.
        os.close(self.lock)
        self.lock = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def survey_gpus() -> list:
    """The GPUs of this machine: asked in a process of its own, since the library does not outlive a fork."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with open(writes, "wb") as pipe:
                pipe.write(json.dumps(gpu.shared().survey()).encode("ascii"))
        finally:
            os._exit(0)
    os.close(writes)
    with open(reads, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(told.decode("ascii")) if told else []


def main(arguments: list) -> int:
    """The program ``keeper --workdir W``. It returns once a keeper serves that folder: this one, or one before it."""
    workdir = os.path.abspath(arguments[arguments.index("--workdir") + 1])
    reads, writes = os.pipe()
    if os.fork():
        os.close(writes)
        return 0 if os.read(reads, 1) == b"." else 1
    os.close(reads)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    code = 1
    try:
        code = _keep(workdir, writes)
    except BaseException:  # noqa: BLE001  (the last thing that this process does is to say why)
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)
    return code


def _keep(workdir, ready):
    lock = os.open(os.path.join(workdir, LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        os.write(ready, b".")
        return 0
    process.adopt_orphans()
    node_facts()
    gc.collect()
    gc.disable()  # it makes no cycles, and a collection would unshare the pages of its workers
    getattr(gc, "freeze", gc.collect)()  # since Python 3.7
    keeper = Keeper(workdir, lock)
    os.write(ready, b".")
    os.close(ready)
    keeper.serve()
    return 0
