"""The schema, once for every database.

Times are milliseconds since 1970 (UTC). What came from outside is kept as bytes: JSON has values
that no text column takes. Every hot table is keyed together with its user, so that the schema
can be sharded by user.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from experiment_engine.domain.delivery.experiment import State

metadata = MetaData()

_STATES = ", ".join(f"'{state}'" for state in State)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("user_id", Text, nullable=False),  # '' for events that name no user
    Column("dedup_key", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("happened_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("experiment_id", Text),
    PrimaryKeyConstraint("user_id", "dedup_key"),
    Index("event_by_age", "received_at"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of the bytes: a repeated delivery is kept once
    Column("raw", LargeBinary, nullable=False),
    UniqueConstraint("source", "digest"),
)

experiment = Table(
    "experiment",
    metadata,
    Column("id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    # decided once, never changed
    Column("cohort", Text, nullable=False),
    Column("combo_key", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("held_out", Boolean, nullable=False),
    Column("manual", Boolean, nullable=False),
    Column("event_key", Text, nullable=False),
    Column("triggered_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("window_ends_at", BigInteger, nullable=False),
    Column("zone", Text, nullable=False),
    Column("propensity", Float, nullable=False),
    Column("distribution_id", Text, nullable=False),
    Column("snapshot_id", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("language", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("context", Text, nullable=False),  # JSON
    # the delivery and what came of it
    Column("postponed", Boolean, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("placed_at", BigInteger),
    Column("opened_at", BigInteger),
    Column("converted_at", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("call_id", Text),
    Column("lease_until", BigInteger),
    Column("slot", Text, nullable=False),  # WAITING_SLOT while it waits, then its own id
    PrimaryKeyConstraint("id", "user_id"),
    # One index does two things, because a page of it is dirtied for every trigger: it finds a
    # user's experiments, and refuses a second one that waits in the same cohort.
    UniqueConstraint("user_id", "cohort", "slot", name="experiment_one_waiting"),
    CheckConstraint(f"state IN ({_STATES})", name="state_is_known"),
    CheckConstraint("propensity > 0 AND propensity <= 1", name="propensity_is_a_chance"),
    Index(
        "experiment_due",
        "channel",
        "held_out",
        "due_at",
        sqlite_where=text("state = 'scheduled'"),
        postgresql_where=text("state = 'scheduled'"),
    ),
    Index(
        "experiment_claimed",
        "lease_until",
        sqlite_where=text("state = 'claimed'"),
        postgresql_where=text("state = 'claimed'"),
    ),
)

WAITING_SLOT = "waiting"

attempt = Table(
    "attempt",
    metadata,
    Column("experiment_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("call_id", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("verdict", Text),
    Column("reason", Text),
    Column("status", Integer),
    Column("answer", Text),
    PrimaryKeyConstraint("experiment_id", "number", "user_id"),
)

goal_reached = Table(
    "goal_reached",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("goal", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "goal", "at"),
    Index("goal_reached_by_age", "at"),
)

choice = Table(
    "choice",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("channel", Text, nullable=False),  # '*' for all
    Column("allowed", Boolean, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    PrimaryKeyConstraint("user_id", "channel", "allowed", "at"),
)

counted = Table(
    "counted",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("dedup_key", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "cohort", "dedup_key"),
    Index("counted_by_age", "at"),
)

erased = Table(
    "erased",
    metadata,
    Column("user_hash", Text, primary_key=True),  # keyed: the id itself is not kept
    Column("at", BigInteger, nullable=False),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("id", Text, primary_key=True),
    Column("cohort", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    Column("combos", Text, nullable=False),  # digest of the combo keys its arrays follow
    Column("statistics", Text, nullable=False),  # JSON: place -> [trials, successes]
    Index("snapshot_latest", "mode", "cohort", "taken_at"),
)

combo_space = Table(
    "combo_space",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("keys", Text, nullable=False),  # JSON: the combo keys in order
)

distribution = Table(
    "distribution",
    metadata,
    Column("id", Text, primary_key=True),
    Column("snapshot_id", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("postponed", Boolean, nullable=False),
    Column("shares", Text, nullable=False),  # JSON: [[probability, [places]], ...]
    Column("refused", Text, nullable=False),  # JSON: reason -> [places]
)

combo_count = Table(
    "combo_count",
    metadata,
    Column("mode", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("hour", Integer, nullable=False),  # of the trigger; ALL_HOURS for the sum
    Column("combo_key", Text, nullable=False),
    Column("counted_for", Text, nullable=False),  # combo, postponed or holdout
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("trials", "successes", "sent", "opened", "converted")
    ),
    PrimaryKeyConstraint("mode", "cohort", "hour", "combo_key", "counted_for"),
)

ALL_HOURS = -1

experiment_count = Table(
    "experiment_count",
    metadata,
    Column("mode", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("held_out", Boolean, nullable=False),
    Column("experiments", BigInteger, nullable=False),
    PrimaryKeyConstraint("mode", "cohort", "held_out"),
)

pause = Table(
    "pause",
    metadata,
    Column("scope", Text, primary_key=True),  # a cohort, or '*'
    Column("since", BigInteger, nullable=False),
)

channel_health = Table(
    "channel_health",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("failures_in_a_row", Integer, nullable=False),
    Column("next_probe_at", BigInteger),  # with one, the channel is not eligible but for it
)

offer_use = Table(
    "offer_use",
    metadata,
    Column("mode", Text, nullable=False),
    Column("offer", Text, nullable=False),
    Column("day", Integer, nullable=False),
    Column("used", BigInteger, nullable=False),
    PrimaryKeyConstraint("mode", "offer", "day"),
)
