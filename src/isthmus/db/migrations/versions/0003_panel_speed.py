"""Indexes of the panel's queries, and the extremes of a series up to each of its blocks."""

import sqlalchemy as sa
from alembic import op

revision = "0003_panel_speed"
down_revision = "0002_panel"


def upgrade() -> None:
    op.drop_index("ix_jobs_ended_at", table_name="jobs")
    op.create_index("ix_jobs_ended_at_state_user_id", "jobs", ["ended_at", "state", "user_id"], unique=False)
    op.create_index("ix_jobs_site_id_id", "jobs", ["site_id", "id"], unique=False)
    op.add_column("metric_blocks", sa.Column("lowest", sa.Float(), nullable=True))
    op.add_column("metric_blocks", sa.Column("highest", sa.Float(), nullable=True))
    op.execute(
        """
        UPDATE metric_blocks SET lowest = so_far.lowest, highest = so_far.highest
        FROM (SELECT attempt_id, name, first_id,
                     min(low_value) OVER upto AS lowest, max(high_value) OVER upto AS highest
              FROM metric_blocks WINDOW upto AS (PARTITION BY attempt_id, name ORDER BY first_id)) AS so_far
        WHERE metric_blocks.attempt_id = so_far.attempt_id AND metric_blocks.name = so_far.name
          AND metric_blocks.first_id = so_far.first_id
        """
    )


def downgrade() -> None:
    op.drop_column("metric_blocks", "highest")
    op.drop_column("metric_blocks", "lowest")
    op.drop_index("ix_jobs_site_id_id", table_name="jobs")
    op.drop_index("ix_jobs_ended_at_state_user_id", table_name="jobs")
    op.create_index("ix_jobs_ended_at", "jobs", ["ended_at"], unique=False)
