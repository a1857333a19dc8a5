"""Counters by context, sums for measurement, and what several processes share."""

from hashlib import blake2b

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Bring the schema forward; every count and every distribution is carried over."""
    _widen_experiments_and_snapshots()
    _key_counts_by_context()
    _share_eligible_sets()
    _add_learning()
    _add_processes()
    _add_audit()


def _widen_experiments_and_snapshots() -> None:
    op.add_column("experiment", sa.Column("levels", sa.Text(), nullable=False, server_default=""))
    op.add_column("experiment", sa.Column("converted_by", sa.Text(), nullable=True))
    op.add_column("experiment", sa.Column("value", sa.BigInteger(), nullable=True))
    op.add_column("goal_reached", sa.Column("value", sa.BigInteger(), nullable=True))
    op.add_column("snapshot", sa.Column("model", sa.LargeBinary(), nullable=True))
    op.add_column("snapshot", sa.Column("details", sa.Text(), nullable=False, server_default="{}"))


def _key_counts_by_context() -> None:
    op.create_table(
        "combo_count_new",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("combo_key", sa.Text(), nullable=False),
        sa.Column("counted_for", sa.Text(), nullable=False),
        sa.Column("trials", sa.BigInteger(), nullable=False),
        sa.Column("successes", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("converted", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mode", "cohort", "hour", "context", "combo_key", "counted_for"),
    )
    op.execute(
        "INSERT INTO combo_count_new SELECT mode, cohort, hour, '', combo_key, counted_for, trials,"
        " successes, sent, opened, converted, 0 FROM combo_count"
    )
    op.drop_table("combo_count")
    _rename("combo_count_new", "combo_count")


def _share_eligible_sets() -> None:
    op.create_table(
        "eligible_set",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("postponed", sa.Boolean(), nullable=False),
        sa.Column("eligible", sa.Text(), nullable=False),
        sa.Column("refused", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "distribution_new",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("eligible_id", sa.Text(), nullable=False),
        sa.Column("shares", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    _carry_distributions()
    op.drop_table("distribution")
    _rename("distribution_new", "distribution")


def _carry_distributions() -> None:
    connection = op.get_bind()
    found = connection.execute(
        sa.text("SELECT id, snapshot_id, cohort, postponed, shares, refused FROM distribution")
    )
    known: set[str] = set()
    for id_, snapshot_id, cohort, postponed, shares, refused in found.fetchall():
        places = sorted(p for _, group in msgspec.json.decode(shares) for p in group)
        eligible = msgspec.json.encode(places).decode()
        described = f"{bool(postponed)}|{eligible}|{refused}"
        eligible_id = blake2b(described.encode(), digest_size=16).hexdigest()
        if eligible_id not in known:
            known.add(eligible_id)
            connection.execute(
                sa.text("INSERT INTO eligible_set VALUES (:id, :postponed, :eligible, :refused)"),
                {
                    "id": eligible_id,
                    "postponed": bool(postponed),
                    "eligible": eligible,
                    "refused": refused,
                },
            )
        connection.execute(
            sa.text("INSERT INTO distribution_new VALUES (:id, :snapshot, :cohort, '', :e, :s)"),
            {
                "id": id_,
                "snapshot": snapshot_id,
                "cohort": cohort,
                "e": eligible_id,
                "s": shares,
            },
        )


def _add_learning() -> None:
    op.create_table(
        "conversion_count",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("combo_key", sa.Text(), nullable=False),
        sa.Column("counted_for", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("age_bucket", sa.Integer(), nullable=False),
        sa.Column("conversions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "mode", "cohort", "hour", "combo_key", "counted_for", "source", "age_bucket"
        ),
    )
    op.create_table(
        "freeze",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("mode", "cohort"),
    )
    op.create_table(
        "user_outcome",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("entered_at", sa.BigInteger(), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
        sa.Column("converted", sa.Boolean(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mode", "cohort", "user_id"),
    )
    op.create_table(
        "measurement_sum",
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("mode", "cohort", "day", "name"),
    )
    op.create_table(
        "progress",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _add_processes() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "process",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("configuration", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "lane",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("free_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel"),
    )
    op.create_table(
        "batch",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("batch_by_age", "batch", ["at"])


def _add_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _rename(made: str, name: str) -> None:
    op.rename_table(made, name)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX {made}_pkey RENAME TO {name}_pkey")
