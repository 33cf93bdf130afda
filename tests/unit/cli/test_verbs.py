"""What the command line says to a verb that is not there."""

from __future__ import annotations

import re

import pytest

from isthmus.cli.main import main
from isthmus.cli.verbs import missing


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ps"], "isthmus job ps"),
        (["explain", "3"], "isthmus job explain, isthmus workflow explain"),
        (["workflow", "ps"], "isthmus job ps"),
        (["job", "shwo"], "Did you mean 'show'"),
        (["plcement"], "Did you mean 'placement'"),
    ],
)
def test_a_verb_that_is_elsewhere_is_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    err = re.sub(r"[\s│]+", " ", capsys.readouterr().err)
    assert said in err


def test_a_verb_of_many_groups_names_some() -> None:
    assert missing("ls", []).endswith(", ….")
