"""What errors of a database mean."""

import sqlite3
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from isthmus.db.failures import translate
from isthmus.domain.errors import Conflict, Unavailable


class PostgresError(Exception):
    """As psycopg's: with the server's code."""

    def __init__(self, code: str | None, message: str) -> None:
        super().__init__(message)
        self.sqlstate = code


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("its own words")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "disk of the database is full"),
        (sqlite_error(sqlite3.SQLITE_BUSY), "Another process holds"),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), "disk of the database failed"),  # an extended code
        (sqlite_error(sqlite3.SQLITE_READONLY), "can't be written"),
        (PostgresError("53100", "its own words"), "disk of the database is full"),
        (PostgresError("53300", "its own words"), "no resources left"),
        (PostgresError("55P03", "its own words"), "Another process holds"),
        (PostgresError("57P01", "its own words"), "stopping or starting"),
    ],
)
def test_trouble_of_the_database_is_unavailable_in_its_own_words(own: Any, words: str) -> None:
    error = translate(OperationalError("INSERT", {}, own))
    assert isinstance(error, Unavailable)
    assert words in str(error)
    assert "its own words" in str(error)
    assert error.hint
    assert "INSERT" not in str(error)


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE constraint failed")),
        IntegrityError("INSERT", {}, PostgresError("23505", "duplicate key")),
        OperationalError("SELEC", {}, sqlite_error(sqlite3.SQLITE_ERROR)),  # a fault of ours
        Conflict("no"),
        ValueError("x"),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert translate(error) is error


def test_a_lost_connection_is_unavailable() -> None:
    error = OperationalError("SELECT", {}, PostgresError(None, "gone"))
    assert translate(error) is error
    error.connection_invalidated = True
    assert "no connection to the database server" in str(translate(error))
