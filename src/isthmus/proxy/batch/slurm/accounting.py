"""Jobs that have left SLURM's queue: who remembers them at this site, and what they say.

Sites have a database (slurmdbd), a file of completed jobs (jobcomp), or nothing that a user may read.
"""

from isthmus.proxy.batch.slurm import commands, parse
from isthmus.proxy.errors import ProxyError

# cluster -> answer: a site does not change it under a running proxy
_kinds: dict = {}
_settings: dict = {}


def settings(cluster=""):
    """What ``scontrol show config`` says of a cluster."""
    if cluster not in _settings:
        _settings[cluster] = parse.config(commands.ask(["scontrol", "show", "config"], cluster))
    return _settings[cluster]


def kind(cluster=""):
    """Who remembers: ``slurmdbd``, ``jobcomp``, ``none``, or the name of another plug-in that sacct reads."""
    if cluster not in _kinds:
        told = settings(cluster)
        storage = told.get("AccountingStorageType", "").split("/")[-1]
        if storage in ("", "none", "(null)"):
            completion = told.get("JobCompType", "").split("/")[-1]
            storage = "jobcomp" if completion in ("filetxt", "mysql") and _readable(cluster) else "none"
        _kinds[cluster] = storage
    return _kinds[cluster]


def jobs(numbers, cluster):
    """``{number: Native}`` of those of these jobs that accounting knows."""
    found: dict = {}
    for begin in range(0, len(numbers), commands.CHUNK):
        chunk = numbers[begin : begin + commands.CHUNK]
        known = _records(["--jobs=" + ",".join(chunk)], cluster)
        found.update((number, known[number].native) for number in chunk if number in known)
    return found


def named(job_name, cluster):
    """The numbers of this user's jobs of exactly that name in the last thirty days."""
    # By name alone, sacct would look at today only; with --completion it minds neither name nor user.
    words = ["--user=" + commands.user(), "--name=" + job_name, "--starttime=now-30days"]
    return [number for number, record in _records(words, cluster).items() if record.name == job_name]


def _records(words, cluster):
    where = kind(cluster)
    if where == "none":
        return {}
    how = ["--completion"] if where == "jobcomp" else ["--allocations"]
    argv = ["sacct", "--noheader", "--parsable2"] + how + words + ["--format=" + parse.SACCT_FORMAT]
    return commands.read(parse.sacct, argv, cluster)


def _readable(cluster):
    """Whether the file of completed jobs can be read: often it lies on the controller's machine, or is root's."""
    argv = ["sacct", "--completion", "--noheader", "--parsable2", "--jobs=1", "--format=" + parse.SACCT_FORMAT]
    try:
        return commands.call(argv, cluster).code == 0
    except ProxyError as error:
        if error.code == "batch-missing":
            return False
        raise
