"""What Grid Engine's commands print, read. Pure: no command is run here. Grid Engine 6.2 to 8.1 and its heirs."""

import re
from collections import OrderedDict, namedtuple
from xml.etree import ElementTree

from isthmus.proxy.batch import Native

Line = namedtuple("Line", "id name state nodes tasks")  # one job of qstat
Host = namedtuple("Host", "name cpus mem gpus queues")  # one of qhost; queues: {name: (slots, state)}

_TASKS = re.compile(r"^(\d+)(?:-(\d+)(?::(\d+))?)?$")
_SIZE = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
# Signals that the kernel sends by number; a shell adds 128 to what ended its command.
_SHELL = 128


class Garbled(ValueError):
    """The output is cut or of a form that we don't know: nothing in it may be believed."""


def native_id(text):
    """The id in what ``qsub -terse`` printed; None if there is none. Site prologues print to stdout too."""
    for line in reversed(text.split("\n")):
        if re.match(r"^\d+(\.\d+-\d+:\d+)?$", line.strip()):
            return line.strip().split(".")[0]
    return None


def qstat(text):
    """The jobs of ``qstat -xml``, a Line each. Raises Garbled."""
    found = []
    for entry in _tree(text, "job_info").iter("job_list"):
        number, state = _text(entry, "JB_job_number"), _text(entry, "state")
        if not number.isdigit() or not state:
            raise Garbled("it printed a job without a number or state")
        queue = _text(entry, "queue_name")
        nodes = [queue.split("@", 1)[1]] if "@" in queue else []
        found.append(Line(number, _text(entry, "JB_name"), state, nodes, _text(entry, "tasks")))
    return found


def count(lines):
    """How many jobs these Lines are, with the waiting tasks of an array each counted."""
    total = 0
    for line in lines:
        tasks = [_TASKS.match(part) for part in line.tasks.split(",")]
        if line.tasks and all(tasks):
            for first, last, step in (task.groups() for task in tasks if task):
                total += (int(last or first) - int(first)) // int(step or 1) + 1
        else:
            total += 1
    return total


def qacct(text):
    """``{id: {field: value}}`` of what ``qacct -j`` printed: the last record of each job, without those of tasks."""
    found: dict = {}
    for block in re.split(r"^=+$", text, flags=re.MULTILINE)[1:]:
        record = {}
        for line in block.split("\n"):
            name, _, value = line.partition(" ")
            if value.strip():
                record[name] = value.strip()
        if "jobnumber" in record and "exit_status" in record:
            found[record["jobnumber"]] = record
    return found


def ended(record):
    """A Native of a record of `qacct`."""
    failed = re.match(r"\d+", record.get("failed", "0"))
    number = int(failed.group(0)) if failed else 0
    match = re.match(r"\d+", record.get("exit_status", ""))
    status = int(match.group(0)) if match else 0
    code, signal = (None, status - _SHELL) if status > _SHELL else (status, None)
    nodes = [record["hostname"]] if record.get("hostname") not in (None, "UNKNOWN") else []
    message = ""
    if number:
        message = re.sub(r"\s+", " ", "Grid Engine says: failed %s" % record["failed"])
        if number not in (37, 100):
            code = code or None  # the job itself did not run to an end
        return Native("failed %d" % number, "", message, code, signal, nodes)
    return Native("finished", "signal" if signal else ("exit_status" if code else ""), message, code, signal, nodes)


def error_reason(text):
    """Why a job is in the state of error, in what ``qstat -j`` printed; "" if it does not say."""
    match = re.search(r"^error reason\s+\d+:\s*(.*)$", text, re.MULTILINE)
    return re.sub(r"^[\d/:. ]+\[\d+:\d+\]:\s*", "", match.group(1)).strip() if match else ""


def qhost(text, gpu="gpu"):
    """The Hosts of ``qhost -q -F -xml``. ``gpu`` is the complex that counts GPUs. Raises Garbled."""
    found = []
    for entry in _tree(text, "qhost").iter("host"):
        name = entry.get("name", "")
        if name == "global":
            continue
        values = {value.get("name"): (value.text or "").strip() for value in entry.iter("hostvalue")}
        resources = {value.get("name"): (value.text or "").strip() for value in entry.iter("resourcevalue")}
        queues: dict = OrderedDict()
        for queue in entry.iter("queue"):
            told = {value.get("name"): (value.text or "").strip() for value in queue.iter("queuevalue")}
            queues[queue.get("name")] = (_whole(told.get("slots")), told.get("state_string", ""))
        cpus = _whole(values.get("num_proc"))
        mem = size(resources.get("mem_total") or values.get("mem_total") or "")
        found.append(Host(name, cpus, mem, _whole(resources.get(gpu)), queues))
    return found


def size(text):
    """The bytes of ``23.541G``; 0 for ``-``."""
    match = re.match(r"^(\d+(?:\.\d+)?)([KMGT]?)", text.strip(), re.IGNORECASE)
    return int(float(match.group(1)) * _SIZE[match.group(2).upper()]) if match else 0


def seconds(text):
    """The seconds of ``00:10:00`` or ``600``; 0 for INFINITY."""
    match = re.match(r"^(?:(\d+):(\d+):)?(\d+)$", text.strip())
    if not match:
        return 0
    hours, minutes, rest = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(rest)


def settings(text):
    """The settings of ``qconf -sq``, ``-sc`` and their like: ``name  value`` lines, with continued ones joined."""
    found = {}
    for line in text.replace("\\\n", " ").split("\n"):
        name, _, value = line.strip().partition(" ")
        if name and not name.startswith("#"):
            found[name] = re.sub(r"\s+", " ", value.strip())
    return found


def _tree(text, root):
    try:
        tree = ElementTree.fromstring(text.strip())
    except (ElementTree.ParseError, ValueError) as error:
        raise Garbled("its output is no whole XML: %s" % error)
    if tree.tag != root:
        raise Garbled("it printed <%s> instead of <%s>" % (tree.tag, root))
    return tree


def _text(entry, name):
    return (entry.findtext(name) or "").strip()


def _whole(text):
    match = re.match(r"^\d+", text or "")
    return int(match.group(0)) if match else 0
