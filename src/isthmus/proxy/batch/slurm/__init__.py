"""SLURM 17.11 and newer, through the commands that every user has: sbatch, squeue, sacct, scancel, scontrol.

    submit ──► sbatch                      query ──► squeue ──missing──► accounting (sacct) ──missing──► scontrol
    kill ──► squeue, scancel               find  ──► squeue ──missing──► accounting

Owns what is asked of SLURM, and in which order. How its commands are run stands in `commands`, how their output is
read in `parse`, what its words mean in `words`, what a site has in `inventory`. A native id is ``123``, ``123_4`` for
an element of an array, or ``123;c2`` for a job of another cluster than the login node's own.
"""

import os
import re
from collections import OrderedDict

from isthmus.proxy import command
from isthmus.proxy.batch import Answer, submitting
from isthmus.proxy.batch.slurm import accounting, commands, parse
from isthmus.proxy.batch.slurm.words import REASONS, STATES
from isthmus.proxy.errors import ProxyError

__all__ = [
    "PARALLEL", "REASONS", "STATES", "array", "array_limit", "element", "find", "kill", "overheard", "probe", "query",
    "submit",
]  # fmt: skip

# Measured on two cores, quiet: a loop of sbatch takes 215 to 260 jobs/s, four at a time 465; busy: 29 against 88.
PARALLEL = 4

# sbatch's words for having no certain answer: the job may have been taken.
UNCERTAIN = re.compile(
    r"unable to contact|timed? ?out|zero bytes|connection (refused|reset)|temporarily un|try again|standby mode|"
    r"transport endpoint|communication|authentication|munge|no route to host|network is",
    re.IGNORECASE,
)
# ... for a refusal that passes: as many jobs are there as may be.
PASSING = re.compile(r"\b(QOS|Assoc|Max)\w*Submit\w*")

# scontrol's words about a job, and about an element of an array that it does know, that are gone.
UNKNOWN = re.compile(r"invalid job id|\bjob \d+_\d+ not found", re.IGNORECASE)

# slurmstepd's words, in the job's output, when it or the kernel has killed the job for its memory.
OVER_MEMORY = re.compile(r"^slurmstepd.*(exceeded (job |step )?memory limit|oom.kill)", re.IGNORECASE | re.MULTILINE)

# States in which the script itself runs, so that it can be signalled; and in which it has ended already.
SCRIPT_RUNS = ("RUNNING", "RESIZING", "SIGNALING")
SCRIPT_ENDED = ("COMPLETING", "STAGE_OUT")

# Each element of an array becomes the job that it would be alone: in its own folder, and not told of the array.
ELEMENT = """\
cd -P "$SLURM_ARRAY_TASK_ID" || exit 72
export ISTHMUS_NATIVE_ID="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
unset SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID
unset SLURM_ARRAY_TASK_COUNT SLURM_ARRAY_TASK_MAX SLURM_ARRAY_TASK_MIN SLURM_ARRAY_TASK_STEP
. ./batch.sh
"""
SHELL = re.compile(r"^#! *(/\S*/)?(env +)?(ba|da|k|z)?sh\b")


def submit(folder, argv):
    """See `isthmus.proxy.batch`."""
    script = os.path.join(folder, "batch.sh")
    words = ["sbatch", "--parsable", "--job-name=isthmus-" + os.path.basename(folder)] + list(argv) + [script]
    result = command.call(words, cwd=folder, base=commands.submitting(script, argv))
    return submitting.native_id("sbatch", result, parse.native_id, UNCERTAIN, PASSING, lambda said: _hint(said, argv))


def array_limit(options):
    """See `isthmus.proxy.batch`. None where only a file remembers ended jobs: it does not tell elements apart."""
    limits = []
    for cluster in commands.clusters(options):
        if accounting.kind(cluster) == "jobcomp":
            return 0
        limits.append(int(accounting.settings(cluster).get("MaxArraySize") or 0))
    return min(limits)


def array(text, count):
    """See `isthmus.proxy.batch`. sbatch reads its directives up to the first command."""
    lines = text.split("\n")
    if not SHELL.match(lines[0]):
        return None
    commands_at = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    words = ["--array=0-%d" % (count - 1), "--output=%a/batch.log"]
    return "\n".join(lines[:commands_at] + [ELEMENT]), words


def element(native_id, index):
    """See `isthmus.proxy.batch`."""
    number, semicolon, cluster = native_id.partition(";")
    return "%s_%d%s%s" % (number, index, semicolon, cluster)


def query(ids, options):
    """See `isthmus.proxy.batch`. One squeue for each cluster; more only for jobs that have ended or left the queue."""
    wanted = _by_cluster(ids)
    for cluster in commands.clusters(options):
        wanted.setdefault(cluster, {})
    jobs, others = {}, 0
    for cluster, numbers in wanted.items():
        lines = _queue(cluster, numbers)
        mine = [line for line in lines if line.id in numbers]
        codes = {}
        if any(line.state != "COMPLETED" and STATES.get(line.state) == "ended" for line in mine):
            codes = _exit_codes(cluster)
        for line in mine:
            jobs[numbers[line.id]] = _listed(line, codes.get(line.id, (None, None)))
        for witness in (accounting.jobs, _controller):
            missing = [number for number, native_id in numbers.items() if native_id not in jobs]
            if missing:
                jobs.update((numbers[number], native) for number, native in witness(missing, cluster).items())
        others += parse.count(
            line for line in lines if line.id not in numbers and STATES.get(line.state) in ("pending", "running")
        )
    return Answer(jobs, others)


def overheard(text):
    """See `isthmus.proxy.batch`. Where slurmd itself watches over memory, the state is FAILED and only this tells."""
    if OVER_MEMORY.search(text):
        return "OOM", "It used more memory than it asked for: SLURM killed it."
    return None


def find(job_name, options):
    """See `isthmus.proxy.batch`."""
    for cluster in commands.clusters(options):
        numbers = [line.id for line in _queue(cluster, (), "--name=" + job_name)]
        numbers = [int(parse.base(number)) for number in numbers or accounting.named(job_name, cluster)]
        if numbers:
            return "%d;%s" % (max(numbers), cluster) if cluster else str(max(numbers))
    return None


def kill(ids, options):
    """See `isthmus.proxy.batch`.

    Plain scancel leaves a running job only the site's KillWait between SIGTERM and SIGKILL, however long its own grace
    is. So a running job's script alone is signalled, which is the runner, and the rest is left to it.
    """
    for cluster, numbers in _by_cluster(ids).items():
        here = [line for line in _queue(cluster, numbers) if line.id in numbers]
        running = [line.id for line in here if line.state in SCRIPT_RUNS]
        waiting = [
            line.id
            for line in here
            if line.state not in SCRIPT_RUNS + SCRIPT_ENDED and STATES.get(line.state) != "ended"
        ]
        waiting += commands.cancel(running, ["--batch", "--signal=TERM"], cluster)
        commands.cancel(waiting, [], cluster)


def probe(options):
    """See `isthmus.proxy.batch`. Submits one short job, to look at a node, and waits for it for a bounded time."""
    from isthmus.proxy.batch.slurm import inventory

    return inventory.inventory(options)


def _queue(cluster, numbers, *words):
    """Every job of this user that the controller knows, by one request that costs it little.

    Asking for ids would make the controller send all users' jobs, unless it is one id. The elements of arrays of
    which there are some among ``numbers`` are told one by one.
    """
    argv = ["squeue", "--noheader", "--all", "--states=all", "--user=" + commands.user()] + list(words)
    lines = commands.read(parse.squeue, argv + ["--format=" + parse.SQUEUE_FORMAT], cluster)
    return list(parse.each(lines, {parse.base(number) for number in numbers}))


def _exit_codes(cluster):
    argv = ["squeue", "--noheader", "--all", "--states=all", "--user=" + commands.user()]
    return commands.read(parse.exit_codes, argv + ["--Format=" + parse.SQUEUE_EXIT_FORMAT], cluster)


def _listed(line, codes):
    code, number = codes
    if line.state == "COMPLETED":
        code = 0
    elif STATES.get(line.state) != "ended":
        code, number = None, None
    return parse.native(line.state, line.reason, line.nodes, code, number)


def _controller(numbers, cluster):
    """``{number: Native}`` of what ``scontrol show job`` knows of these: the last to ask before a job counts as gone.

    squeue said already that it knows them not; a second witness guards against a squeue that only prints nothing.
    """
    found: dict = {}
    argv = ["scontrol", "--all", "--oneliner", "show", "job"]
    if len(numbers) > 20:  # one long answer is quicker than many short ones
        known = commands.read(parse.jobs, argv, cluster)
        return {number: known[number] for number in numbers if number in known}
    for number in numbers:
        result = commands.call(argv + [number], cluster)
        if result.code and UNKNOWN.search(result.stderr + result.stdout):
            continue
        out = command.check(argv, result)
        found.update((known, native) for known, native in parse.jobs(out).items() if known == number)
    return found


def _by_cluster(ids):
    found: dict = OrderedDict()
    for native_id in ids:
        try:
            number, cluster = parse.split_id(native_id)
        except ValueError as error:
            raise ProxyError("bad-request", str(error))
        found.setdefault(cluster, OrderedDict())[number] = native_id
    return found


def _hint(said, argv):
    """What to do about a refusal, where it can be told cheaply."""
    lower = said.lower()
    if "partition" in lower and "account" not in lower:
        named = [word[len("--clusters=") :] for word in argv if word.startswith("--clusters=")]
        try:
            names = commands.ask(["sinfo", "--noheader", "--all", "--format=%R"], (named + [""])[0].split(",")[0])
        except ProxyError:
            return ""
        return "Set the option `partition`; there is: %s." % ", ".join(sorted(set(names.split()))[:30])
    if "account" in lower or "qos" in lower:
        return "Look at the options `account` and `qos`; `sacctmgr show assoc user=%s` lists yours." % commands.user()
    if "node configuration" in lower or "gres" in lower or "memory" in lower:
        return "No node of that partition has what the job asks for."
    return ""
