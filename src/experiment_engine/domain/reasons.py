"""Why something was not done: every reason code of the engine, with what it means."""

from enum import StrEnum


class Reason(StrEnum):
    """One word for one reason, in answers, timelines, logs and metrics alike."""

    # an event that starts nothing
    NO_COHORT = "no_cohort"  # no cohort is triggered by it and none has it as a goal
    NO_USER = "no_user"  # it names no user
    COUNT_NOT_REACHED = "count_not_reached"
    TOO_OLD = "too_old"
    ALREADY_ACTIVE = "already_active"  # one of the same cohort still waits to be sent
    COOLDOWN = "cooldown"  # the cohort decided about this user less than `again_after` ago
    CONVERTED = "converted"  # the goal is reached
    ERASED = "erased"  # the user asked to be forgotten
    PAUSED = "paused"
    TEST_PING = "test_ping"
    # a combo that is not eligible, and what is said when none is
    NO_ELIGIBLE_COMBO = "no_eligible_combo"
    OPTED_OUT = "opted_out"
    NO_CONSENT = "no_consent"
    NOT_CONNECTED = "not_connected"  # live, and its channel's provider has no credentials
    NO_ADDRESS = "no_address"  # nothing says where the channel's provider reaches the user
    CHANNEL_FAILING = "channel_failing"
    NO_CAMPAIGN = "no_campaign"
    MISSING_VALUE = "missing_value"  # a placeholder without value and default
    OVERDUE = "overdue"  # its send time has passed by more than a minute
    QUIET_HOURS = "quiet_hours"
    FREQUENCY_CAP = "frequency_cap"
    OFFER_BUDGET = "offer_budget"
    FACT_MISSING = "fact_missing"  # what the text rests on is not known, or too little
    FACT_EXPIRED = "fact_expired"  # what the text rests on is over when it would go out
    # feedback that finds nothing
    MISMATCH = "mismatch"  # the experiment is another user's
    UNKNOWN_EXPERIMENT = "unknown_experiment"
    NOT_SENT = "not_sent"
    OUTSIDE_WINDOW = "outside_window"
    # a delivery that does not go out, or does not arrive
    NOT_REACHED = "not_reached"  # taken by the provider, which then said that it cannot deliver it
    COMBO_REMOVED = "combo_removed"
    BY_HAND = "by_hand"  # a person cancelled what waited for the combo
    MODE_CHANGED = "mode_changed"
    EXPIRED = "expired"
    STOPPED = "stopped"  # the engine stopped while the call may have been under way
