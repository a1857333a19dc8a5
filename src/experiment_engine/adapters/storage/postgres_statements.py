"""The hot statements of PostgreSQL; what each is for stands in `statements.py`.

Rows come in as one array for each column, so that a statement has one text for every batch size
and one trip to the server. Unlike COPY this lives with rows that are there already.
"""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Boolean, Float, Integer, LargeBinary, Table, Text

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.statements import (
    DECIDED_COLUMNS,
    EXPERIMENT_COLUMNS,
)

_TYPES: dict[type, str] = {
    BigInteger: "bigint",
    Boolean: "boolean",
    Float: "double precision",
    Integer: "integer",
    LargeBinary: "bytea",
    Text: "text",
}


def _arrays(table: Table, columns: Sequence[str]) -> str:
    types = (_TYPES[type(table.c[column].type)] for column in columns)
    return f"unnest({', '.join(f'%s::{name}[]' for name in types)})"


def _insert(table: Table, columns: str, conflict: str = "") -> str:
    """Return the statement that adds rows, given as arrays in the order of the columns."""
    arrays = _arrays(table, columns.split(", "))
    return f"INSERT INTO {table.name} ({columns}) SELECT * FROM {arrays} {conflict}"


def _add_up(table: Table, keys: str, sums: str) -> str:
    """Return the statement that adds to the sums of rows, which come in the order of the keys."""
    changes = ", ".join(
        f"{name} = {table.name}.{name} + excluded.{name}" for name in sums.split(", ")
    )
    return _insert(table, f"{keys}, {sums}", f"ON CONFLICT ({keys}) DO UPDATE SET {changes}")


def _change(table: Table, columns: str, keys: str, following: str = "") -> str:
    """Return the statement that sets columns of rows; the arrays of their keys come last.

    What is `following` is set beside them, from the new values (`changed`) and the old.
    """
    names = [*columns.split(", "), *keys.split(", ")]
    changes = ", ".join(f"{name} = changed.{name}" for name in columns.split(", "))
    changes += following
    same = " AND ".join(f"{table.name}.{name} = changed.{name}" for name in keys.split(", "))
    arrays = f"{_arrays(table, names)} AS changed ({', '.join(names)})"
    return f"UPDATE {table.name} SET {changes} FROM {arrays} WHERE {same}"


SEEN = """
SELECT user_id, dedup_key, experiment_id
  FROM unnest(%s::text[], %s::text[]) AS wanted (user_id, dedup_key)
  JOIN event USING (user_id, dedup_key)
"""

OWNERS = "SELECT id, user_id FROM experiment WHERE id = ANY(%s::text[])"

RECIPIENTS = """
SELECT address_hash, user_id FROM recipient
 WHERE address_hash = ANY(%s::text[]) ORDER BY user_id
"""

USERS_EXPERIMENTS = f"""
SELECT {EXPERIMENT_COLUMNS} FROM experiment
 WHERE user_id = ANY(%s::text[]) AND (decided_at >= %s OR state IN ('scheduled', 'claimed'))
 ORDER BY decided_at, id
"""

NAMED_EXPERIMENTS = f"SELECT {EXPERIMENT_COLUMNS} FROM experiment WHERE id = ANY(%s::text[])"

USERS_GOALS = """
SELECT user_id, goal, max(at) FROM goal_reached
 WHERE user_id = ANY(%s::text[]) GROUP BY user_id, goal
"""

USERS_CHOICES = """
SELECT user_id, channel, allowed, max(at) FROM choice
 WHERE user_id = ANY(%s::text[]) GROUP BY user_id, channel, allowed
"""

USERS_COUNTED = """
SELECT user_id, cohort, dedup_key, at FROM counted WHERE user_id = ANY(%s::text[])
"""

ANY_ERASED = "SELECT 1 FROM erased LIMIT 1"

ERASED = "SELECT user_hash, at FROM erased WHERE user_hash = ANY(%s::text[])"

PAUSED = "SELECT scope FROM pause"

FAILING = "SELECT channel, next_probe_at > %s FROM channel_health WHERE next_probe_at IS NOT NULL"

ADD_EVENT = _insert(
    tables.event,
    "user_id, dedup_key, source, name, happened_at, received_at, raw, status, reason,"
    " experiment_id",
)

ADD_QUARANTINED = _insert(
    tables.quarantine,
    "source, received_at, reason, digest, raw",
    "ON CONFLICT (source, digest) DO NOTHING",
)

CHANGE_EXPERIMENT = _change(
    tables.experiment,
    "postponed, due_at, expires_at, state, reason, placed_at, opened_at, converted_at, attempts,"
    " call_id, lease_until, converted_by, value, replaced_by, replaced_for, slot",
    "id, user_id",
    ", address = CASE WHEN changed.slot = 'waiting' THEN experiment.address END",
)

ADD_EXPERIMENT = _insert(tables.experiment, f"{EXPERIMENT_COLUMNS}, {DECIDED_COLUMNS}")

ADD_ELIGIBLE_SET = _insert(
    tables.eligible_set, "id, postponed, eligible, refused", "ON CONFLICT (id) DO NOTHING"
)

ADD_DISTRIBUTION = _insert(
    tables.distribution,
    "id, snapshot_id, cohort, context, eligible_id, shares",
    "ON CONFLICT (id) DO NOTHING",
)

ADD_GOAL = _insert(
    tables.goal_reached, "user_id, goal, at, value", "ON CONFLICT (user_id, goal, at) DO NOTHING"
)

ADD_CHOICE = _insert(
    tables.choice,
    "user_id, channel, allowed, at, source, text_version, purpose",
    "ON CONFLICT (user_id, channel, allowed, at) DO NOTHING",
)

ADD_RECIPIENT = _insert(
    tables.recipient,
    "address_hash, user_id",
    "ON CONFLICT (address_hash, user_id) DO NOTHING",
)

ADD_COUNTED = _insert(
    tables.counted,
    "user_id, cohort, dedup_key, at",
    "ON CONFLICT (user_id, cohort, dedup_key) DO NOTHING",
)

USE_UP_COUNTED = """
DELETE FROM counted USING unnest(%s::text[], %s::text[], %s::text[])
                       AS used (user_id, cohort, dedup_key)
 WHERE counted.user_id = used.user_id AND counted.cohort = used.cohort
   AND counted.dedup_key = used.dedup_key
"""

PARDON = "DELETE FROM erased WHERE user_hash = ANY(%s::text[])"

ADD_COUNTS = _add_up(
    tables.combo_count,
    "mode, cohort, hour, context, combo_key, counted_for",
    "trials, successes, sent, opened, converted, value",
)

ADD_CONVERSIONS = _add_up(
    tables.conversion_count,
    "mode, cohort, hour, combo_key, counted_for, source, age_bucket",
    "conversions",
)

ADD_EXPERIMENT_COUNT = _add_up(tables.experiment_count, "mode, cohort, held_out", "experiments")

ADD_OFFER_USE = _insert(
    tables.offer_use,
    "mode, offer, day, used",
    "ON CONFLICT (mode, offer, day) DO UPDATE"
    " SET used = greatest(0, offer_use.used + excluded.used)",
)

ADD_ANSWERS = _add_up(tables.answer_count, "mode, cohort, status, reason", "answers")

REPLACE_TEXT = _change(tables.experiment, "language, title, body, drawn_text", "id, user_id")

# As above, with the rows locked: whoever waited for them sees what the other wrote.
FAILING_EXACTLY = f"{FAILING} ORDER BY channel FOR UPDATE"

RATE_FREE_AT = "SELECT free_at FROM lane WHERE channel = '*' FOR UPDATE"

# There must be a row to lock.
ADD_RATE = "INSERT INTO lane (channel, free_at) VALUES ('*', 0) ON CONFLICT (channel) DO NOTHING"

SET_RATE_FREE_AT = _insert(
    tables.lane,
    "channel, free_at",
    "ON CONFLICT (channel) DO UPDATE SET free_at = excluded.free_at",
)

PROBED = _change(tables.channel_health, "next_probe_at", "channel")

BEGIN_ATTEMPT = _insert(tables.attempt, "experiment_id, user_id, number, call_id, started_at")

END_ATTEMPT = _change(
    tables.attempt,
    "ended_at, verdict, reason, status, answer",
    "experiment_id, user_id, call_id",
)

# Rows that another worker deals out at this moment are passed over.
DUE = """
SELECT id, user_id, zone, language, title, body, seed, facts, stand_ins, address FROM experiment
 WHERE state = 'scheduled' AND channel = %s AND held_out = %s AND due_at <= %s
   AND (expires_at < %s OR cohort <> ALL(%s::text[]))
 ORDER BY due_at, id LIMIT %s FOR UPDATE SKIP LOCKED
"""

# What is being changed at this moment needs no longer lease.
RENEW = """
UPDATE experiment SET lease_until = %s
 WHERE (id, user_id) IN (SELECT id, user_id FROM experiment
                          WHERE state = 'claimed' AND call_id = ANY(%s::text[])
                            FOR UPDATE SKIP LOCKED)
"""

ABANDONED = """
SELECT user_id, id FROM experiment
 WHERE state = 'claimed' AND (%s::bigint IS NULL OR lease_until < %s)
"""

# The users of a batch, by a number for each, in the order of the numbers.
LOCK_USERS = "SELECT count(pg_advisory_xact_lock(number)) FROM unnest(%s::bigint[]) AS number"

# Those that another transaction holds are named, and nobody waits.
TRY_TO_LOCK_USERS = """
SELECT number FROM unnest(%s::bigint[]) AS number WHERE NOT pg_try_advisory_xact_lock(number)
"""

# Claims share a lock with one another, and a pause has it alone.
LOCK_SHARED = "SELECT pg_advisory_xact_lock_shared(%s::integer, 0)"
LOCK_ALONE = "SELECT pg_advisory_xact_lock(%s::integer, 0)"

# The channels for which nobody else claims at this moment.
TAKE_LANES = """
SELECT channel FROM unnest(%s::text[], %s::integer[]) AS lane (channel, number)
 WHERE pg_try_advisory_xact_lock(%s::integer, number)
"""

CALLS_ELSEWHERE = """
SELECT channel, count(DISTINCT call_id) FROM experiment
 WHERE state = 'claimed' AND lease_until >= %s AND call_id <> ALL(%s::text[]) GROUP BY channel
"""

# Waits until another transaction with this mark has ended; adds it if that one was rolled back.
MARK_BATCH = """
INSERT INTO batch (id, at) VALUES (%s, extract(epoch FROM clock_timestamp()) * 1000)
ON CONFLICT (id) DO NOTHING RETURNING id
"""
