"""Migrations: the steps from any older set of tables to the present one.

To add a step after changing :mod:`isthmus.db.schema`: write ``versions/000N_word.py`` from what
`python -m isthmus.db.migrations` prints, and name it in HEAD. A test holds that all steps together give exactly the
tables of the schema.
"""

from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection

from isthmus.domain.errors import Unavailable

HEAD = "0004_placement"
FOLDER = Path(__file__).parent


def current(connection: Connection) -> str | None:
    """The revision of the tables that are there; None: there are none."""
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return row[0] if row else None


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Bring the tables to ``revision`` within the connection's transaction. Quick when they are there already.

    Raises Unavailable when a newer Isthmus made them.
    """
    if current(connection) == revision:
        return
    from alembic import command
    from alembic.util.exc import CommandError

    try:
        command.upgrade(_config(connection), revision)
    except CommandError as error:
        raise Unavailable(
            f"The database was made by a newer Isthmus: {error}",
            hint="Install that version, or use another database.",
            code="database-newer",
        ) from error


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Undo steps down to ``revision``. What the removed tables held is lost."""
    from alembic import command

    command.downgrade(_config(connection), revision)


def _config(connection: Connection):  # type: ignore[no-untyped-def] # alembic is not imported unless it is used
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    return config
