"""What SLURM's commands print, read. Pure: no command is run here. SLURM 17.11 to 26.05."""

import re
from collections import namedtuple

from isthmus.proxy.batch import Native
from isthmus.proxy.batch.slurm.words import REASONS

# The formats that the readers below expect. Text that may hold anything comes last.
SQUEUE_FORMAT = "%i|%T|%N|%r"
SQUEUE_EXIT_FORMAT = "jobarrayid:30,exit_code:20"
SACCT_FORMAT = "JobID,JobName,State,ExitCode,NodeList"
SINFO_FORMAT = "%R|%c|%m|%G|%T|%f|%N"

MOST_NODES = 20000  # a list of nodes that expands to more is not one

# States in which the reason is why the job does not start.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
# Reasons for which a job failed that are not its own.
BROKEN = ("JobLaunchFailure", "SystemFailure")

_ID = re.compile(r"^(\d+(?:_\d+)?)(?:;([\w.-]+))?$")
_REASON = re.compile(r"^\(?([A-Za-z][A-Za-z0-9]*)\)?(?:[,:] *(.*?))?\)?$", re.DOTALL)
_TASKS = re.compile(r"^(\d+)_\[([\d,\-]+)(?::\d+)?(?:%\d+)?\]$")

Line = namedtuple("Line", "id state nodes reason")  # one of squeue
Record = namedtuple("Record", "id name native")  # one of sacct


class Garbled(ValueError):
    """The output is cut or of a form that we don't know: nothing in it may be believed."""


def native_id(text):
    """The id in what ``sbatch --parsable`` printed, such as ``123`` or ``123;c2``; None if there is none.

    Site plug-ins print to stdout too: the last line that is an id counts.
    """
    for line in reversed(text.split("\n")):
        if _ID.match(line.strip()):
            return line.strip()
    return None


def split_id(text):
    """``(number, cluster)`` of a native id: ``123;c2`` is ``("123", "c2")``, ``123_4`` is ``("123_4", "")``."""
    match = _ID.match(text)
    if not match:
        raise ValueError("%r is not an id of SLURM." % text)
    return match.group(1), match.group(2) or ""


def _lines(text):
    if text and not text.endswith("\n"):
        raise Garbled("its output ends in the middle of a line: %r" % text[-80:])
    # With --clusters some versions head each cluster's jobs by its name, in spite of --noheader.
    return [line for line in text.split("\n") if line.strip() and not line.startswith("CLUSTER:")]


def squeue(text):
    """The jobs that squeue printed with SQUEUE_FORMAT, a Line each. Raises Garbled."""
    found = []
    for line in _lines(text):
        parts = line.split("|", 3)
        if len(parts) != 4 or not re.match(r"\d", parts[0]):
            raise Garbled("it printed a line that is no job's: %r" % line[:200])
        found.append(Line(*[part.strip() for part in parts]))
    return found


def base(number):
    """The number of the array of an element, and of any other job its own: ``123`` of ``123_4`` and ``123_[5-9]``."""
    return number.split("_")[0]


def each(lines, bases):
    """The Lines, with those of the waiting elements of the arrays ``bases`` (a set) told one by one."""
    for line in lines:
        tasks = _TASKS.match(line.id)
        if not tasks or tasks.group(1) not in bases:
            yield line
            continue
        for index in _indices(tasks.group(2)):
            yield line._replace(id="%s_%d" % (tasks.group(1), index))


def count(lines):
    """How many jobs these Lines are, with the waiting elements of an array each counted."""
    total = 0
    for line in lines:
        tasks = _TASKS.match(line.id)
        total += sum(len(span) for span in _spans(tasks.group(2))) if tasks else 1
    return total


def _spans(text):
    """The ranges of a list such as ``0-3,7``."""
    for part in text.split(","):
        if part:
            first, _, last = part.partition("-")
            yield range(int(first), int(last or first) + 1)


def _indices(text):
    return [index for span in _spans(text) for index in span]


def exit_codes(text):
    """``{id: (exit_code, signal)}`` of what squeue printed with SQUEUE_EXIT_FORMAT. Raises Garbled."""
    found = {}
    for line in _lines(text):
        parts = line.split()
        if len(parts) == 1:
            continue  # a job that has none
        if len(parts) != 2:
            raise Garbled("it printed a line that is no job's: %r" % line[:200])
        if ":" in parts[1]:  # 23.02 and later
            found[parts[0]] = exit_code(parts[1])
        elif parts[1].isdigit():  # a wait(2) status
            status = int(parts[1])
            found[parts[0]] = (None, status & 127) if status & 127 else ((status >> 8) & 255, None)
    return found


def exit_code(text):
    """``(exit_code, signal)`` of SLURM's ``code:signal``: ``3:0`` is ``(3, None)``, ``0:9`` is ``(None, 9)``."""
    match = re.match(r"^(\d+):(\d+)", text)
    if not match:
        return (None, None)
    code, number = int(match.group(1)), int(match.group(2))
    return (None, number) if number else (code, None)


def native(state, reason, nodes, code=None, number=None, message=""):
    """A Native of SLURM's words.

    The reason of a job that has ended is mostly left over from when it waited (a job cancelled in the queue keeps
    ``BeginTime``), so there only what tells more than the state is kept.
    """
    first = state.split(" ")[0]
    match = _REASON.match(reason)
    why, more = (match.group(1), match.group(2) or "") if match else (reason, "")
    if why.lower() in ("none", "no_reason", "null", "n"):
        why = ""
    where = expand(nodes)
    if first == "FAILED":
        more = ""
        if not where:
            # Refused, in spite of the id that it has: its exit code is made up.
            refused = why in REASONS and REASONS[why][0] == "SUBMIT"
            why, code, number = why if refused else "JobLaunchFailure", None, None
        elif number:
            why = "RaisedSignal"  # older versions say JobLaunchFailure of any script that a signal ended
        elif code:
            why = "NonZeroExitCode"
        elif why not in BROKEN:
            why = ""
    elif first not in WAITING:
        why, more = "", ""
    return Native(
        state,
        why,
        " ".join(part for part in (more.replace("_", " "), message) if part),
        code,
        number,
        where,
    )


def sacct(text):
    """The Records of what sacct printed with ``-n -P`` and SACCT_FORMAT: whole jobs, no steps. Raises Garbled.

    A job that was requeued stands there more than once: the last line counts.
    """
    found = {}
    for line in _lines(text):
        parts = line.split("|")
        if len(parts) < 5 or not re.match(r"\d", parts[0]):
            raise Garbled("it printed a line that is no job's: %r" % line[:200])
        # A name may hold the separator: count from the other end.
        number, name = parts[0], "|".join(parts[1:-3])
        state, code, nodes = parts[-3:]
        if not re.match(r"^\d+(_\d+)?$", number):
            continue  # a step, or the elements of an array that have not begun
        state = state.strip()
        code, signal = exit_code(code)
        if state.split(" ")[0] in ("PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING"):
            # The controller was asked before and knows no such job. Accounting lags behind, or was never told.
            found[number] = Record(
                number, name, Native("accounting: " + state, "", "The queue no longer has it.", None, None, ())
            )
            continue
        if code == 0 and state.split(" ")[0] != "COMPLETED":
            code = None
        found[number] = Record(number, name, native(state, "", nodes, code, signal))
    return found


def expand(text):
    """The names in a list of nodes: ``n[1-2,07-08]-ib,login`` is n1-ib, n2-ib, n07-ib, n08-ib, login."""
    if not text or text in ("(null)", "None assigned", "n/a", "None", "N/A"):
        return []
    names: list = []
    for item in _split(text):
        names.extend(_expand_one(item))
        if len(names) > MOST_NODES:
            break
    return names


def _expand_one(item):
    match = re.match(r"^([^\[]*)\[([^\]]*)\](.*)$", item)
    if not match:
        return [item]
    head, ranges, tail = match.groups()
    names: list = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if last and first.isdigit() and last.isdigit() and int(last) - int(first) < MOST_NODES:
            middles = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        else:
            middles = [part]
        names.extend(head + middle + rest for middle in middles for rest in _expand_one(tail))
    return names


def _split(text, separator=","):
    """The parts of ``text`` between separators that stand outside brackets and parentheses."""
    parts, depth, begin = [], 0, 0
    for place, letter in enumerate(text):
        if letter in "[(":
            depth += 1
        elif letter in "])":
            depth -= 1
        elif letter == separator and depth == 0:
            parts.append(text[begin:place])
            begin = place + 1
    parts.append(text[begin:])
    return [part for part in parts if part]


def gpus(gres):
    """``[(type, count)]`` of the GPUs in a node's GRES, such as ``gpu:a100:4(S:0-1),gpu:2,shard:8``. "" is untyped."""
    found: dict = {}
    order = []
    for item in _split(gres):
        words = re.sub(r"\(.*\)$", "", item).split(":")
        if words[0].replace("gres/", "") != "gpu":
            continue
        rest = [word for word in words[1:] if word != "no_consume"]
        number = 1
        if rest and re.match(r"^\d+[KkMm]?$", rest[-1]):
            last = rest.pop()
            number = int(last.rstrip("KkMm")) * {"K": 1024, "M": 1024**2}.get(last[-1].upper(), 1)
        kind = ":".join(rest)
        if number:
            if kind not in found:
                order.append(kind)
            found[kind] = found.get(kind, 0) + number
    return [(kind, found[kind]) for kind in order]


def seconds(text):
    """The seconds of SLURM's ``days-hours:minutes:seconds``; 0 if it says there is no limit, or nothing."""
    match = re.match(r"^(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$", text.strip())
    if not match:
        return 0
    days, first, second, third = match.groups()
    if days is not None:
        return int(days) * 86400 + int(first) * 3600 + int(second or 0) * 60 + int(third or 0)
    if third is not None:
        return int(first) * 3600 + int(second) * 60 + int(third)
    return int(first) * 60 + int(second or 0)


def pairs(line):
    """The ``Key=value`` pairs of a line of ``scontrol --oneliner``. A value may hold spaces."""
    found: dict = {}
    matches = list(re.finditer(r"(?:^|\s)([A-Za-z][\w:/]*)=", line))
    for place, match in enumerate(matches):
        end = matches[place + 1].start() if place + 1 < len(matches) else len(line)
        found.setdefault(match.group(1), line[match.end() : end].strip())
    return found


def jobs(text):
    """``{number: Native}`` of ``scontrol --oneliner show job``, or of its answer that there are none."""
    found = {}
    for line in _lines(text):
        told = pairs(line)
        if "JobId" not in told:
            continue
        state = told.get("JobState", "")
        code, signal = exit_code(told.get("ExitCode", ""))
        if code == 0 and state != "COMPLETED":
            code = None
        said = native(state, told.get("Reason", ""), told.get("NodeList", ""), code, signal)
        found.update(dict.fromkeys(_numbers(told), said))
    return found


def _numbers(told):
    """The numbers that a job of scontrol's has: those of its elements, if it is an array's."""
    tasks = told.get("ArrayTaskId", "")
    if not re.match(r"^\d[\d,-]*(%\d+)?$", tasks):
        return [told["JobId"]]
    return ["%s_%d" % (told.get("ArrayJobId"), index) for index in _indices(tasks.split("%")[0])]


def config(text):
    """The settings of ``scontrol show config`` as a dict."""
    found = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if equals and re.match(r"^[A-Za-z]\w*\s*$", name):
            found[name.strip()] = value.strip()
    return found
