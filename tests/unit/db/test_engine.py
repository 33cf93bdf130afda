"""URLs of databases."""

from pathlib import Path

import pytest

from isthmus.db.engine import parse_url
from isthmus.domain.errors import Invalid


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://ada@host:5433/isthmus", "postgresql+psycopg"),
        ("postgres://ada@host/isthmus", "postgresql+psycopg"),
        ("postgresql+psycopg://ada@host/isthmus?sslmode=require", "postgresql+psycopg"),
        ("postgresql:///isthmus?host=/var/run/postgresql", "postgresql+psycopg"),
    ],
)
def test_urls_of_postgresql(url: str, driver: str) -> None:
    parsed = parse_url(url)
    assert parsed.drivername == driver
    assert parsed.database == "isthmus"


def test_urls_of_sqlite(tmp_path: Path) -> None:
    assert parse_url(f"sqlite:///{tmp_path}/a.db").database == f"{tmp_path}/a.db"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "'' is not a database's URL"),
        ("isthmus.db", "'isthmus.db' is not a database's URL"),
        ("mysql://host/x", "'mysql' is not a database that Isthmus knows"),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("sqlite:////nowhere/at/all/x.db", "There is no folder '/nowhere/at/all' for it"),
        ("postgresql://host:port/x", "not a database's URL"),
    ],
)
def test_what_is_no_url_is_refused_with_an_example(url: str, words: str) -> None:
    with pytest.raises(Invalid, match=words) as caught:
        parse_url(url)
    assert caught.value.place == "database"
    assert caught.value.hint
