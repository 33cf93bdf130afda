"""Grid Engine (8.1 and its relatives), through the commands that every user has: qsub, qstat, qacct, qdel.

    submit ──► qsub        query, find ──► qstat ──missing──► qacct        kill ──► qstat, qdel

Owns what is asked of Grid Engine, and in which order. How its output is read stands in `parse`, what its words mean in
`words`, what a site has in `inventory`.
"""

import os
import pwd
import re

from isthmus.proxy import command
from isthmus.proxy.batch import Answer, Native, submitting
from isthmus.proxy.batch.gridengine import parse
from isthmus.proxy.batch.gridengine.words import REASONS, STATES
from isthmus.proxy.errors import ProxyError

__all__ = ["PARALLEL", "REASONS", "STATES", "find", "kill", "probe", "query", "submit"]

# Measured on two busy cores: one at a time 6 jobs/s, four 15.
PARALLEL = 4

# qsub's words for having no certain answer: the job may have been taken.
UNCERTAIN = re.compile(
    r"commlib error|unable to (send|contact)|got (no|send|receive)|timeout|timed out|can't connect|not responding|"
    r"error (reading|writing)|communication",
    re.IGNORECASE,
)
# ... for a refusal that passes: as many jobs are there as may be.
PASSING = re.compile(r"job limit|max_u_jobs|max_jobs|too many|maximum number of (active )?jobs", re.IGNORECASE)
# Words of commands about a job that is gone.
GONE = re.compile(r"does not exist|do not exist|job (id|name) \S+ not found|already in deletion", re.IGNORECASE)
# qacct's words for there being no accounting that this user can read.
UNREADABLE = re.compile(r"no such file|permission denied|no jobs running since startup|can't open", re.IGNORECASE)

# So many single questions may be asked about jobs that need one each; beyond, one long answer is quicker.
FEW = 5
DAYS = 30


def submit(folder, argv):
    """See `isthmus.proxy.batch`."""
    script = os.path.join(folder, "batch.sh")
    words = ["qsub", "-terse", "-N", "isthmus-" + os.path.basename(folder)] + list(argv) + [script]
    result = command.call(words, cwd=folder)
    return submitting.native_id("qsub", result, parse.native_id, UNCERTAIN, PASSING, _hint)


def query(ids, options):
    """See `isthmus.proxy.batch`. One qstat; qacct only for jobs that have left the queue."""
    wanted = set(ids)
    lines = _queue()
    jobs: dict = {}
    for line in lines:
        if line.id in wanted:
            message = _error(line.id) if line.state.startswith("E") and len(jobs) < 100 else ""
            jobs[line.id] = Native(line.state, "", message, None, None, line.nodes)
    missing = sorted(wanted - set(jobs), key=int)
    jobs.update(_ended(missing))
    others = parse.count(line for line in lines if line.id not in wanted)
    return Answer(jobs, others)


def find(job_name, options):
    """See `isthmus.proxy.batch`."""
    numbers = [int(line.id) for line in _queue() if line.name == job_name]
    if not numbers:
        records = _accounting(["-o", user(), "-d", str(DAYS), "-j", job_name]) or {}
        numbers = [int(number) for number, record in records.items() if record.get("jobname") == job_name]
    return str(max(numbers)) if numbers else None


def kill(ids, options):
    """See `isthmus.proxy.batch`.

    Grid Engine can't signal a running job: qdel sends SIGUSR2 (to jobs with -notify) and soon after SIGKILL, whatever
    the job's own grace is. So a running job is left to its runner, which obeys its ``kill`` file, and so is one that is
    on its way to its node (``t``): its runner may have started already. With the option ``force`` they are deleted
    all the same.
    """
    wanted = set(ids)
    doomed = [
        line.id
        for line in _queue()
        if line.id in wanted
        and "d" not in line.state
        and (options.get("force") or line.state.strip("hR") not in ("r", "t"))
    ]
    for begin in range(0, len(doomed), 500):
        result = command.call(["qdel"] + doomed[begin : begin + 500])
        if result.code:
            lines = (result.stdout + "\n" + result.stderr).split("\n")
            bad = [
                line.strip()
                for line in lines
                if line.strip() and not GONE.search(line) and not re.search(r"has (deleted|registered)", line)
            ]
            if bad:
                raise ProxyError("batch-unavailable", "; ".join(bad[:5]), "It is tried again.", transient=True)


def probe(options):
    """See `isthmus.proxy.batch`. Submits one short job, to look at a node, and waits for it for a bounded time."""
    from isthmus.proxy.batch.gridengine import inventory

    return inventory.inventory(options)


def user():
    """The name of the user that this process runs as, or the number where there is no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _queue(*words):
    """Every job of this user that Grid Engine lists."""
    return read(parse.qstat, ["qstat", "-u", user(), "-xml"] + list(words))


def read(reader, argv):
    """What ``reader`` makes of the output. Raises ProxyError ``batch-unavailable`` if there is none, or not whole."""
    try:
        return reader(command.check(argv, command.call(argv)))
    except parse.Garbled as error:
        raise ProxyError("batch-unavailable", "%s: %s" % (argv[0], error), transient=True)


def _error(number):
    """Why a job is in the state of error."""
    result = command.call(["qstat", "-j", number])
    return parse.error_reason(result.stdout)


def _ended(numbers):
    """``{id: Native}`` of those of these jobs that have ended and are remembered."""
    if not numbers:
        return {}
    records: dict = {}
    readable = True
    questions = [["-j", number] for number in numbers]
    if len(numbers) > FEW:
        questions = [["-o", user(), "-d", str(DAYS), "-j", "isthmus-*"]]
    for words in questions:
        answer = _accounting(words)
        if answer is None:
            readable = False
            break
        records.update(answer)
    found = {number: parse.ended(records[number]) for number in numbers if number in records}
    if len(found) < len(numbers):
        for line in _queue("-s", "z"):
            if line.id in numbers and line.id not in found:
                # It has ended; how it did will stand in the accounting file soon, if that can be read at all.
                text = "z" if readable else "finished"
                found[line.id] = Native(text, "", "Grid Engine has no account of it%s." % (" yet" if readable else ""))
    return found


def _accounting(words):
    """What qacct knows; None where there is no accounting that this user can read."""
    result = command.call(["qacct"] + words)
    if result.code == 0:
        return parse.qacct(result.stdout)
    if GONE.search(result.stderr + result.stdout):
        return {}
    if UNREADABLE.search(result.stderr + result.stdout):
        return None
    command.check(["qacct"], result)
    return None


def _hint(said):
    """What to do about a refusal, where it can be told cheaply."""
    for word, flag, option in (("queue", "-sql", "queue"), ("parallel environment", "-spl", "pe")):
        if word in said:
            try:
                known = command.call(["qconf", flag]).stdout.split()
            except ProxyError:
                return ""
            return "Set the option `%s`; there is: %s." % (option, ", ".join(known[:30])) if known else ""
    if "project" in said:
        return "Look at the option `project`."
    if "unknown resource" in said:
        return "Look at the options `memory`, `gpu` and `resources`; `qconf -sc` lists what the site has."
    return ""
