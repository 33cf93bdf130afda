"""Running SLURM's commands: in which environment, for which cluster, and what their failures mean."""

import os
import pwd
import re

from isthmus.proxy import command
from isthmus.proxy.batch.slurm import parse
from isthmus.proxy.errors import ProxyError

# A controller that is very busy answers after tens of seconds; SLURM's own commands give up after ten without a word.
TIMEOUT_S = 60.0

# So many ids go into one command: the kernel takes 128 KiB in one word.
CHUNK = 2000

# What sbatch is started with, and so what the job's environment begins as: enough for a login and for `module`, but not
# what the proxy happens to have, which for a site on the control plane's own machine may be its secrets.
KEPT = re.compile(
    r"^(HOME|USER|LOGNAME|SHELL|PATH|LD_LIBRARY_PATH|LANG|LANGUAGE|LC_\w+|TZ|"
    r"BASH_ENV|BASH_FUNC_(module|ml|_module_raw)\b.*|MODULE\w*|LMOD_\w+)$"
)
# Where SLURM itself is found.
SLURM_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
# Sites tell people to set these in their profile. SLURM lets such a variable win over the script, and we don't: where
# the script says it too, the variable is dropped.
DEFAULTS = {
    "ACCOUNT": "A", "PARTITION": "p", "QOS": "q", "CLUSTERS": "M", "RESERVATION": "", "CONSTRAINT": "C", "WCKEY": "",
}  # fmt: skip
# What would change the output of the commands that ask.
FAMILIES = re.compile(r"^(SLURM|SBATCH|SQUEUE|SINFO|SACCT|SCANCEL|SCONTROL)_")

# scancel's words for a job that has ended by itself.
GONE = re.compile(r"invalid job id|already (completing|completed|finished)|job has finished", re.IGNORECASE)
# ... for a job whose script has not begun, so that it can't be signalled.
EARLY = re.compile(r"transitional state|can not be altered now|try again later", re.IGNORECASE)


def user():
    """The name of the user that this process runs as, or the number where there is no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def clusters(options):
    """The clusters that the site's options name; ``[""]``, the login node's own, if they name none."""
    named = [name.strip() for name in str(options.get("clusters") or "").split(",")]
    return [name for name in named if name] or [""]


def call(argv, cluster="", **how):
    """Run a command that asks, or cancels, at ``cluster``; `isthmus.proxy.command.Result`."""
    if cluster:
        argv = [argv[0], "--clusters=" + cluster] + argv[1:]
    return command.call(argv, base=asking(), **dict({"timeout_s": TIMEOUT_S}, **how))


def ask(argv, cluster=""):
    """What the command printed. Raises ProxyError ``batch-unavailable`` if it failed."""
    result = call(argv, cluster)
    out = command.check(argv, result)
    if cluster and re.search(r"\berror:", result.stderr):
        # With --clusters, a cluster that can't be asked is an error on stderr and a success by the exit code.
        raise ProxyError("batch-unavailable", command.said(result), transient=True)
    return out


def read(reader, argv, cluster=""):
    """What ``reader`` makes of the output. Raises ProxyError ``batch-unavailable`` too if that is cut or strange."""
    try:
        return reader(ask(argv, cluster))
    except parse.Garbled as error:
        raise ProxyError("batch-unavailable", "%s: %s" % (argv[0], error), transient=True)


def cancel(numbers, words, cluster=""):
    """scancel with the extra ``words``. Returns the jobs whose script has not begun, so that it can't be signalled.

    Silent about jobs that are gone. Raises ProxyError if SLURM did not do it for others.
    """
    early = []
    for begin in range(0, len(numbers), CHUNK):
        result = call(["scancel"] + words + numbers[begin : begin + CHUNK], cluster)
        errors = [line.strip() for line in result.stderr.split("\n") if "error" in line]
        bad = []
        for line in errors:
            job = re.search(r"job id (\d+(?:_\d+)?)", line)
            if job and words and EARLY.search(line):
                early.append(job.group(1))
            elif not GONE.search(line):
                bad.append(line)
        if bad or (result.code and not errors):
            text = "; ".join(bad[:5]) or command.said(result)
            raise ProxyError("batch-unavailable", text, "It is tried again.", transient=True)
    return early


def asking():
    """The environment of commands that ask: as it is, but for the variables that change what they print."""
    found = {name: value for name, value in os.environ.items() if name in SLURM_KEPT or not FAMILIES.match(name)}
    found["LC_ALL"] = "C"
    found["SLURM_BITSTR_LEN"] = "0"  # the ids of an array's waiting elements are not cut after 64 characters
    return found


def submitting(script, argv):
    """The environment of sbatch for this script."""
    found = {name: value for name, value in os.environ.items() if KEPT.match(name) or name in SLURM_KEPT}
    with open(script, encoding="utf-8", errors="replace") as file:
        directives = " ".join([line for line in file if line.startswith("#SBATCH")] + [""] + list(argv))
    for name, letter in DEFAULTS.items():
        variable = "SBATCH_" + name
        flag = r"\s--%s\b" % name.lower() + (r"|\s-%s" % letter if letter else "")
        if variable in os.environ and not re.search(flag, directives):
            found[variable] = os.environ[variable]
    return found
