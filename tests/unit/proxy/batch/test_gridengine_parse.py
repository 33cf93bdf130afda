"""What Grid Engine printed, read: recorded from 8.1.9."""

from collections.abc import Callable

import pytest

from isthmus.domain.reasons import Reason
from isthmus.proxy.batch import Native, gridengine, reason_of, state_of
from isthmus.proxy.batch.gridengine import inventory, parse
from isthmus.proxy.batch.gridengine.words import REASONS, STATES

Recorded = Callable[[str], str]


def test_states_of_recorded_jobs(recorded: Recorded) -> None:
    lines = {line.name: line for line in parse.qstat(recorded("gridengine-8.1.9-qstat.xml"))}
    assert {name: line.state for name, line in lines.items()} == {
        "isthmus-17.1-k3f9": "dr",
        "isthmus-18.1-aaaa": "hqw",
        "isthmus-e": "Eqw",
        "isthmus-q": "qw",
        "arr": "hqw",
    }
    assert lines["isthmus-17.1-k3f9"].nodes == ["vm"]
    assert parse.count(lines.values()) == 9, "the array has five tasks"


@pytest.mark.parametrize("text", ["", "<?xml version=\0\377", "<job_info>", "<other/>"])
def test_a_cut_or_strange_answer_is_never_read(text: str) -> None:
    with pytest.raises(parse.Garbled):
        parse.qstat(text)


@pytest.mark.parametrize(
    ("job", "reason", "code", "signal"),
    [
        ("7", "SIGNAL", None, 9),  # deleted
        ("8", "TIMEOUT", None, 9),  # h_rt
        ("9", "EXIT_CODE", 7, None),  # warned by s_rt, and ended by itself
        ("10", "EXIT_CODE", 3, None),
    ],
)
def test_ends_of_recorded_jobs(recorded: Recorded, job: str, reason: str, code: int | None, signal: int | None) -> None:
    native = parse.ended(parse.qacct(recorded("gridengine-8.1.9-qacct.txt"))[job])
    assert state_of(gridengine, native) == "ended"
    assert reason_of(gridengine, native, "ended")[0] == reason
    assert (native.exit_code, native.signal) == (code, signal)
    assert native.nodes == ["vm"]


def test_a_job_that_could_not_be_started_is_the_nodes_fault() -> None:
    native = parse.ended({"failed": "26  : opening input/output file", "exit_status": "0", "hostname": "vm"})
    assert reason_of(gridengine, native, state_of(gridengine, native))[0] == "NODE_FAIL"
    assert native.exit_code is None
    assert "opening input/output file" in native.message


@pytest.mark.parametrize("word", STATES)
def test_every_state_means_one_of_ours(word: str) -> None:
    state = state_of(gridengine, Native(word))
    assert state in ("pending", "running", "ended")
    assert reason_of(gridengine, Native(word), state)[0] in set(Reason)
    if state == "pending":
        assert REASONS[word]


def test_an_unknown_state_is_kept() -> None:
    assert state_of(gridengine, Native("Qx")) == "unknown"


def test_the_error_of_a_job(recorded: Recorded) -> None:
    said = parse.error_reason(recorded("gridengine-8.1.9-qstat-error.txt"))
    assert said == "error: can't chdir to /nonexistent: No such file or directory"


@pytest.mark.parametrize(("text", "expected"), [("7\n", "7"), ("hello\n5.1-5:1\n", "5"), ("Your job 7", None)])
def test_the_id_is_found_among_noise(text: str, expected: str | None) -> None:
    assert parse.native_id(text) == expected


def test_hosts_and_queues(recorded: Recorded) -> None:
    hosts = parse.qhost(recorded("gridengine-8.1.9-qhost.xml"))
    assert [(host.name, host.cpus, host.gpus) for host in hosts] == [("vm", 2, 2)]
    limits = {"debug.q": parse.settings(recorded("gridengine-8.1.9-queue.txt"))}
    queues = inventory.queues_of(hosts, limits)
    assert [(queue["name"], queue["default"], queue["max_time"]) for queue in queues] == [
        ("all.q", True, 0),
        ("debug.q", False, 600),
    ]
    assert queues[0]["nodes"][0]["cpus"] == 4
    assert queues[0]["nodes"][0]["gpus"] == [{"type": "", "count": 2, "mem": 0}]
    assert [queue["name"] for queue in inventory.queues_of(hosts, limits, "debug.q")] == ["debug.q"]


@pytest.mark.parametrize(
    ("text", "expected"), [("23.5G", int(23.5 * 2**30)), ("642.3M", int(642.3 * 2**20)), ("-", 0), ("0.0", 0)]
)
def test_sizes(text: str, expected: int) -> None:
    assert parse.size(text) == expected
