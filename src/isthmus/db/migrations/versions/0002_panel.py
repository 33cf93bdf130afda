"""What the panel needs: how people sign in, their sessions and saved views, and the indexes of its queries."""

import sqlalchemy as sa
from alembic import op

revision = "0002_panel"
down_revision = "0001_first"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "passwords",
        sa.Column("user_id", ID, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_passwords_user_id_users"),
        sa.PrimaryKeyConstraint("user_id", name="pk_passwords"),
    )
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(300), nullable=False),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_identities_user_id_users"),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_identities"),
    )
    op.create_index("ix_identities_user_id", "identities", ["user_id"], unique=False)
    op.create_table(
        "sign_in_codes",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("token_id", ID, nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_sign_in_codes_token_id_tokens"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sign_in_codes_user_id_users"),
        sa.PrimaryKeyConstraint("hash", name="pk_sign_in_codes"),
    )
    op.create_table(
        "browser_sessions",
        sa.Column("id", ID, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("token_id", ID, nullable=True),
        sa.Column("way", sa.String(20), nullable=False),
        sa.Column("agent", sa.String(300), server_default="", nullable=False),
        sa.Column("address", sa.String(100), server_default="", nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_browser_sessions_token_id_tokens"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_browser_sessions_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_browser_sessions"),
        sa.UniqueConstraint("hash", name="uq_browser_sessions_hash"),
    )
    op.create_index("ix_browser_sessions_user_id", "browser_sessions", ["user_id"], unique=False)
    op.create_table(
        "saved_views",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_saved_views_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_saved_views"),
        sa.UniqueConstraint("user_id", "name", name="uq_saved_views_user_id_name"),
    )
    op.create_table(
        "metric_blocks",
        sa.Column("attempt_id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("first_id", ID, autoincrement=False, nullable=False),
        sa.Column("last_id", ID, nullable=False),
        sa.Column("low_id", ID, nullable=False),
        sa.Column("low_at", sa.Float(), nullable=False),
        sa.Column("low_step", sa.Float(), nullable=True),
        sa.Column("low_value", sa.Float(), nullable=True),
        sa.Column("high_id", ID, nullable=False),
        sa.Column("high_at", sa.Float(), nullable=False),
        sa.Column("high_step", sa.Float(), nullable=True),
        sa.Column("high_value", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_metric_blocks_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "name", "first_id", name="pk_metric_blocks"),
    )
    op.create_index("ix_jobs_state_priority_id", "jobs", ["state", "priority", "id"], unique=False)
    op.create_index("ix_jobs_ended_at", "jobs", ["ended_at"], unique=False)
    op.create_index("ix_attempts_ended_at", "attempts", ["ended_at"], unique=False)
    op.create_index("ix_attempts_site_id_id", "attempts", ["site_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_attempts_site_id_id", table_name="attempts")
    op.drop_index("ix_attempts_ended_at", table_name="attempts")
    op.drop_index("ix_jobs_ended_at", table_name="jobs")
    op.drop_index("ix_jobs_state_priority_id", table_name="jobs")
    op.drop_table("metric_blocks")
    op.drop_table("saved_views")
    op.drop_table("browser_sessions")
    op.drop_table("sign_in_codes")
    op.drop_table("identities")
    op.drop_table("passwords")
