"""The file of prices: what is written is read back, and what is wrong in it is named."""

from pathlib import Path

import numpy as np
import pytest

from examples.forecast import prepare, prices


def test_the_shipped_data_survive_the_round_trip(tmp_path: Path) -> None:
    table = prepare.load()
    prices.write(table, tmp_path / "a.csv")
    back = prices.read(tmp_path / "a.csv")
    assert len(back) == 5031
    assert (str(back.dates[0]), str(back.dates[-1])) == ("1999-01-04", "2018-12-31")
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(getattr(back, name), getattr(table, name), rtol=0, atol=1e-6)
    prices.write(back, tmp_path / "b.csv")
    assert prices.digest(tmp_path / "a.csv") == prices.digest(tmp_path / "b.csv")


GOOD = "date,open,high,low,close,volume\n2001-01-02,10,11,9,10,5\n2001-01-03,10,12,9,11,6\n"


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("", ":1:", "expected the columns"),
        (GOOD.replace("volume", "amount"), ":1:", "amount"),
        ("date,open,high,low,close,volume\n", "", "no prices"),
        (GOOD.replace("12,9,11,6", "12,9,eleven,6"), ":3:", "eleven"),
        (GOOD.replace("12,9,11,6", "12,9,11"), ":3:", "5 columns instead of 6"),
        (GOOD.replace("2001-01-03", "2001-01-02"), ":3:", "not after the one before"),
        (GOOD.replace("12,9,11,6", "9,9,11,6"), ":3:", "high is not above the low"),
        (GOOD.replace("12,9,11,6", "12,9,11,0"), ":3:", "not above zero"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, where: str, why: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=why) as caught:
        prices.read(path)
    assert f"{path}{where}" in str(caught.value)
