"""What every column of the database may hold of a person: the table behind the promise to forget.

`personal`: names a person or tells of one: nothing of it is left after an erasure.
`pseudonymous`: belongs to one person, and tells without the personal columns nobody who it was.
`secret`: keys. `none`: nothing of a single person.
"""

NONE, PSEUDONYMOUS, PERSONAL, SECRET = "none", "pseudonymous", "personal", "secret"

_CLASSES = {
    "meta": {NONE: "key", SECRET: "value"},
    "event": {
        PERSONAL: "user_id dedup_key raw",
        PSEUDONYMOUS: "happened_at received_at experiment_id",
        NONE: "source name status reason",
    },
    "quarantine": {PERSONAL: "digest raw", NONE: "id source received_at reason"},
    "experiment": {
        PERSONAL: "user_id event_key zone title body context drawn_text facts stand_ins address",
        PSEUDONYMOUS: "id triggered_at decided_at window_ends_at seed language due_at expires_at"
        " placed_at opened_at converted_at call_id lease_until slot value levels",
        NONE: "cohort combo_key channel mode held_out manual propensity distribution_id"
        " snapshot_id postponed state reason attempts converted_by replaced_by replaced_for",
    },
    "attempt": {
        PERSONAL: "user_id answer",
        PSEUDONYMOUS: "experiment_id call_id started_at ended_at",
        NONE: "number verdict reason status",
    },
    "goal_reached": {PERSONAL: "user_id", PSEUDONYMOUS: "goal at value"},
    "choice": {
        PERSONAL: "user_id text_version purpose",
        PSEUDONYMOUS: "channel allowed at source",
    },
    "counted": {PERSONAL: "user_id dedup_key", PSEUDONYMOUS: "cohort at"},
    "recipient": {PERSONAL: "user_id", PSEUDONYMOUS: "address_hash"},
    "erased": {PSEUDONYMOUS: "user_hash at"},
    "user_outcome": {
        PERSONAL: "user_id",
        PSEUDONYMOUS: "entered_at held_out converted value",
        NONE: "mode cohort",
    },
    "audit": {PERSONAL: "target", NONE: "id at who what before after"},
    "snapshot": {NONE: "id cohort mode policy taken_at combos statistics model details"},
    "combo_space": {NONE: "digest keys"},
    "eligible_set": {NONE: "id postponed eligible refused"},
    "distribution": {NONE: "id snapshot_id cohort context eligible_id shares"},
    "combo_count": {
        NONE: "mode cohort hour context combo_key counted_for trials successes sent opened"
        " converted value"
    },
    "experiment_count": {NONE: "mode cohort held_out experiments"},
    "answer_count": {NONE: "mode cohort status reason answers"},
    "pause": {NONE: "scope since"},
    "channel_health": {NONE: "channel failures_in_a_row next_probe_at"},
    "offer_use": {NONE: "mode offer day used"},
    "conversion_count": {
        NONE: "mode cohort hour combo_key counted_for source age_bucket conversions"
    },
    "freeze": {NONE: "mode cohort since snapshot_id reason"},
    "measurement_sum": {NONE: "mode cohort day name value"},
    "progress": {NONE: "name position"},
    "lease": {NONE: "name holder until"},
    "process": {NONE: "id kind host version configuration started_at seen_at"},
    "lane": {NONE: "channel free_at"},
    "source_hour": {NONE: "source told hour minutes"},
    "silence": {NONE: "source told since until expected late filled_at"},
    "batch": {NONE: "id at"},
}

CLASSES = {
    (table, column): kind
    for table, kinds in _CLASSES.items()
    for kind, columns in kinds.items()
    for column in columns.split()
}
