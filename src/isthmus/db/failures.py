"""What a database's own errors mean to a person: the disk is full, another process holds it, the server is away."""

import sqlite3

from sqlalchemy.exc import DBAPIError

from isthmus.domain.errors import Unavailable

# https://www.sqlite.org/rescode.html, by the primary code (the low byte).
_SQLITE = {
    sqlite3.SQLITE_FULL: ("The disk of the database is full.", "Make room there, then try again."),
    sqlite3.SQLITE_IOERR: ("The disk of the database failed.", "Look at the system's log for its errors."),
    sqlite3.SQLITE_BUSY: ("Another process holds the database.", "Try again; see who has its file open."),
    sqlite3.SQLITE_LOCKED: ("Another process holds the database.", "Try again; see who has its file open."),
    sqlite3.SQLITE_READONLY: (
        "The database can't be written.",
        "Check the owner and mode of its file and folder.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "The database can't be opened.",
        "Check the path of its file and who may read it.",
    ),
    sqlite3.SQLITE_CORRUPT: ("The database's file is damaged.", "Restore it from a copy."),
    sqlite3.SQLITE_NOTADB: ("The file is not a database.", "Check its path."),
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html, by the code or its class (two characters).
_POSTGRESQL = {
    "53100": ("The disk of the database is full.", "Make room there, then try again."),
    "55P03": (
        "Another process holds the database.",
        "Try again; look for a long transaction in pg_stat_activity.",
    ),
    "53": ("The database server has no resources left.", "Check its connections, memory and disk."),
    "08": ("The connection to the database server broke.", "Try again."),
    "57": ("The database server is stopping or starting.", "Try again."),
    "58": ("The database server's system failed.", "Look at its log."),
    "25006": ("The database server only allows reading.", "Check that the URL names the primary server."),
}


def translate(error: BaseException) -> BaseException:
    """Unavailable where the database could not do it now; any other error as it is."""
    if not isinstance(error, DBAPIError):
        return error
    own = error.orig
    known: tuple[str, str] | None
    if isinstance(own, sqlite3.Error):
        known = _SQLITE.get((getattr(own, "sqlite_errorcode", None) or 0) & 0xFF)
    else:
        code = getattr(own, "sqlstate", None) or ""
        known = _POSTGRESQL.get(code) or _POSTGRESQL.get(code[:2])
        if known is None and (error.connection_invalidated or (not code and _is_operational(own))):
            return unreachable(error)
    if known is None:
        return error
    return _unavailable(error, own, *known)


def unreachable(error: Exception) -> Unavailable:
    """What to say when there is no connection to a server."""
    own = getattr(error, "orig", None) or error
    hint = "Check that it runs, and the database's URL."
    return _unavailable(error, own, "There is no connection to the database server.", hint)


def _unavailable(error: Exception, own: BaseException | None, sentence: str, hint: str) -> Unavailable:
    translated = Unavailable(f"{sentence} ({_first_line(own)})", hint=hint, code="database-unavailable")
    translated.__cause__ = error
    return translated


def _is_operational(own: BaseException | None) -> bool:
    return type(own).__name__ in ("OperationalError", "InterfaceError", "ConnectionTimeout")


def _first_line(own: BaseException | None) -> str:
    return (str(own).strip().splitlines() or [""])[0][:200]
