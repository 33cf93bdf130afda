"""Attempts in a batch system: handed over once each, asked about together, seldom. Whatever the batch system is.

Its module says how (`isthmus.proxy.batch`); here stands when, and what follows from a crash in between.
"""

import contextlib
import fcntl
import os
import select
import time

from isthmus.proxy import arrays, news
from isthmus.proxy.batch import reason_of, state_of
from isthmus.proxy.errors import ProxyError
from isthmus.proxy.workdir import from_os
from isthmus.runner import claim
from isthmus.runner import folder as files

POLL_S = 5.0  # between questions to the batch system
SOON_S = 1.0  # where there is an attempt that it was never asked about
LOOK_S = 0.05  # between looks at the reports, at least
LOOK_SHARE = 0.1  # the most of the time that is spent with them
TAIL_BYTES = 4096
VAGUE = ("EXIT_CODE", "SIGNAL", "NODE_FAIL")  # reasons of an end of which the batch system may have written more
GONE = "gone"  # stands for the native state of a job that the batch system does not know any more


class Scheduled(object):
    """A batch system with its module."""

    def __init__(self, module, workdir, options: dict) -> None:
        self.module = module
        self.workdir = workdir
        self.options = options
        self.poll_s = float(options.get("poll") or POLL_S)
        self._known: dict = {}  # native id -> Native, or None: gone. What was said when it was last asked
        self._asked = 0.0
        self._others = 0
        self._error = ""
        self._found: dict = {}  # job name of an array -> its native id or None, while some of it is submitted again

    # ---- submission

    def start(self, items: dict) -> dict:
        """Submit attempts: ``{key: native id or ProxyError}``. Alike ones go as arrays, where there are some."""
        self._found.clear()
        results = self._start_arrays(items)
        alone = {key: item for key, item in items.items() if key not in results}
        parallel = min(len(alone), int(getattr(self.module, "PARALLEL", 1)))
        if parallel <= 1:
            results.update((key, self._submit(item)) for key, item in alone.items())
            return results
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(parallel) as pool:
            results.update(zip(alone, pool.map(self._submit, alone.values())))
        return results

    def _start_arrays(self, items):
        """Submit as arrays what can be; what is in no answer is to be submitted alone."""
        results: dict = {}
        if len(items) < arrays.LEAST or not hasattr(self.module, "array"):
            return results
        try:
            for keys in arrays.groups(items, self.module.array_limit(self.options)):
                results.update(self._submit_array([items[key] for key in keys]))
        except ProxyError:
            pass  # alone, each learns what is wrong
        return results

    def _submit_array(self, items):
        """Submit attempts that are alike together: ``{key: native id or ProxyError}``, or {} if they must go alone."""
        with contextlib.ExitStack() as stack:
            try:
                marks = [(item.folder, stack.enter_context(_marking(item.folder))) for item in items]
                fresh = [(folder, mark) for folder, mark in marks if _untouched(folder, mark)]
                made = self.module.array(items[0].batch, len(fresh)) if len(fresh) >= arrays.LEAST else None
                if made is None:
                    return {}
                script, words = made
                path = arrays.make(self.workdir, [folder for folder, _ in fresh], script)
                name = "isthmus-" + os.path.basename(path)
                for index, (_, mark) in enumerate(fresh):
                    mark.write(arrays.mark(name, index))
                    mark.flush()
                os.fsync(fresh[-1][1].fileno())
            except OSError:
                return {}  # alone, each learns what is wrong
            try:
                native_id = self.module.submit(path, items[0].argv + words)
            except ProxyError as error:
                if error.code != "batch-refused":
                    return {folder.key: error for folder, _ in fresh}
                for _, mark in fresh:  # an array is not wanted here, or not as large: some may be alone
                    mark.truncate(0)
                return {}
            found = {}
            for index, (folder, _) in enumerate(fresh):
                found[folder.key] = element = self.module.element(native_id, index)
                # Not forced to the disk: after a crash the mark tells where to look.
                folder.write(files.NATIVE_ID, element.encode("ascii"))
            return found

    def _submit(self, item):
        """The native id of one attempt, or the error. Submits only what can't have been submitted before."""
        folder = item.folder
        try:
            known = _known(folder)
            if known:
                return known
            with _marking(folder) as mark:
                return _known(folder) or self._submit_locked(folder, item.argv, mark)
        except ProxyError as error:
            return error
        except OSError as error:
            return from_os(error, "Submitting %s" % folder.key)

    def _submit_locked(self, folder, argv, mark):
        name = "isthmus-" + folder.key
        said = mark.read()
        if said:
            # A proxy ended between asking the batch system and writing down what it said.
            known = self._find(said)
            if known is None and folder.has(files.CLAIM) and not claim.fenced(folder):
                known = folder.read_json(files.CLAIM).get("native_id")
            if known:
                return self._record(folder, known)
        if claim.fenced(folder):
            raise ProxyError("fenced", "Attempt %s was fenced: it must not run any more." % folder.key)
        if folder.has(files.CLAIM):
            raise ProxyError("conflict", "Attempt %s is claimed by a runner that nobody knows." % folder.key)
        mark.seek(0)
        mark.truncate()
        mark.write(name.encode("ascii"))
        mark.flush()
        os.fsync(mark.fileno())
        try:
            known = self.module.submit(folder.path, argv)
        except ProxyError as error:
            if not error.transient:
                mark.truncate(0)  # refused for certain: the next try need not look for it
            raise
        return self._record(folder, known)

    def _find(self, said):
        """The native id of what was handed over under the name that a mark says."""
        name, index = arrays.marked(said)
        if index is None:
            return self.module.find(name, self.options)
        if name not in self._found:
            self._found[name] = self.module.find(name, self.options)
        known = self._found[name]
        return None if known is None else self.module.element(known, index)

    def _record(self, folder, native_id):
        folder.write(files.NATIVE_ID, native_id.encode("ascii"), durable=True)
        return native_id

    # ---- news

    def poll(self, attempts: dict, wait_s: float, query: bool, requests) -> dict:
        """News of attempts, as soon as there are any, after ``wait_s`` at the latest, or when a request waits."""
        end = time.monotonic() + wait_s
        asked = False
        failing = bool(self._error)
        while True:
            began = time.monotonic()
            found = self._look(attempts)
            look_s = time.monotonic() - began
            # Without attempts and without a wait, somebody wants to know how many other jobs there are.
            if query and (attempts or not wait_s) and self._due(attempts):
                self._ask(attempts)
                asked = True
            self._add_states(attempts, found, asked)
            left = end - time.monotonic()
            if found or (asked and (self._error or failing)) or left <= 0 or requests.waiting():
                return {
                    "attempts": found,
                    "queried": asked and not self._error,
                    "query_error": self._error if asked else "",
                    "others": self._others,
                }
            select.select([requests.fd], [], [], min(left, max(LOOK_S, look_s / LOOK_SHARE)))

    def _look(self, attempts):
        found = {}
        budget = news.MOST_OF_ALL
        for key, known in attempts.items():
            folder = self.workdir.job(key)
            offset = int(known.get("reports") or 0)
            reports, _ = news.reports_from(folder, offset)
            if reports:
                found[key] = news.seen(folder, offset, reports)
                budget -= len(reports)
                if budget <= 0:
                    break
        return found

    def _due(self, attempts):
        since = time.monotonic() - self._asked
        if since >= self.poll_s:
            return True
        if self._error or since < min(SOON_S, self.poll_s):
            return False
        return any(known.get("native_id") and known["native_id"] not in self._known for known in attempts.values())

    def _ask(self, attempts):
        """Ask the batch system about all of them. A failed question changes nothing but the error."""
        ids = [known["native_id"] for known in attempts.values() if known.get("native_id")]
        try:
            answer = self.module.query(ids, self.options)
        except ProxyError as error:
            self._error = error.message
        else:
            self._error = ""
            self._known = {native_id: answer.jobs.get(native_id) for native_id in ids}
            self._others = answer.others
        self._asked = time.monotonic()

    def _add_states(self, attempts, found, asked):
        """Add what the batch system said, where it is news or there are reports anyway."""
        if self._error:
            return
        for key, known in attempts.items():
            native_id = known.get("native_id")
            if native_id not in self._known:
                continue
            native = self._known[native_id]
            text = GONE if native is None else native.text
            state = GONE if native is None else state_of(self.module, native)
            # An end is news at each question: the control plane asks until it has judged it.
            ended = asked and state in ("ended", GONE)
            if key not in found and not ended and text == known.get("native_state"):
                continue
            if key not in found:
                folder = self.workdir.job(key)
                offset = int(known.get("reports") or 0)
                # Looked at once more, after the question: its final report may have come in between.
                found[key] = news.seen(folder, offset, news.reports_from(folder, offset)[0])
            found[key].update(native_state=text, state=state)
            if native is not None:
                reason, message = reason_of(self.module, native, state)
                if state == "ended" and reason in VAGUE and hasattr(self.module, "overheard"):
                    reason, message = self.module.overheard(self._batch_log(key)) or (reason, message)
                found[key].update(
                    reason=reason,
                    message=message,
                    exit_code=native.exit_code,
                    signal=native.signal,
                    nodes=list(native.nodes),
                )

    def _batch_log(self, key):
        """The last of what the batch system wrote for an attempt."""
        try:
            with open(self.workdir.job(key).at(files.BATCH_LOG), "rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL_BYTES))
                return stream.read(TAIL_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    # ---- the rest

    def kill(self, native_ids: dict) -> dict:
        """End jobs: the errors by key. Those that were never submitted are ended by their fence."""
        wanted = {key: native_id for key, native_id in native_ids.items() if native_id}
        try:
            if wanted:
                self.module.kill(sorted(set(wanted.values())), self.options)
        except ProxyError as error:
            return dict.fromkeys(wanted, error)
        return {}

    def locate(self, key: str, native_id: str) -> list:
        """The nodes that an attempt runs on."""
        if not native_id:
            return []
        if hasattr(self.module, "locate"):
            return self.module.locate(native_id, self.options)
        native = self.module.query([native_id], self.options).jobs.get(native_id)
        return native.nodes if native is not None else []

    def inventory(self, options: dict) -> dict:
        """What the batch system offers, and what its nodes have."""
        return self.module.probe(dict(options, workdir=self.workdir.path))

    def close(self) -> None:
        """Nothing is kept open."""


def _known(folder):
    """The native id that an attempt has, or ""."""
    return folder.read(files.NATIVE_ID).decode("ascii").strip()


@contextlib.contextmanager
def _marking(folder):
    """The file that says under which name an attempt is handed over, locked: two proxies, one attempt."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    with open(os.open(folder.at(files.SUBMITTING), flags, 0o600), "r+b") as mark:
        fcntl.lockf(mark, fcntl.LOCK_EX)
        yield mark


def _untouched(folder, mark):
    """Whether an attempt was never handed over, and may be."""
    return not (mark.read() or folder.has(files.NATIVE_ID) or folder.has(files.CLAIM))
