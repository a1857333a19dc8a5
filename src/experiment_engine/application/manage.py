"""What an operator does by hand, and what a start puts in order."""

from collections.abc import Mapping

from experiment_engine.application.ports import EVERYTHING, Administration
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.errors import UnknownCohort
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import Rules


def set_paused(
    scope: str | None,
    rules: Rules,
    administration: Administration,
    now: Instant,
    *,
    paused: bool,
) -> None:
    """Pause or resume one cohort, or everything (None); raises UnknownCohort.

    The claim reads the pause in its own transaction, so nothing is claimed once this is durable.
    """
    if scope is not None and scope not in rules.cohorts:
        raise UnknownCohort(scope, sorted(rules.cohorts))
    administration.set_paused(scope or EVERYTHING, paused=paused, at=now)


def erase_user(user_id: UserId, administration: Administration, now: Instant) -> None:
    """Forget a user: cancel what waits, remove what is personal, keep the anonymous counts."""
    administration.erase(user_id, now)


PRUNED_AT_ONCE = 500  # rows of each kind in one transaction: ingest waits only that long


def prune(rules: Rules, administration: Administration, now: Instant) -> bool:
    """Delete a little of what is past its retention; return whether there may be more."""
    gone = administration.prune(
        Instant(now - rules.retention.raw_events),
        Instant(now - rules.retention.experiments),
        PRUNED_AT_ONCE,
    )
    return gone >= PRUNED_AT_ONCE


def cancel_what_cannot_be_sent(
    rules: Rules, mode: Mode, administration: Administration
) -> Mapping[Reason, int]:
    """Cancel what waits for removed combos, or was scheduled in the other mode (R11, R15)."""
    cancelled: dict[Reason, int] = {}
    for cohort_name, combo_key, scheduled_mode in administration.waiting_combos():
        cohort = rules.cohorts.get(cohort_name)
        if scheduled_mode is not mode:
            reason = Reason.MODE_CHANGED
        elif cohort is None or combo_key not in cohort.space.by_key:
            reason = Reason.COMBO_REMOVED
        else:
            continue
        count = administration.cancel_waiting(cohort_name, combo_key, scheduled_mode, reason)
        cancelled[reason] = cancelled.get(reason, 0) + count
    return cancelled
