"""What goes out instead of what was drawn, facts, budgets in all, and answers counted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Bring the schema forward; what an offer has used so far counts in all."""
    for name in ("replaced_by", "replaced_for", "drawn_text"):
        op.add_column("experiment", sa.Column(name, sa.Text(), nullable=True))
    for name in ("facts", "stand_ins"):
        op.add_column("experiment", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    for name in ("text_version", "purpose"):
        op.add_column("choice", sa.Column(name, sa.Text(), nullable=True))
    op.create_table(
        "answer_count",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mode", "cohort", "status", "reason"),
    )
    op.execute(
        "INSERT INTO offer_use (mode, offer, day, used)"
        " SELECT mode, offer, -1, sum(used) FROM offer_use GROUP BY mode, offer"
    )
