"""What commands print."""

from datetime import UTC, datetime, timedelta

import pytest

from isthmus.cli import output
from isthmus.cli.output import Format


def test_a_table_for_programs_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    output.table(("ID", "NAME"), [["1", long], ["22", ""]])
    assert capsys.readouterr().out.splitlines() == ["ID  NAME", f"1   {long}", "22"]


def test_an_empty_table_says_so_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("ID",), [], empty="None.")
    assert capsys.readouterr() == ("", "None.\n")


def test_facts_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    output.facts([("name", "x"), ("none", ""), ("long name", "a\nb")])
    assert capsys.readouterr().out == "name       x\nlong name  a\n           b\n"


def test_show_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(["é", 1], list[str | int], Format.JSON, lambda: None)
    assert capsys.readouterr().out == '[\n  "é",\n  1\n]\n'
    output.show({"a": [1]}, dict[str, list[int]], Format.YAML, lambda: None)
    assert capsys.readouterr().out == "a:\n- 1\n"


def test_when() -> None:
    now = datetime.now(UTC)
    assert output.when(None) == ""
    assert output.when(now).count(":") == 2
    assert output.when(now - timedelta(days=400)).count("-") == 2


def test_sparkline() -> None:
    assert output.sparkline([]) == ""
    assert output.sparkline([1, 1]) == "▁▁"
    assert output.sparkline([0, 7, 14]) == "▁▅█"
    assert len(output.sparkline(list(range(1000)), width=40)) == 40
