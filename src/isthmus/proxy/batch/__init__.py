"""Batch systems: what one must offer, and how it is found.

A batch system is a module of this package, ``isthmus.proxy.batch.<name>``, with the names below and nothing else that
the proxy uses. It parses and asks; it keeps no state, writes no files and decides nothing about jobs. Anything it can't
do it says by raising :class:`isthmus.proxy.errors.ProxyError`; commands are run through
:mod:`isthmus.proxy.command`. Standard library, Python 3.6.

``options`` is everywhere the site's native options as a dict, such as ``{"clusters": "c2"}``.

``STATES``
    ``{native state: "pending" | "running" | "ended"}``. The proxy looks up the whole native state, then its first word
    (so ``CANCELLED by 1000`` finds ``CANCELLED``); what is in neither is ``unknown``, its text kept.

``REASONS``
    ``{native reason or native state: (reason of ours, sentence)}``. The proxy looks up ``Native.why``, then
    ``Native.text`` and its first word. A reason of ours is a word of ``isthmus.domain.reasons.Reason``, such as
    ``"TIMEOUT"``, or ``""``.

``PARALLEL`` (optional, 1)
    How many calls of ``submit`` may run at a time, in threads.

``submit(folder, argv) -> native id``
    Hand ``<folder>/batch.sh`` to the batch system, with the words ``argv`` added to its submit command. ``folder`` is
    absolute. The job's name is ``isthmus-<name of the folder>``, whatever batch.sh says. Returns the native id as the
    text that the other functions take (for SLURM on another cluster: ``123;c2``). Raises ProxyError ``batch-refused``,
    with the batch system's own stderr in the message, when it said no for certain; ``batch-unavailable`` (transient)
    when it is not known whether it took the job: the proxy then looks for its name before it submits again.

``query(ids, options) -> Answer``
    Ask, in as few commands as it can, about these native ids, in the queue and (for those not there) in accounting.
    ``Answer.jobs`` has a :class:`Native` for each id that the batch system knows. An id that is missing there is gone:
    so leave one out only if everything that may know it was asked and answered. Raises ProxyError
    ``batch-unavailable`` if a question failed, timed out or was answered in part: never guess an end.
    ``Answer.others`` is how many other jobs this user has there, pending or running (those not in ``ids``), or 0 when
    that costs more than it is worth.

``find(job_name, options) -> native id or None``
    The newest job of this user with exactly that name, in the queue or in accounting; None when it was asked and there
    is none. Raises ProxyError when the question failed.

``kill(ids, options)``
    End these jobs: the pending leave the queue, of the running the runner gets SIGTERM (it forwards it to the command
    and gives it its grace). Silent about ids that are gone already. Raises ProxyError when the batch system did not
    answer. The runner has found its ``kill`` file before this is called.

``probe(options) -> dict``
    The fields of ``Inventory`` in isthmus/domain/sites.py that this batch system knows, as plain JSON: ``batch``,
    ``accounting``, ``queues``, ``accounts``, ``qos``, ``engines`` (on the nodes), ``nodes_reach_api``, ``others``,
    ``scratch``, ``notes``. What can't be found out is left out, with a note that says why. ``options`` may carry
    ``"api_url"`` (to see whether nodes reach it) and ``"workdir"`` (absolute, shared with the nodes).

``array_limit(options) -> int`` (optional, with the two below)
    How many jobs that are alike may be handed over as one array at this site; 0: none may. Raises ProxyError when the
    question failed.

``array(text, count) -> (script, words) or None``
    A batch.sh for ``count`` jobs of which ``text`` is the batch.sh of the first, and further words for the submit
    command. Element ``i`` does what ``i/batch.sh`` does in that folder, beside the script. None where ``text`` can't
    be started like that. Pure.

``element(native id, index) -> native id``
    The native id of an element of the array that ``submit`` or ``find`` gave the id of. Pure.

``overheard(text) -> (reason of ours, sentence) or None`` (optional)
    What the batch system wrote into the job's own output about its end, where its states tell less. ``text`` is the
    last of ``batch.log``; only asked about a job that ended badly.

``locate(native id, options) -> list of node names`` (optional)
    Where it runs now; without it, the nodes of ``query`` are the answer.
"""

import importlib
import re
from collections import namedtuple

from isthmus.proxy.errors import ProxyError


class Native(namedtuple("Native", "text why message exit_code signal nodes")):
    """What the batch system says of one job.

    ``text``: the state in its own word or words, kept as they are. ``why``: its own word for the reason, or "".
    ``message``: more of its own words for a person, or "". ``exit_code`` and ``signal``: numbers, or None while not
    known (both None for a job that has not ended). ``nodes``: a list of node names, empty while unknown.
    """

    __slots__ = ()

    def __new__(cls, text, why="", message="", exit_code=None, signal=None, nodes=()):
        return super().__new__(cls, text, why, message, exit_code, signal, list(nodes))


Answer = namedtuple("Answer", "jobs others")


def find_module(name):
    """The module of the batch system ``name``; ProxyError ``bad-request`` if the archive has none of that name."""
    if not re.match(r"^[a-z][a-z0-9_]*$", name):
        raise ProxyError("bad-request", "%r is not the name of a batch system." % name)
    wanted = "isthmus.proxy.batch." + name
    try:
        return importlib.import_module(wanted)
    except ImportError as error:
        if getattr(error, "name", wanted) not in (wanted, None):
            raise
        raise ProxyError(
            "bad-request",
            "This archive knows no batch system %r." % name,
            "Known: process, slurm, gridengine, and what plug-ins have added on the control plane.",
        )


def state_of(module, native):
    """Our state for a Native: pending, running, ended, or unknown."""
    for text in (native.text, native.text.split(" ")[0]):
        if text in module.STATES:
            return module.STATES[text]
    return "unknown"


def reason_of(module, native, state):
    """``(reason, message)`` for a Native in our ``state``. The native words are never lost: they end the message."""
    for text in (native.why, native.text, native.text.split(" ")[0]):
        if text in module.REASONS:
            reason, sentence = module.REASONS[text]
            break
    else:
        reason, sentence = {"pending": ("SITE_QUEUE", ""), "unknown": ("UNKNOWN", "")}.get(state, ("", ""))
    said = " ".join(part for part in (sentence, native.message) if part)
    if native.why and native.why not in said:
        said = "%s (%s)" % (said, native.why) if said else native.why
    return reason, said
