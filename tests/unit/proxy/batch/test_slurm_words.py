"""Every word of SLURM that we know of has a place, and a new one is kept rather than guessed."""

import re

import pytest

from isthmus.domain.reasons import Reason
from isthmus.proxy.batch import Native, reason_of, slurm, state_of
from isthmus.proxy.batch.slurm.words import REASONS, STATES

# The states and reasons of SLURM 26.05 and of 17.11, from its own tables.
NATIVE_STATES = (
    "COMPLETING STAGE_OUT CONFIGURING EXPEDITING RESIZING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT STOPPED "
    "REVOKED RESV_DEL_HOLD SIGNALING PENDING RUNNING SUSPENDED COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED "
    "BOOT_FAIL DEADLINE OUT_OF_MEMORY"
)
LIMITS = (
    "AssociationJobLimit AssociationResourceLimit AssociationTimeLimit QOSUsageThreshold QOSJobLimit QOSResourceLimit "
    "QOSTimeLimit QOSGrpCpuLimit QOSGrpCPUMinutesLimit QOSGrpCPURunMinutesLimit QOSGrpJobsLimit QOSGrpMemLimit "
    "QOSGrpSubmitJobsLimit QOSGrpWallLimit QOSMaxCpuPerJobLimit QOSMaxCpuMinutesPerJobLimit QOSMaxNodePerJobLimit "
    "QOSMaxWallDurationPerJobLimit QOSMaxCpuPerUserLimit QOSMaxJobsPerUserLimit QOSMaxSubmitJobPerUserLimit "
    "QOSMinCpuNotSatisfied AssocGrpCpuLimit AssocGrpCPUMinutesLimit AssocGrpJobsLimit AssocMaxJobsLimit "
    "AssocMaxCpuPerJobLimit AssocMaxWallDurationPerJobLimit AssocMaxSubmitJobLimit AssocMaxGRESPerNode "
    "QOSGrpGRES QOSMaxGRESPerUser QOSMinGRES QOSGrpBillingMinutes MaxCpuPerAccount MaxJobsPerAccount "
    "MaxGRESRunMinsPerUser MaxMemPerLimit AccountingPolicy"
)
OTHERS = (
    "Prolog Priority Dependency Resources PartitionNodeLimit PartitionTimeLimit PartitionDown PartitionInactive "
    "JobHeldAdmin JobHeldUser NvidiaImexChannels BeginTime Licenses Reservation ReqNodeNotAvail SchedDefer NodeDown "
    "BadConstraints SystemFailure JobLaunchFailure NonZeroExitCode RaisedSignal TimeLimit InactiveLimit InvalidAccount "
    "InvalidQOS Cleaning QOSNotAllowed AccountNotAllowed DependencyNeverSatisfied JobHoldMaxRequeue JobArrayTaskLimit "
    "BurstBufferResources BurstBufferStageIn BurstBufferOperation PowerNotAvail PowerReserved DeadLine PartitionConfig "
    "FedJobLock OutOfMemory ReservationDeleted ReservationInvalid Constraints MaxPoweredUpNodes MpiPortsBusy "
    "FrontEndDown"
)


@pytest.mark.parametrize("word", NATIVE_STATES.split())
def test_every_state_is_known(word: str) -> None:
    assert STATES[word] in ("pending", "running", "ended")


@pytest.mark.parametrize("word", [*LIMITS.split(), *OTHERS.split()])
def test_every_reason_has_a_sentence_and_one_of_our_reasons(word: str) -> None:
    assert word in REASONS
    reason, sentence = REASONS[word]
    assert Reason(reason)
    assert re.fullmatch(r"[A-Z].*\.", sentence)


@pytest.mark.parametrize(
    "word", [word for word in LIMITS.split() if word.endswith(("PerJobLimit", "PerJob", "PerNode"))]
)
def test_limits_on_one_job_never_pass(word: str) -> None:
    assert REASONS[word][0] == "SUBMIT"


@pytest.mark.parametrize("word", ["QOSMaxJobsPerUserLimit", "AssocGrpCpuLimit", "QOSGrpGRES", "MaxJobsPerAccount"])
def test_limits_on_many_jobs_pass(word: str) -> None:
    assert REASONS[word][0] == "LIMIT"


def test_a_limit_that_is_newer_than_we_are_is_known_by_its_family() -> None:
    assert REASONS["QOSMaxPhotonsPerUser"][0] == "LIMIT"
    assert REASONS["AssocMaxPhotonsPerJob"][0] == "SUBMIT"


def test_unknown_words_are_kept() -> None:
    native = Native("DREAMING", "FullMoon")
    state = state_of(slurm, native)
    assert state == "unknown"
    assert reason_of(slurm, native, state) == ("UNKNOWN", "FullMoon")
    assert "FullMoon" not in REASONS
    with pytest.raises(KeyError):
        REASONS["FullMoon"]


def test_a_sentence_that_is_the_reason_is_shown() -> None:
    said = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    native = Native("PENDING", said)
    assert reason_of(slurm, native, "pending") == ("SITE_QUEUE", said)
