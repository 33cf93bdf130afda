"""Native options: read, refused with the nearest word, merged."""

from typing import Any

import pytest

from isthmus.domain.errors import Invalid
from isthmus.sites.options import EXTRA, Option, check_options, merge

KNOWN = {
    "account": Option("text", "the account", "--account"),
    "nice": Option("whole", "lower", "--nice"),
    "exclusive": Option("flag or text", "alone", "--exclusive"),
    "contiguous": Option("flag", "side by side", "--contiguous"),
    "partition": Option("list", "where", "--partition"),
    "resources": Option("map", "more", "-l"),
    "extra": EXTRA,
}
ELSEWHERE = {"mem": "The job's resources say that: mem."}


def read(**given: Any) -> dict[str, Any]:
    return check_options(given, KNOWN, ELSEWHERE, "options")


def test_values_are_put_into_their_proper_form() -> None:
    assert read(account=4711, partition=["a", "b"], nice="10", exclusive="user", contiguous="true") == {
        "account": "4711",
        "partition": "a,b",
        "nice": 10,
        "exclusive": "user",
        "contiguous": True,
    }
    assert read(exclusive=True, resources={"h": "n1"}, extra=["--x=1", "--y"]) == {
        "exclusive": True,
        "resources": {"h": "n1"},
        "extra": ("--x=1", "--y"),
    }


def test_names_may_be_written_as_on_the_command_line() -> None:
    assert check_options({"--account": "p"}, KNOWN, {}, "options") == {"account": "p"}


@pytest.mark.parametrize(
    ("given", "place", "hint"),
    [
        ({"acount": "p"}, "options.acount", "account"),
        ({"mem": "4G"}, "options.mem", "resources"),
        ({"nice": "much"}, "options.nice", ""),
        ({"nice": True}, "options.nice", ""),
        ({"contiguous": "perhaps"}, "options.contiguous", ""),
        ({"account": True}, "options.account", ""),
        ({"account": ""}, "options.account", ""),
        ({"account": "p\n#SBATCH --uid=0"}, "options.account", ""),
        ({"partition": [["a"]]}, "options.partition[0]", ""),
        ({"partition": {"a": 1}}, "options.partition", ""),
        ({"resources": "h=n1"}, "options.resources", ""),
        ({"extra": "--x --y"}, "options.extra", "['--x', '--y']"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], place: str, hint: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_options(given, KNOWN, ELSEWHERE, "options")
    assert caught.value.place == place
    assert hint in caught.value.hint


def test_later_layers_win_and_extra_words_add_up() -> None:
    site = {"account": "p", "qos": "normal", "extra": ("--a",)}
    job = {"qos": "long", "extra": ("--b",)}
    assert merge(site, {}, job) == {"account": "p", "qos": "long", "extra": ("--a", "--b")}
