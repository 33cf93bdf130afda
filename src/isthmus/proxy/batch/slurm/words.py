"""SLURM's words for states and reasons, and ours for them. SLURM 17.11 to 26.05.

Sources: ``job_state_string`` and ``job_state_reason_string`` of SLURM's own code,
https://slurm.schedmd.com/job_state_codes.html and https://slurm.schedmd.com/job_reason_codes.html.
"""

STATES = {
    "PENDING": "pending",
    # Nodes are allocated but still boot: the script has not begun.
    "CONFIGURING": "pending",
    "POWER_UP_NODE": "pending",
    # Back in the queue, or held there.
    "REQUEUED": "pending",
    "REQUEUE_FED": "pending",
    "REQUEUE_HOLD": "pending",
    "RESV_DEL_HOLD": "pending",
    "SPECIAL_EXIT": "pending",
    "RUNNING": "running",
    "SUSPENDED": "running",
    "STOPPED": "running",
    "RESIZING": "running",
    "SIGNALING": "running",
    "EXPEDITING": "running",
    # The script has ended, but its epilog, the files on their way out, or a process that won't die have not.
    "COMPLETING": "running",
    "STAGE_OUT": "running",
    "COMPLETED": "ended",
    "CANCELLED": "ended",
    "FAILED": "ended",
    "TIMEOUT": "ended",
    "NODE_FAIL": "ended",
    "PREEMPTED": "ended",
    "BOOT_FAIL": "ended",
    "DEADLINE": "ended",
    "OUT_OF_MEMORY": "ended",
    "REVOKED": "ended",
    "LAUNCH_FAILED": "ended",
    "RECONFIG_FAIL": "ended",
}


class Families(dict):
    """Reasons by name, and where the name is not there, by the first pair in ``endings`` and ``beginnings`` that fits.

    SLURM has some two hundred names for limits, such as ``QOSMaxCpuPerUserLimit``: their beginning and end say all.
    """

    endings = (
        ("PerJob", ("SUBMIT", "It asks for more than one job may have there: it can't start as it is.")),
        ("PerJobLimit", ("SUBMIT", "It asks for more than one job may have there: it can't start as it is.")),
        ("PerNode", ("SUBMIT", "It asks for more than a job may have of one node: it can't start as it is.")),
        ("PerUser", ("LIMIT", "Your jobs there have all that one user may have at a time.")),
        ("PerUserLimit", ("LIMIT", "Your jobs there have all that one user may have at a time.")),
        ("PerAccount", ("LIMIT", "The account's jobs there have all that it may have at a time.")),
        (
            "RunMinutes",
            ("LIMIT", "The running jobs of its account or QOS hold all the minutes these may hold at a time."),
        ),
        ("RunMinutesLimit", ("LIMIT", "The running jobs of its account or QOS hold all the minutes these may hold.")),
        ("Minutes", ("LIMIT", "The minutes of its account or QOS are used up.")),
        ("MinutesLimit", ("LIMIT", "The minutes of its account or QOS are used up.")),
    )
    beginnings = (
        ("QOSMin", ("SUBMIT", "It asks for less than its QOS wants of a job: it can't start as it is.")),
        ("QOSMax", ("LIMIT", "A limit of its QOS is reached.")),
        ("QOSGrp", ("LIMIT", "All jobs of its QOS together are at a limit.")),
        ("QOS", ("LIMIT", "A limit of its QOS is reached.")),
        ("AssocMax", ("LIMIT", "A limit of its account is reached.")),
        ("AssocGrp", ("LIMIT", "All jobs of its account together are at a limit.")),
        ("Association", ("LIMIT", "A limit of its account is reached.")),
        ("BurstBuffer", ("SITE_QUEUE", "It waits for the burst buffer.")),
    )

    def family(self, name):
        """The pair for ``name``, or None."""
        if dict.__contains__(self, name):
            return dict.__getitem__(self, name)
        for beginning, _ in self.beginnings + (("Max", None),):
            if name.startswith(beginning):
                break
        else:
            return None
        for ending, pair in self.endings:
            if name.endswith(ending):
                return pair
        for beginning, pair in self.beginnings:
            if name.startswith(beginning):
                return pair
        return None

    def __contains__(self, name):
        return self.family(name) is not None

    def __missing__(self, name):
        pair = self.family(name)
        if pair is None:
            raise KeyError(name)
        return pair


# A pending job whose reason of ours is SUBMIT never starts as it was submitted: SLURM took it, but won't run it.
REASONS = Families(
    {
        # Nothing is wrong, or not yet known.
        "None": ("", ""),
        "NO_REASON": ("", ""),
        # Why it waits.
        "Priority": ("SITE_QUEUE", "Jobs of higher priority go first in the site's queue."),
        "Resources": ("SITE_QUEUE", "It is next in the site's queue; what it asks for is in use."),
        "Dependency": ("DEPENDENCY", "It waits for another job of the site's queue."),
        "BeginTime": ("SITE_QUEUE", "Its earliest start has not come yet."),
        "Prolog": ("SITE_QUEUE", "The site prepares its nodes."),
        "Cleaning": ("SITE_QUEUE", "The site still cleans up after its last start."),
        "SchedDefer": ("SITE_QUEUE", "The scheduler has not looked at it yet."),
        "Licenses": ("SITE_QUEUE", "It waits for a licence."),
        "Constraints": ("SITE_QUEUE", "No node that it may use is free now."),
        "NvidiaImexChannels": ("SITE_QUEUE", "It waits for a channel between GPUs."),
        "MpiPortsBusy": ("SITE_QUEUE", "It waits for free MPI ports."),
        "MaxPoweredUpNodes": ("SITE_QUEUE", "As many nodes as the site keeps powered are in use."),
        "PowerNotAvail": ("SITE_QUEUE", "The site has no power to spare now."),
        "PowerReserved": ("SITE_QUEUE", "The site has no power to spare now."),
        "Reservation": ("SITE_QUEUE", "It waits for its reservation."),
        "ReservationInvalid": ("SUBMIT", "Its reservation does not exist, or not for it: it can't start as it is."),
        "ReservationDeleted": ("SUBMIT", "Its reservation was deleted: it can't start as it is."),
        "ReqNodeNotAvail": ("SITE_QUEUE", "A node that it needs is down, drained or reserved."),
        "NodeDown": ("SITE_QUEUE", "A node that it needs is down."),
        "PartitionDown": ("SITE_QUEUE", "Its partition is down: jobs may be submitted, but none starts."),
        "PartitionInactive": ("SITE_QUEUE", "Its partition is inactive: none of its jobs start."),
        "FrontEndDown": ("SITE_QUEUE", "The front end that it needs is down."),
        # SLURM says the same when nodes that would do are down for a while: not certain enough to call it refused.
        "PartitionNodeLimit": (
            "SITE_QUEUE",
            "It asks for more nodes than its partition allows, or has up: it may wait for ever.",
        ),
        "PartitionConfig": ("SITE_QUEUE", "Its partition's limits don't allow it now: it may wait for ever."),
        "JobArrayTaskLimit": ("SITE_QUEUE", "As many jobs of its array run as it allows."),
        "FedJobLock": ("SITE_QUEUE", "The federated clusters are agreeing on where it runs."),
        "JobHeldUser": ("SITE_QUEUE", "Somebody holds it back; `scontrol release` lets it go."),
        "JobHeldAdmin": ("SITE_QUEUE", "An administrator, or a failed start, holds it back."),
        "JobHoldMaxRequeue": ("SITE_QUEUE", "It was put back too often; SLURM holds it."),
        "AccountingPolicy": ("LIMIT", "A limit of its account is reached."),
        "MaxMemPerLimit": ("SUBMIT", "It asks for more memory than a CPU or node may give: it can't start as it is."),
        "PartitionTimeLimit": ("SUBMIT", "It asks for more time than its partition allows: it can't start as it is."),
        "DependencyNeverSatisfied": ("SUBMIT", "A job that it waits for did not end as it must: it never starts."),
        "BadConstraints": ("SUBMIT", "No node there has what it asks for: it can't start as it is."),
        "InvalidAccount": ("SUBMIT", "Its account does not exist there: it can't start as it is."),
        "InvalidQOS": ("SUBMIT", "Its QOS does not exist there: it can't start as it is."),
        "AccountNotAllowed": ("SUBMIT", "Its partition does not take its account: it can't start as it is."),
        "QOSNotAllowed": ("SUBMIT", "Its partition or account does not take its QOS: it can't start as it is."),
        # Limits whose names don't tell that they are about the one job.
        "AssociationTimeLimit": ("SUBMIT", "It asks for more time than its account allows: it can't start as it is."),
        "QOSTimeLimit": ("SUBMIT", "It asks for more time than its QOS allows: it can't start as it is."),
        # Why it ended.
        "NonZeroExitCode": ("EXIT_CODE", "The batch script ended with an exit code other than 0."),
        "RaisedSignal": ("SIGNAL", "The batch script was ended by a signal."),
        "TimeLimit": ("TIMEOUT", "It ran longer than its time limit there."),
        "InactiveLimit": ("TIMEOUT", "SLURM ended it for being idle."),
        "OutOfMemory": ("OOM", "It used more memory than it asked for."),
        "DeadLine": ("DEADLINE", "Its deadline there passed."),
        "JobLaunchFailure": ("NODE_FAIL", "SLURM could not start it on its node."),
        "SystemFailure": ("NODE_FAIL", "SLURM or a node of it failed."),
        # States, for where SLURM gives no reason.
        "COMPLETED": ("", ""),
        "CANCELLED": ("KILLED", "Somebody cancelled it."),
        "FAILED": ("EXIT_CODE", "The batch script ended with an exit code other than 0."),
        "TIMEOUT": ("TIMEOUT", "It ran longer than its time limit there."),
        "NODE_FAIL": ("NODE_FAIL", "A node it ran on failed."),
        "PREEMPTED": ("PREEMPTED", "The site gave its place to another job."),
        "BOOT_FAIL": ("NODE_FAIL", "Its nodes did not boot."),
        "LAUNCH_FAILED": ("NODE_FAIL", "SLURM could not start it on its node."),
        "RECONFIG_FAIL": ("NODE_FAIL", "Its nodes could not be set up for it."),
        "DEADLINE": ("DEADLINE", "Its deadline there passed."),
        "OUT_OF_MEMORY": ("OOM", "It used more memory than it asked for."),
        "REVOKED": ("LOST", "Another cluster of the federation took it, or it was withdrawn."),
        "SPECIAL_EXIT": ("SITE_QUEUE", "SLURM holds it after a special exit."),
        "REQUEUE_HOLD": ("SITE_QUEUE", "SLURM put it back and holds it."),
        "RESV_DEL_HOLD": ("SITE_QUEUE", "Its reservation was deleted, so SLURM holds it."),
        "SUSPENDED": ("", "The site has suspended it."),
        "STOPPED": ("", "The site has stopped it for a while."),
    }
)
