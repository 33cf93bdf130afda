"""Grid Engine's words for states and ends, and ours for them.

Sources: the manual pages qstat(1), sge_status(5) and accounting(5). A state is letters: d(eletion), E(rror), h(old),
q(ueued), r(unning), R(estarted), s(uspended), S(uspended by its queue), t(ransferring), T(hreshold), w(aiting). The
first word of an end is ours, ``finished`` or ``failed``; the number is the accounting file's field of that name.
"""

STATES = {
    # Waits; R: it ran before.
    "qw": "pending",
    "hqw": "pending",
    "Rqw": "pending",
    "hRqw": "pending",
    "hRwq": "pending",
    # Could not be started, and is held until an administrator clears the error.
    "Eqw": "pending",
    "Ehqw": "pending",
    "ERqw": "pending",
    "EhRqw": "pending",
    "finished": "ended",
    "failed": "ended",
}
# Runs, is on its way to its node, or is suspended; maybe for the second time; maybe being deleted.
for _letters in ("r", "t", "s", "ts", "S", "tS", "sS", "T", "tT", "sT"):
    for _before in ("", "R", "h", "hR", "d", "dR", "E", "dE"):
        STATES[_before + _letters] = "running"

_NOT_STARTED = "Grid Engine could not start it on its node."
_IN_ERROR = ("SUBMIT", "Grid Engine could not start it and holds it in the state of error.")

REASONS = {
    "qw": ("SITE_QUEUE", "It waits in Grid Engine's queue."),
    "hqw": ("SITE_QUEUE", "It is held: by somebody, or until another job has ended."),
    "Rqw": ("SITE_QUEUE", "Grid Engine put it back into its queue."),
    "hRqw": ("SITE_QUEUE", "Grid Engine put it back into its queue, and holds it."),
    "hRwq": ("SITE_QUEUE", "Grid Engine put it back into its queue, and holds it."),
    "Eqw": _IN_ERROR,
    "Ehqw": _IN_ERROR,
    "ERqw": _IN_ERROR,
    "EhRqw": _IN_ERROR,
    "finished": ("", ""),
    "exit_status": ("EXIT_CODE", "The batch script ended with an exit code other than 0."),
    "signal": ("SIGNAL", "The batch script was ended by a signal; deleting a job does that too."),
    "failed 17": ("SIGNAL", "The batch script was ended by a signal."),
    "failed 24": ("PREEMPTED", "Grid Engine moved it away from its node."),
    "failed 25": ("PREEMPTED", "Grid Engine put it back into its queue."),
    "failed 37": ("TIMEOUT", "Grid Engine ended it at its limit of run time (h_rt), CPU time or memory (h_vmem)."),
    "failed 100": ("SIGNAL", "The batch script was ended by a signal; deleting a job does that too."),
    "failed": ("NODE_FAIL", _NOT_STARTED),
}
