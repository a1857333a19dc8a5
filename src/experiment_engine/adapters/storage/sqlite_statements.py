"""The hot statements of SQLite; what each is for stands in `statements.py`.

Lists of keys come in as one JSON array, so that a statement has one text for every batch size.
"""

from experiment_engine.adapters.storage.statements import (
    DECIDED_COLUMNS,
    EXPERIMENT_COLUMNS,
)

SEEN = """
SELECT event.user_id, event.dedup_key, event.experiment_id
  FROM json_each(?) AS wanted
  JOIN event ON event.user_id = wanted.value ->> 0 AND event.dedup_key = wanted.value ->> 1
"""

OWNERS = "SELECT id, user_id FROM experiment WHERE id IN (SELECT value FROM json_each(?))"

RECIPIENTS = """
SELECT address_hash, user_id FROM recipient
 WHERE address_hash IN (SELECT value FROM json_each(?)) ORDER BY user_id
"""

USERS_EXPERIMENTS = f"""
SELECT {EXPERIMENT_COLUMNS} FROM experiment
 WHERE user_id IN (SELECT value FROM json_each(?))
   AND (decided_at >= ? OR state IN ('scheduled', 'claimed'))
 ORDER BY decided_at, id
"""

NAMED_EXPERIMENTS = f"""
SELECT {EXPERIMENT_COLUMNS} FROM experiment WHERE id IN (SELECT value FROM json_each(?))
"""

USERS_GOALS = """
SELECT user_id, goal, max(at) FROM goal_reached
 WHERE user_id IN (SELECT value FROM json_each(?)) GROUP BY user_id, goal
"""

USERS_CHOICES = """
SELECT user_id, channel, allowed, max(at) FROM choice
 WHERE user_id IN (SELECT value FROM json_each(?)) GROUP BY user_id, channel, allowed
"""

USERS_COUNTED = """
SELECT user_id, cohort, dedup_key, at FROM counted
 WHERE user_id IN (SELECT value FROM json_each(?))
"""

ANY_ERASED = "SELECT 1 FROM erased LIMIT 1"

ERASED = "SELECT user_hash, at FROM erased WHERE user_hash IN (SELECT value FROM json_each(?))"

ADD_EVENT = """
INSERT INTO event (user_id, dedup_key, source, name, happened_at, received_at, raw, status,
                   reason, experiment_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

ADD_QUARANTINED = """
INSERT INTO quarantine (source, received_at, reason, digest, raw) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (source, digest) DO NOTHING
"""

ADD_EXPERIMENT = f"""
INSERT INTO experiment ({EXPERIMENT_COLUMNS}, {DECIDED_COLUMNS})
VALUES ({", ".join("?" * 41)})
"""

CHANGE_EXPERIMENT = """
UPDATE experiment
   SET postponed = ?, due_at = ?, expires_at = ?, state = ?, reason = ?, placed_at = ?,
       opened_at = ?, converted_at = ?, attempts = ?, call_id = ?, lease_until = ?,
       converted_by = ?, value = ?, replaced_by = ?, replaced_for = ?, slot = now.slot,
       address = CASE WHEN now.slot = 'waiting' THEN address END
  FROM (SELECT ? AS slot) AS now
 WHERE id = ? AND user_id = ?
"""

ADD_ELIGIBLE_SET = """
INSERT INTO eligible_set (id, postponed, eligible, refused) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING
"""

ADD_DISTRIBUTION = """
INSERT INTO distribution (id, snapshot_id, cohort, context, eligible_id, shares)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""

ADD_GOAL = """
INSERT INTO goal_reached (user_id, goal, at, value) VALUES (?, ?, ?, ?)
ON CONFLICT (user_id, goal, at) DO NOTHING
"""

ADD_CHOICE = """
INSERT INTO choice (user_id, channel, allowed, at, source, text_version, purpose)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (user_id, channel, allowed, at) DO NOTHING
"""

ADD_RECIPIENT = """
INSERT INTO recipient (address_hash, user_id) VALUES (?, ?)
ON CONFLICT (address_hash, user_id) DO NOTHING
"""

ADD_COUNTED = """
INSERT INTO counted (user_id, cohort, dedup_key, at) VALUES (?, ?, ?, ?)
ON CONFLICT (user_id, cohort, dedup_key) DO NOTHING
"""

USE_UP_COUNTED = "DELETE FROM counted WHERE user_id = ? AND cohort = ? AND dedup_key = ?"

PARDON = "DELETE FROM erased WHERE user_hash = ?"

ADD_COUNTS = """
INSERT INTO combo_count (mode, cohort, hour, context, combo_key, counted_for, trials, successes,
                         sent, opened, converted, value)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (mode, cohort, hour, context, combo_key, counted_for) DO UPDATE
   SET trials = trials + excluded.trials, successes = successes + excluded.successes,
       sent = sent + excluded.sent, opened = opened + excluded.opened,
       converted = converted + excluded.converted, value = value + excluded.value
"""

ADD_CONVERSIONS = """
INSERT INTO conversion_count (mode, cohort, hour, combo_key, counted_for, source, age_bucket,
                              conversions)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (mode, cohort, hour, combo_key, counted_for, source, age_bucket) DO UPDATE
   SET conversions = conversions + excluded.conversions
"""

ADD_EXPERIMENT_COUNT = """
INSERT INTO experiment_count (mode, cohort, held_out, experiments) VALUES (?, ?, ?, ?)
ON CONFLICT (mode, cohort, held_out) DO UPDATE SET experiments = experiments + excluded.experiments
"""

ADD_OFFER_USE = """
INSERT INTO offer_use (mode, offer, day, used) VALUES (?, ?, ?, ?)
ON CONFLICT (mode, offer, day) DO UPDATE SET used = max(0, used + excluded.used)
"""

ADD_ANSWERS = """
INSERT INTO answer_count (mode, cohort, status, reason, answers) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (mode, cohort, status, reason) DO UPDATE SET answers = answers + excluded.answers
"""

REPLACE_TEXT = """
UPDATE experiment SET language = ?, title = ?, body = ?, drawn_text = ?
 WHERE id = ? AND user_id = ?
"""

PAUSED = "SELECT scope FROM pause"

FAILING = "SELECT channel, next_probe_at > ? FROM channel_health WHERE next_probe_at IS NOT NULL"

RATE_FREE_AT = "SELECT free_at FROM lane WHERE channel = '*'"

SET_RATE_FREE_AT = """
INSERT INTO lane (channel, free_at) VALUES (?, ?)
ON CONFLICT (channel) DO UPDATE SET free_at = excluded.free_at
"""

PROBED = "UPDATE channel_health SET next_probe_at = ? WHERE channel = ?"

BEGIN_ATTEMPT = """
INSERT INTO attempt (experiment_id, user_id, number, call_id, started_at) VALUES (?, ?, ?, ?, ?)
"""

END_ATTEMPT = """
UPDATE attempt SET ended_at = ?, verdict = ?, reason = ?, status = ?, answer = ?
 WHERE experiment_id = ? AND user_id = ? AND call_id = ?
"""

DUE = """
SELECT id, user_id, zone, language, title, body, seed, facts, stand_ins, address FROM experiment
 WHERE state = 'scheduled' AND channel = ? AND held_out = ? AND due_at <= ?
   AND (expires_at < ? OR cohort NOT IN (SELECT value FROM json_each(?)))
 ORDER BY due_at LIMIT ?
"""

RENEW = """
UPDATE experiment SET lease_until = ?
 WHERE state = 'claimed' AND call_id IN (SELECT value FROM json_each(?))
"""

ABANDONED = """
SELECT user_id, id FROM experiment WHERE state = 'claimed' AND (? IS NULL OR lease_until < ?)
"""
