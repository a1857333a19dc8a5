"""Where providers reach users: kept beside a message while it waits."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Bring the schema forward; nothing that is there changes."""
    op.add_column("experiment", sa.Column("address", sa.Text(), nullable=True))
    # What providers have taken, in the order of time, is told to analytics.
    op.create_index("attempt_by_end", "attempt", ["ended_at"])
    # Who wrote to us is known by a keyed hash of where we wrote to.
    op.create_table(
        "recipient",
        sa.Column("address_hash", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("address_hash", "user_id"),
    )
