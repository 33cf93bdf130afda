"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001_first"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("noun", sa.String(20), nullable=False),
        sa.Column("noun_id", sa.String(220), nullable=False),
        sa.Column("verb", sa.String(40), nullable=False),
        sa.Column("before", sa.Text(), server_default="", nullable=False),
        sa.Column("after", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.String(60), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("job_id", ID, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_job_id_id", "events", ["job_id", "id"], unique=False)
    op.create_index("ix_events_noun_id", "events", ["noun", "noun_id", "id"], unique=False)
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(50), nullable=False),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "sites",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("health", sa.String(20), nullable=False),
        sa.Column("health_message", sa.Text(), server_default="", nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("inventory", sa.Text(), nullable=False),
        sa.Column("probed_at", sa.Float(), nullable=True),
        sa.Column("seen_at", sa.Float(), nullable=True),
        sa.Column("retry_at", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("attention", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sites"),
        sa.UniqueConstraint("name", name="uq_sites_name"),
    )
    op.create_table(
        "users",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
    )
    op.create_table(
        "artefacts",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.String(100), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("is_folder", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("format", sa.String(20), nullable=True),
        sa.Column("reference", sa.Text(), server_default="", nullable=False),
        sa.Column("zones", sa.Text(), server_default="[]", nullable=False),
        sa.Column("labels", sa.Text(), server_default="{}", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("removed_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_artefacts_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_artefacts"),
        sa.UniqueConstraint("kind", "name", "version", name="uq_artefacts_kind_name_version"),
    )
    op.create_index("ix_artefacts_digest", "artefacts", ["digest"], unique=False)
    op.create_table(
        "credentials",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("site_id", ID, nullable=False),
        sa.Column("login", sa.String(100), server_default="", nullable=False),
        sa.Column("public_key", sa.Text(), server_default="", nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.Column("shared", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_credentials_site_id_sites"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_credentials_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
        sa.UniqueConstraint("user_id", "site_id", name="uq_credentials_user_id_site_id"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("name", sa.String(220), server_default="", nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(30), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deadline", sa.Float(), nullable=True),
        sa.Column("array_id", ID, nullable=True),
        sa.Column("array_index", sa.Integer(), nullable=True),
        sa.Column("submitted_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("wake_at", sa.Float(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("mem_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("site_id", ID, nullable=True),
        sa.Column("node", sa.String(200), server_default="", nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("waiting_for", sa.Integer(), server_default="0", nullable=False),
        sa.Column("zones", sa.Text(), nullable=True),
        sa.Column("kill_by", sa.String(100), nullable=True),
        sa.Column("request_key", sa.String(100), nullable=True),
        sa.Column("attention", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_jobs_site_id_sites"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_jobs_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("user_id", "request_key", name="uq_jobs_user_id_request_key"),
    )
    op.create_index("ix_jobs_array_id", "jobs", ["array_id"], unique=False)
    op.create_index(
        "ix_jobs_attention",
        "jobs",
        ["attention"],
        unique=False,
        sqlite_where=sa.text("attention = 1"),
        postgresql_where=sa.text("attention"),
    )
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"], unique=False)
    op.create_index("ix_jobs_user_id_id", "jobs", ["user_id", "id"], unique=False)
    op.create_table(
        "replicas",
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("site_id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("path", sa.Text(), server_default="", nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_replicas_site_id_sites"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_replicas_user_id_users"),
        sa.PrimaryKeyConstraint("digest", "site_id", "user_id", name="pk_replicas"),
    )
    op.create_table(
        "secrets",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_secrets_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
        sa.UniqueConstraint("user_id", "name", name="uq_secrets_user_id_name"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.String(60), nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("site_id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("live", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(30), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("plan", sa.Text(), server_default="{}", nullable=False),
        sa.Column("native_id", sa.String(100), server_default="", nullable=False),
        sa.Column("native_state", sa.Text(), server_default="", nullable=False),
        sa.Column("nodes", sa.Text(), server_default="", nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("submitted_at", sa.Float(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("cleaned_at", sa.Float(), nullable=True),
        sa.Column("reports", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("log", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("heard_at", sa.Float(), nullable=True),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("usage", sa.Text(), server_default="{}", nullable=False),
        sa.Column("progress", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id_jobs"),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_attempts_site_id_sites"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_attempts_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("key", name="uq_attempts_key"),
    )
    op.create_index("ix_attempts_job_id", "attempts", ["job_id"], unique=False)
    op.create_index(
        "ix_attempts_live",
        "attempts",
        ["live"],
        unique=False,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )
    op.create_index(
        "uq_attempts_live_job",
        "attempts",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )
    op.create_table(
        "dependencies",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("on_job_id", ID, nullable=False),
        sa.Column("condition", sa.String(20), nullable=False),
        sa.Column("met", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_dependencies_job_id_jobs"),
        sa.ForeignKeyConstraint(["on_job_id"], ["jobs.id"], name="fk_dependencies_on_job_id_jobs"),
        sa.PrimaryKeyConstraint("job_id", "on_job_id", name="pk_dependencies"),
    )
    op.create_index("ix_dependencies_on_job_id", "dependencies", ["on_job_id"], unique=False)
    op.create_table(
        "log_chunks",
        sa.Column("attempt_id", ID, nullable=False),
        sa.Column("begin", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_log_chunks_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "begin", name="pk_log_chunks"),
    )
    op.create_table(
        "metrics",
        sa.Column("id", ID, nullable=False),
        sa.Column("attempt_id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("step", sa.Float(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_metrics_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("id", name="pk_metrics"),
    )
    op.create_index("ix_metrics_attempt_id_name_id", "metrics", ["attempt_id", "name", "id"], unique=False)
    op.create_table(
        "outputs",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("attempt_id", ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("collected", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_outputs_attempt_id_attempts"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_outputs_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_outputs"),
    )
    op.create_index("ix_outputs_job_id", "outputs", ["job_id"], unique=False)
    op.create_table(
        "uses",
        sa.Column("attempt_id", ID, nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_uses_attempt_id_attempts"),
        sa.PrimaryKeyConstraint("attempt_id", "digest", name="pk_uses"),
    )
    op.create_index("ix_uses_digest", "uses", ["digest"], unique=False)


def downgrade() -> None:

    op.drop_index("ix_uses_digest", table_name="uses")
    op.drop_table("uses")
    op.drop_index("ix_outputs_job_id", table_name="outputs")
    op.drop_table("outputs")
    op.drop_index("ix_metrics_attempt_id_name_id", table_name="metrics")
    op.drop_table("metrics")
    op.drop_table("log_chunks")
    op.drop_index("ix_dependencies_on_job_id", table_name="dependencies")
    op.drop_table("dependencies")
    op.drop_index(
        "uq_attempts_live_job",
        table_name="attempts",
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )
    op.drop_index(
        "ix_attempts_live", table_name="attempts", sqlite_where=sa.text("live = 1"), postgresql_where=sa.text("live")
    )
    op.drop_index("ix_attempts_job_id", table_name="attempts")
    op.drop_table("attempts")
    op.drop_index("ix_tokens_user_id", table_name="tokens")
    op.drop_table("tokens")
    op.drop_table("secrets")
    op.drop_table("replicas")
    op.drop_index("ix_jobs_user_id_id", table_name="jobs")
    op.drop_index("ix_jobs_state_id", table_name="jobs")
    op.drop_index(
        "ix_jobs_attention",
        table_name="jobs",
        sqlite_where=sa.text("attention = 1"),
        postgresql_where=sa.text("attention"),
    )
    op.drop_index("ix_jobs_array_id", table_name="jobs")
    op.drop_table("jobs")
    op.drop_table("credentials")
    op.drop_index("ix_artefacts_digest", table_name="artefacts")
    op.drop_table("artefacts")
    op.drop_table("users")
    op.drop_table("sites")
    op.drop_table("leases")
    op.drop_table("instance")
    op.drop_index("ix_events_noun_id", table_name="events")
    op.drop_index("ix_events_job_id_id", table_name="events")
    op.drop_table("events")
