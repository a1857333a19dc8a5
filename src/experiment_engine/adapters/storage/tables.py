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
    # what it counts under, and what its conversion was worth; added by later versions
    Column("levels", Text, nullable=False, server_default=""),  # the bucketed context, as a key
    Column("converted_by", Text),  # the source that told of the conversion
    Column("value", BigInteger),  # of the conversion, in thousandths
    Column("replaced_by", Text),  # the combo that goes out instead of the one that was drawn
    Column("replaced_for", Text),  # why
    Column("drawn_text", Text),  # JSON: the text that the other one took the place of
    Column("facts", Text, nullable=False, server_default=""),  # JSON: what the text rests on
    Column("stand_ins", Text, nullable=False, server_default=""),  # JSON: what may go out instead
    Column("address", Text),  # where the provider reaches the user; only while the message waits
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
    Index("attempt_by_end", "ended_at"),
)

goal_reached = Table(
    "goal_reached",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("goal", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("value", BigInteger),  # in thousandths
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
    Column("text_version", Text),  # of what the user agreed to, where that was told
    Column("purpose", Text),  # and what for
    PrimaryKeyConstraint("user_id", "channel", "allowed", "at"),
)

# Who wrote to us is known by a keyed hash of where we wrote to; the address itself is not kept.
recipient = Table(
    "recipient",
    metadata,
    Column("address_hash", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    PrimaryKeyConstraint("address_hash", "user_id"),
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
    Column("model", LargeBinary),  # what the policy was fitted to; kept for the newest ones only
    Column("details", Text, nullable=False, server_default="{}"),  # JSON: levels, alarms, limits
    Index("snapshot_latest", "mode", "cohort", "taken_at"),
)

combo_space = Table(
    "combo_space",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("keys", Text, nullable=False),  # JSON: the combo keys in order
)

# Many distributions share one eligible set; each set is written once.
eligible_set = Table(
    "eligible_set",
    metadata,
    Column("id", Text, primary_key=True),  # digest of its content
    Column("postponed", Boolean, nullable=False),
    Column("eligible", Text, nullable=False),  # JSON: places in the combo space
    Column("refused", Text, nullable=False),  # JSON: reason -> [places]
)

distribution = Table(
    "distribution",
    metadata,
    Column("id", Text, primary_key=True),
    Column("snapshot_id", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("context", Text, nullable=False),  # the key of its levels
    Column("eligible_id", Text, nullable=False),
    # JSON: [[probability, [places]], ...]; null for the places: every other eligible one
    Column("shares", Text, nullable=False),
)

combo_count = Table(
    "combo_count",
    metadata,
    Column("mode", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("hour", Integer, nullable=False),  # of the trigger; ALL_HOURS for the sum
    Column("context", Text, nullable=False),  # the key of its levels; '' in the sum of all hours
    Column("combo_key", Text, nullable=False),
    Column("counted_for", Text, nullable=False),  # as in `domain.bandit.reward.Group`
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("trials", "successes", "sent", "opened", "converted", "value")
    ),
    PrimaryKeyConstraint("mode", "cohort", "hour", "context", "combo_key", "counted_for"),
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
    Column("day", Integer, nullable=False),  # since 1970; `changes.ALL_DAYS` for all of them
    Column("used", BigInteger, nullable=False),
    PrimaryKeyConstraint("mode", "offer", "day"),
)

# What events were answered, for each cohort that they concerned.
answer_count = Table(
    "answer_count",
    metadata,
    Column("mode", Text, nullable=False),
    Column("cohort", Text, nullable=False),  # '' where it was about none
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),  # '' for none
    Column("answers", BigInteger, nullable=False),
    PrimaryKeyConstraint("mode", "cohort", "status", "reason"),
)

# Successes by who told of them and by their age, for the delay curve and for broken sources.
conversion_count = Table(
    "conversion_count",
    metadata,
    Column("mode", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("hour", Integer, nullable=False),  # of the trigger
    Column("combo_key", Text, nullable=False),
    Column("counted_for", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("age_bucket", Integer, nullable=False),
    Column("conversions", BigInteger, nullable=False),
    PrimaryKeyConstraint(
        "mode", "cohort", "hour", "combo_key", "counted_for", "source", "age_bucket"
    ),
)

# Policies that stay at an earlier snapshot, because their feedback looks forged or broken.
freeze = Table(
    "freeze",
    metadata,
    Column("mode", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("snapshot_id", Text, nullable=False),
    Column("reason", Text, nullable=False),  # for a person
    PrimaryKeyConstraint("mode", "cohort"),
)

# Each user once in a cohort: what came of the first trigger when its window had closed.
user_outcome = Table(
    "user_outcome",
    metadata,
    Column("mode", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("entered_at", BigInteger, nullable=False),
    Column("held_out", Boolean, nullable=False),
    Column("converted", Boolean, nullable=False),
    Column("value", BigInteger, nullable=False),
    PrimaryKeyConstraint("mode", "cohort", "user_id"),
)

# Named sums that measurement adds up from experiments whose window has closed.
measurement_sum = Table(
    "measurement_sum",
    metadata,
    Column("mode", Text, nullable=False),
    Column("cohort", Text, nullable=False),
    Column("day", Integer, nullable=False),  # of the trigger; ALL_DAYS for the sum
    Column("name", Text, nullable=False),
    Column("value", Float, nullable=False),
    PrimaryKeyConstraint("mode", "cohort", "day", "name"),
)

ALL_DAYS = -1  # the day of the sum over all

# How far work that goes through a table in steps has come.
progress = Table(
    "progress",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Text, nullable=False),
)

# Work that one process does at a time.
lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)

process = Table(
    "process",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # serve or worker
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("configuration", Text, nullable=False),  # its fingerprint
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

# What all processes share about a channel at its provider.
lane = Table(
    "lane",
    metadata,
    Column("channel", Text, primary_key=True),  # '*' for the send rate over all
    Column("free_at", BigInteger, nullable=False),  # microseconds: when the rate allows the next
)

# In how many minutes of each hour a source was heard: its rhythm.
source_hour = Table(
    "source_hour",
    metadata,
    Column("source", Text, nullable=False),
    Column("told", Text, nullable=False),  # events, or goals among them
    Column("hour", Integer, nullable=False),  # since 1970
    Column("minutes", Integer, nullable=False),
    PrimaryKeyConstraint("source", "told", "hour"),
)

# Spans in which a source, or the engine itself, was silent against its rhythm.
silence = Table(
    "silence",
    metadata,
    Column("source", Text, nullable=False),  # or 'engine'
    Column("told", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger),  # null: it still is
    Column("expected", Float, nullable=False),  # minutes with an event, by the rhythm
    Column("late", BigInteger, nullable=False),  # such minutes of which events have come since
    Column("filled_at", BigInteger),  # from when on it holds no trials any more
    PrimaryKeyConstraint("source", "told", "since"),
)

# A batch whose commit was not answered is looked for here.
batch = Table(
    "batch",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Index("batch_by_age", "at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),  # sorts by time
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("before", Text, nullable=False),  # JSON
    Column("after", Text, nullable=False),  # JSON
)
