"""The hot statements by name; each database has its own text for them.

They are read and written in batches: a list of keys is one value, and what writes rows is run
once for all of them.
"""

from typing import Protocol

# Columns of an experiment that decisions read back, in the order of `Experiment`'s fields.
EXPERIMENT_COLUMNS = (
    "id, user_id, cohort, combo_key, channel, mode, held_out, manual, postponed, triggered_at,"
    " decided_at, due_at, expires_at, window_ends_at, state, reason, placed_at, opened_at,"
    " converted_at, attempts, call_id, lease_until, levels, converted_by, value,"
    " replaced_by, replaced_for"
)
# What is fixed with the decision and read back only by people.
DECIDED_COLUMNS = (
    "slot, event_key, zone, propensity, distribution_id, snapshot_id, seed, language, title,"
    " body, context, facts, stand_ins, address"
)


class HotSql(Protocol):
    """A module with the text of every hot statement."""

    SEEN: str  # which of these events are kept already, and what each led to
    OWNERS: str
    RECIPIENTS: str  # who is reached at these addresses
    USERS_EXPERIMENTS: str  # those that can matter: recent ones, and whatever still waits
    NAMED_EXPERIMENTS: str
    USERS_GOALS: str
    USERS_CHOICES: str
    USERS_COUNTED: str
    ANY_ERASED: str
    ERASED: str
    PAUSED: str
    FAILING: str
    RATE_FREE_AT: str

    ADD_EVENT: str
    ADD_QUARANTINED: str
    CHANGE_EXPERIMENT: str
    ADD_EXPERIMENT: str
    ADD_ELIGIBLE_SET: str
    ADD_DISTRIBUTION: str
    ADD_GOAL: str
    ADD_CHOICE: str
    ADD_RECIPIENT: str
    ADD_COUNTED: str
    USE_UP_COUNTED: str
    PARDON: str  # who was erased, and asks to hear again
    ADD_COUNTS: str
    ADD_CONVERSIONS: str
    ADD_EXPERIMENT_COUNT: str
    ADD_OFFER_USE: str
    ADD_ANSWERS: str  # what events were answered
    REPLACE_TEXT: str  # of what goes out instead of what was drawn
    PROBED: str
    SET_RATE_FREE_AT: str
    BEGIN_ATTEMPT: str
    END_ATTEMPT: str

    # Deliveries whose time has come, the longest waiting first; an index holds them in this
    # order. What a pause holds back is left out until it expires, so that it hides nobody else's.
    DUE: str
    RENEW: str  # the claims of calls that are still under way
    ABANDONED: str
