"""Print the step that leads from the migrations to the schema: `python -m isthmus.db.migrations`.

A beginning for ``versions/000N_word.py``, to be read and mended: Alembic sees neither renames nor what is in rows.
"""

import sqlalchemy
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext

from isthmus.db import migrations
from isthmus.db.schema import metadata


def main() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        migrations.upgrade(connection)
        step = produce_migrations(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
    for name, operations in (("upgrade", step.upgrade_ops), ("downgrade", step.downgrade_ops)):
        assert operations is not None
        print(f"def {name}() -> None:\n    {render_python_code(operations)}\n")


if __name__ == "__main__":
    main()
