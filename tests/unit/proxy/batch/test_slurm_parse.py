"""What SLURM printed, read: recorded from 22.05, and in the forms that the manuals of 17.11 to 25.05 give."""

from collections.abc import Callable

import pytest

from isthmus.proxy.batch import reason_of, slurm, state_of
from isthmus.proxy.batch.slurm import parse

Recorded = Callable[[str], str]


def listed(recorded: Recorded) -> dict[str, tuple[str, str, str]]:
    """Every job of the recorded squeue: our state, our reason, the message."""
    codes = parse.exit_codes(recorded("slurm-22.05-squeue-exit-codes.txt"))
    found = {}
    for line in parse.squeue(recorded("slurm-22.05-squeue.txt")):
        native = slurm._listed(line, codes.get(line.id, (None, None)))
        state = state_of(slurm, native)
        found[line.id] = (state, *reason_of(slurm, native, state))
    return found


@pytest.mark.parametrize(
    ("job", "state", "reason", "word"),
    [
        ("2816", "pending", "SITE_QUEUE", "Resources"),
        ("2825", "pending", "SITE_QUEUE", "Priority"),
        ("2818", "pending", "SITE_QUEUE", "BeginTime"),
        ("2819", "pending", "DEPENDENCY", "Dependency"),
        ("2820", "pending", "SUBMIT", "DependencyNeverSatisfied"),
        ("2821", "pending", "SITE_QUEUE", "PartitionNodeLimit"),
        ("2827", "pending", "SUBMIT", "PartitionTimeLimit"),
        ("2831", "pending", "SITE_QUEUE", "c1-n3"),
        ("2817", "pending", "SITE_QUEUE", "JobHeldUser"),
        ("2832", "running", "", ""),
        ("2814", "ended", "", ""),
        ("2812", "ended", "EXIT_CODE", "NonZeroExitCode"),
        ("2813", "ended", "SIGNAL", "RaisedSignal"),
        ("2815", "ended", "TIMEOUT", "time limit"),
        ("2826", "ended", "KILLED", "cancelled"),
        ("2810", "ended", "KILLED", "cancelled"),
        ("2824", "ended", "SUBMIT", "BadConstraints"),
    ],
)
def test_every_recorded_job_has_its_state_and_reason(
    recorded: Recorded, job: str, state: str, reason: str, word: str
) -> None:
    seen = listed(recorded)[job]
    assert seen[:2] == (state, reason)
    assert word in seen[2]


def test_a_cancelled_job_does_not_keep_the_reason_it_waited_for(recorded: Recorded) -> None:
    assert "JobHeldUser" not in listed(recorded)["2826"][2]


def test_exit_codes_of_old_and_new_squeue() -> None:
    old = "2812                768                 \n2813                9                   \n2814                0\n"
    new = (
        "2812                3:0                 \n2813                0:9                 \n2814                0:0\n"
    )
    assert parse.exit_codes(old) == parse.exit_codes(new) == {"2812": (3, None), "2813": (None, 9), "2814": (0, None)}


def test_a_job_that_was_refused_after_all_has_no_exit_code(recorded: Recorded) -> None:
    codes = parse.exit_codes(recorded("slurm-22.05-squeue-exit-codes.txt"))
    line = next(line for line in parse.squeue(recorded("slurm-22.05-squeue.txt")) if line.id == "2824")
    native = slurm._listed(line, codes["2824"])
    assert (native.exit_code, native.signal) == (None, None)


def test_an_array_counts_each_waiting_element(recorded: Recorded) -> None:
    lines = parse.squeue(recorded("slurm-22.05-squeue.txt"))
    assert parse.count(line for line in lines if line.id == "2822_[1-20%3]") == 20
    assert parse.count(line for line in lines if line.id == "2823_[1,5,7-9]") == 5
    assert parse.count(line for line in lines if line.id.startswith("281")) == 9


@pytest.mark.parametrize(
    "text",
    [
        "2816|PENDING||Resou",  # cut
        "2816|PENDING\n",
        "7|RUNN\0\377",
        "slurm_load_jobs error: Unable to contact slurm controller\n",
    ],
)
def test_a_cut_or_strange_answer_is_never_read(text: str) -> None:
    with pytest.raises(parse.Garbled):
        parse.squeue(text)


def test_headings_of_clusters_are_skipped() -> None:
    text = "CLUSTER: c2\n4|CANCELLED||JobHeldUser\n"
    assert [line.id for line in parse.squeue(text)] == ["4"]


def test_no_jobs_are_no_fault() -> None:
    assert parse.squeue("") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123\n", "123"),
        ("123;c2\n", "123;c2"),
        ("Welcome to the cluster!\n\n123\n", "123"),
        ("Submitted batch job 123\n", None),
        ("", None),
    ],
)
def test_the_id_is_found_among_noise(text: str, expected: str | None) -> None:
    assert parse.native_id(text) == expected


def test_ids_of_other_clusters_tell_theirs() -> None:
    assert parse.split_id("8;c2") == ("8", "c2")
    assert parse.split_id("8") == ("8", "")
    with pytest.raises(ValueError, match="not an id"):
        parse.split_id("8_[3-4]")


def test_ids_of_elements_of_arrays() -> None:
    assert parse.split_id("8_3") == ("8_3", "")
    assert parse.split_id("8_3;c2") == ("8_3", "c2")
    assert parse.base("8_3") == parse.base("8_[1-3%2]") == parse.base("8") == "8"
    assert slurm.element("8", 3) == "8_3"
    assert slurm.element("8;c2", 0) == "8_0;c2"


def test_the_waiting_elements_of_arrays_of_ours_are_told_one_by_one(recorded: Recorded) -> None:
    lines = parse.squeue(recorded("slurm-22.05-squeue.txt"))
    told = list(parse.each(lines, {"2823"}))
    assert [line.id for line in told if line.id.startswith("2823")] == [f"2823_{index}" for index in (1, 5, 7, 8, 9)]
    assert {line.reason for line in told if line.id.startswith("2823")} == {"BeginTime"}
    assert [line.id for line in told if line.id.startswith("2822")] == ["2822_[1-20%3]"]
    assert parse.count(told) == parse.count(lines)


def test_the_controller_tells_elements_by_their_array() -> None:
    text = (
        "JobId=9 ArrayJobId=7 ArrayTaskId=1 JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 NodeList=n1\n"
        "JobId=7 ArrayJobId=7 ArrayTaskId=2-3,5%4 JobState=PENDING Reason=Priority ExitCode=0:0 NodeList=\n"
    )
    found = parse.jobs(text)
    assert set(found) == {"7_1", "7_2", "7_3", "7_5"}
    assert (found["7_1"].exit_code, found["7_1"].nodes) == (3, ["n1"])
    assert found["7_5"].text == "PENDING"


SCRIPT = """#!/bin/bash
#SBATCH --job-name=isthmus-1.1-a

#SBATCH --mem=1M
module load cuda
exec python3 run
"""


def test_the_script_of_an_array_keeps_the_directives_and_runs_each_elements_own() -> None:
    made = slurm.array(SCRIPT, 200)
    assert made is not None
    text, words = made
    head, _, body = text.partition("cd -P")
    assert head == "#!/bin/bash\n#SBATCH --job-name=isthmus-1.1-a\n\n#SBATCH --mem=1M\n"
    assert body.endswith("\n. ./batch.sh\n")
    assert "module load" not in text
    assert "--array=0-199" in words


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash -l", "/usr/bin/env bash", " /bin/zsh"])
def test_scripts_of_these_shells_may_be_in_an_array(shell: str) -> None:
    assert slurm.array(f"#!{shell}\ntrue\n", 9)


@pytest.mark.parametrize("shell", ["/bin/tcsh", "/usr/bin/python3", "/usr/bin/fish", "/usr/bin/env perl"])
def test_scripts_that_a_shell_can_t_read_go_alone(shell: str) -> None:
    assert slurm.array(f"#!{shell}\ntrue\n", 9) is None


def test_sacct_of_slurmdbd(recorded: Recorded) -> None:
    jobs = parse.sacct(recorded("slurm-22.05-sacct.txt"))
    assert jobs["2"].native.exit_code == 3
    assert jobs["3"].native.signal == 9
    assert jobs["1"].native == ("COMPLETED", "", "", 0, None, ["c2-n1"])
    assert "5" not in jobs
    assert all(number == "5" for number in map(parse.base, jobs) if "_" in number), "elements are told by their array"
    assert jobs["12"].name == "a|b"


def test_what_accounting_calls_running_but_the_queue_knows_not_is_unknown(recorded: Recorded) -> None:
    native = parse.sacct(recorded("slurm-22.05-sacct.txt"))["12"].native
    assert state_of(slurm, native) == "unknown"
    assert "RUNNING" in native.text


def test_sacct_of_the_file_of_completed_jobs(recorded: Recorded) -> None:
    jobs = parse.sacct(recorded("slurm-22.05-sacct-completion.txt"))
    assert state_of(slurm, jobs["2815"].native) == "ended"
    assert reason_of(slurm, jobs["2815"].native, "ended")[0] == "TIMEOUT"
    refused = jobs["2824"].native
    assert refused.nodes == []
    assert refused.exit_code is refused.signal is None
    assert reason_of(slurm, refused, "ended")[0] == "NODE_FAIL"


@pytest.mark.parametrize(
    ("line", "state", "reason"),
    [
        ("9|isthmus-1.1-aaaa|CANCELLED by 1000|0:0|n1\n", "ended", "KILLED"),
        ("9|isthmus-1.1-aaaa|OUT_OF_MEMORY|0:125|n1\n", "ended", "OOM"),
        ("9|isthmus-1.1-aaaa|NODE_FAIL|1:0|n1\n", "ended", "NODE_FAIL"),
        ("9|isthmus-1.1-aaaa|PREEMPTED|0:0|n1\n", "ended", "PREEMPTED"),
        ("9|isthmus-1.1-aaaa|BOOT_FAIL|0:0|n1\n", "ended", "NODE_FAIL"),
        ("9|isthmus-1.1-aaaa|DEADLINE|0:0|None assigned\n", "ended", "DEADLINE"),
        ("9|isthmus-1.1-aaaa|SOMETHING_NEW|0:0|n1\n", "unknown", "UNKNOWN"),
    ],
)
def test_ends_that_accounting_tells(line: str, state: str, reason: str) -> None:
    native = parse.sacct(line)["9"].native
    assert state_of(slurm, native) == state
    assert reason_of(slurm, native, state)[0] == reason


def test_the_last_account_of_a_requeued_job_counts() -> None:
    text = "9|x|NODE_FAIL|1:0|n1\n9|x|COMPLETED|0:0|n2\n"
    assert parse.sacct(text)["9"].native.text == "COMPLETED"


def test_show_job(recorded: Recorded) -> None:
    jobs = parse.jobs(recorded("slurm-22.05-show-job.txt"))
    assert jobs["2815"].text == "TIMEOUT"
    assert jobs["2816"].text == "PENDING"
    assert jobs["2816"].why == "Resources"
    assert parse.jobs("No jobs in the system\n") == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("c1-n[1-3]", ["c1-n1", "c1-n2", "c1-n3"]),
        ("n[08-10,12],login", ["n08", "n09", "n10", "n12", "login"]),
        ("r[1-2]n[1-2]-ib", ["r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"]),
        ("(null)", []),
        ("None assigned", []),
        ("", []),
    ],
)
def test_lists_of_nodes(text: str, names: list[str]) -> None:
    assert parse.expand(text) == names


def test_a_list_of_nodes_that_is_none_does_not_fill_the_memory() -> None:
    assert len(parse.expand("n[1-999999999]")) < 10


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:a100:2", [("a100", 2)]),
        ("gpu:2", [("", 2)]),
        ("gpu", [("", 1)]),
        ("gpu:a100:4(S:0-1)", [("a100", 4)]),
        ("gpu:a100:4(S:0,1,2-3),nvme:1", [("a100", 4)]),
        ("gpu:tesla:2,gpu:kepler:1,shard:12", [("tesla", 2), ("kepler", 1)]),
        ("gpu:a100_3g.20gb:2(S:0),gpu:a100_1g.5gb:1", [("a100_3g.20gb", 2), ("a100_1g.5gb", 1)]),
        ("gpu:no_consume:2", [("", 2)]),
        ("gres/gpu:h100:8", [("h100", 8)]),
        ("gpu:a100:0", []),
        ("mps:200,craynetwork:4", []),
        ("(null)", []),
    ],
)
def test_gpus_typed_and_untyped(gres: str, expected: list[tuple[str, int]]) -> None:
    assert parse.gpus(gres) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-00:00:00", 86400),
        ("10:00", 600),
        ("2:00:00", 7200),
        ("30", 1800),
        ("1-12", 129600),
        ("UNLIMITED", 0),
        ("infinite", 0),
        ("n/a", 0),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse.seconds(text) == expected


def test_settings(recorded: Recorded) -> None:
    settings = parse.config(recorded("slurm-22.05-show-config.txt"))
    assert settings["AccountingStorageType"] == "accounting_storage/none"
    assert settings["JobCompType"] == "jobcomp/filetxt"
