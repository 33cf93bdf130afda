"""`isthmus placement rules`, `catalogue` and `whatif`: what is said of wrong words, before any server is asked."""

import pytest

from isthmus.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("whatif", "--nodes", "hpc"), "--nodes: 'hpc' is not NAME=VALUE."),
        (("whatif", "--nodes", "hpc=two"), "--nodes hpc: 'two' is not a whole number."),
        (("whatif", "--weight", "load=much"), "--weight load: 'much' is not a number."),
        (("whatif", "--deadline", "5=soon"), "--deadline 5: 'soon' is not a time."),
        (("whatif", "--deadline", "5=+soon"), "soon"),
        (("catalogue", "refesh"), "Did you mean 'refresh'?"),
    ],
)
def test_wrong_words_are_told(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["placement", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_both_kinds_of_policies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["placement", "policies"])
    assert not ended.value.code
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["fair-share", "sites"] in [line[:2] for line in lines]
    assert ["path-relinking", "simulate"] in [line[:2] for line in lines]
