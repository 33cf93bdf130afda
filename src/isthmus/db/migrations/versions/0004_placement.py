"""What admins say of placement, and the figures of sites that it goes by."""

import sqlalchemy as sa
from alembic import op

revision = "0004_placement"
down_revision = "0003_panel_speed"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("changed_by", sa.String(100), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_documents"),
    )
    op.create_table(
        "figures",
        sa.Column("site_id", ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_figures_site_id_sites"),
        sa.PrimaryKeyConstraint("site_id", "name", name="pk_figures"),
    )


def downgrade() -> None:
    op.drop_table("figures")
    op.drop_table("documents")
