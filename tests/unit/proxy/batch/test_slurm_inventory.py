"""What a SLURM site has, from what scontrol and sinfo printed."""

from collections.abc import Callable

from isthmus.proxy.batch.slurm import inventory

Recorded = Callable[[str], str]


def test_partitions(recorded: Recorded) -> None:
    found = inventory.parse_partitions(recorded("slurm-22.05-show-partition.txt"))
    assert list(found) == ["gpu", "debug"]
    assert found["gpu"]["Default"] == "YES"
    assert found["gpu"]["MaxTime"] == "1-00:00:00"
    assert found["debug"]["MaxTime"] == "00:10:00"
    assert found["gpu"]["TRES"] == "cpu=16,mem=16000M,node=4,billing=16"


def test_nodes_that_two_partitions_share_are_one_type(recorded: Recorded) -> None:
    nodes, away = inventory.node_types(recorded("slurm-22.05-sinfo.txt"))
    assert away == {}
    assert sum(kind["count"] for kind in nodes["gpu"]) == 4
    assert [kind["count"] for kind in nodes["debug"]] == [1]
    (shared,) = [kind for kind in nodes["gpu"] if kind in nodes["debug"]]
    assert shared["cpus"] == 4
    assert shared["mem"] == 4000 * 2**20
    assert shared["gpus"] == [{"type": "a100", "count": 2, "mem": 40 * 2**30}]
    names = [kind["name"] for kind in nodes["gpu"]]
    assert len(set(names)) == len(names) == 2


def test_nodes_that_are_away_are_counted_and_told() -> None:
    text = (
        "big|64|512000|gpu:h100:4(S:0-1)|idle|ib,h100|b[1-8]\n"
        "big|64|512000|gpu:h100:4(S:0-1)|down*|ib,h100|b9\n"
        "big|64|512000|gpu:h100:4(S:0-1)|drained|ib,h100|b10\n"
        "big|128|1024000|(null)|unknown*|(null)|fat\n"
    )
    nodes, away = inventory.node_types(text)
    assert away == {"big": 2}
    assert [(kind["count"], kind["cpus"], kind["features"]) for kind in nodes["big"]] == [
        (10, 64, ["ib", "h100"]),
        (1, 128, []),
    ]


def test_partitions_of_other_accounts_are_barred() -> None:
    mine = {"AllowAccounts": "p1,p2"}
    assert inventory._barred(mine, set(), ["p2", "p3"]) == ""
    assert "p1, p2" in inventory._barred(mine, set(), ["p3"])
    assert inventory._barred(mine, set(), []) == "", "accounts that are not known bar nothing"
    assert "p3" in inventory._barred({"DenyAccounts": "p3,p4"}, set(), ["p3"])
    assert inventory._barred({"DenyAccounts": "p3"}, set(), ["p3", "p5"]) == ""
    assert inventory._barred({}, set(), ["p3"]) == ""


def test_accounts_and_qos(recorded: Recorded) -> None:
    assert inventory.associations(recorded("slurm-22.05-sacctmgr-assoc.txt")) == (["proj", "root"], ["normal"])
    assert inventory.associations("p1|normal,long\np2|long,debug\np1|gpu\n") == (
        ["p1", "p2"],
        ["normal", "long", "debug", "gpu"],
    )
