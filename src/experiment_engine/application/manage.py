"""What an operator does by hand, and what a start puts in order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from experiment_engine.application.changes import Changes
from experiment_engine.application.ports import Administration, Retained
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Experiment, Mode, State
from experiment_engine.domain.errors import UnknownCohort, UnknownScope
from experiment_engine.domain.identifiers import CohortName, ComboKey, UserId
from experiment_engine.domain.moments import DAY, Duration, Instant, hour_of
from experiment_engine.domain.pausing import EVERYTHING, is_taken_out, scopes_of
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
    """Pause or resume a scope, or everything (None); raises UnknownCohort or UnknownScope.

    The claim reads the pause in its own transaction, so nothing is claimed once this is durable.
    """
    if scope is not None and scope not in rules.cohorts:
        _check_narrow(scope, rules)
    administration.set_paused(scope or EVERYTHING, paused=paused, at=now)


def _check_narrow(scope: str, rules: Rules) -> None:
    kind, _, rest = scope.partition(":")
    if kind not in {"channel", "combo", "level"}:
        raise UnknownCohort(scope, sorted(rules.cohorts))
    if kind == "channel":
        if rest not in rules.channels:
            known = ", ".join(sorted(rules.channels))
            raise UnknownScope(f'There is no channel "{rest}". Known: {known}.')
        return
    name = rest.partition(":")[0]
    cohort = rules.require_cohort(name)
    if not any(scope in scopes_of(cohort, combo) for combo in cohort.space.combos):
        raise UnknownScope(f'The cohort "{name}" has no such combo or level.')


def erase_user(
    user_id: UserId, administration: Administration, now: Instant
) -> Sequence[Experiment]:
    """Forget a user: cancel what waits, remove what is personal, keep the anonymous counts.

    Returns what was cancelled.
    """
    known = administration.users([user_id], _RECENT, [])
    waiting = [e for user in known.values() for e in user.waiting()]
    cancelled = _cancel(waiting, Reason.ERASED, administration)
    administration.erase(user_id, now)
    return cancelled


def _cancel(
    experiments: Iterable[Experiment], reason: Reason, administration: Administration
) -> Sequence[Experiment]:
    changes = Changes()
    for experiment in experiments:
        if experiment.state is State.SCHEDULED:
            changes.change(experiment, lambda e: e.move(State.CANCELLED, reason))
    administration.store(changes)
    return list(changes.changed.values())


_RECENT = Instant(1 << 62)  # decided since then is nothing: only what waits is asked for
DEDUPLICATED_FOR = Duration(31 * DAY)  # at least 30 days, whatever the raw events' retention
_DOUBTED_FOR = DAY  # longer than anybody asks whether a batch was committed
CANCELLED_AT_ONCE = 500  # experiments read at a time
PRUNED_AT_ONCE = 500  # rows of each kind in one transaction: ingest waits only that long


def prune(rules: Rules, administration: Administration, now: Instant) -> bool:
    """Delete a little of what is past its retention; return whether there may be more."""
    return administration.prune(_retained(rules, now), PRUNED_AT_ONCE) >= PRUNED_AT_ONCE


FOLDED_AT_ONCE = 500
DAYS_KEPT = Duration(60 * DAY)  # older days become months
_A_DAY, _A_MONTH = 24, 720  # hours


def fold_counts(rules: Rules, mode: Mode, administration: Administration, now: Instant) -> bool:
    """Fold a little of old hours into days, and old days into months; say if there may be more.

    Only hours whose trials have had all their time to convert: they weigh the same by then.
    """
    for name, cohort in rules.cohorts.items():
        for span, before in (
            (_A_DAY, hour_of(Instant(now - cohort.goal.window - DAY))),
            (_A_MONTH, hour_of(Instant(now - cohort.goal.window - DAYS_KEPT))),
        ):
            moved = administration.fold_counts(
                mode, name, span=span, before=before - before % span, limit=FOLDED_AT_ONCE
            )
            if moved:
                return True
    return False


def _retained(rules: Rules, now: Instant) -> Retained:
    """Work out what is kept: as configured, and never less than a promise needs."""
    kept, cohorts = rules.retention, rules.cohorts.values()
    goals = max([kept.experiments, *(cohort.trigger.converted_quiet for cohort in cohorts)])
    counted = max([DEDUPLICATED_FOR, *(cohort.trigger.within or 0 for cohort in cohorts)])
    return Retained(
        raw_events=Instant(now - kept.raw_events),
        events=Instant(now - max(kept.raw_events, DEDUPLICATED_FOR)),
        counted=Instant(now - counted),
        goals=Instant(now - goals),
        experiments=Instant(now - kept.experiments),
        batches=Instant(now - _DOUBTED_FOR),
    )


@dataclass(frozen=True, slots=True)
class Stale:
    """A combo for which something waits that cannot be sent any more, and why."""

    cohort: CohortName
    combo_key: ComboKey
    mode: Mode
    reason: Reason


def what_cannot_be_sent(
    rules: Rules, mode: Mode, administration: Administration
) -> Sequence[Stale]:
    """Return the combos, removed, paused or of the other mode, that something waits for."""
    stale, paused = [], administration.paused()
    for cohort_name, combo_key, scheduled_mode in administration.waiting_combos():
        cohort = rules.cohorts.get(cohort_name)
        if scheduled_mode is not mode:
            stale.append(Stale(cohort_name, combo_key, scheduled_mode, Reason.MODE_CHANGED))
        elif cohort is None or _is_gone(cohort, combo_key, paused):
            stale.append(Stale(cohort_name, combo_key, scheduled_mode, Reason.COMBO_REMOVED))
    return stale


def _is_gone(cohort: Cohort, combo_key: ComboKey, paused: frozenset[str]) -> bool:
    combo = cohort.space.by_key.get(combo_key)
    return combo is None or is_taken_out(cohort, combo, paused)


def waiting_combos_of(
    cohort: CohortName, combo_key: ComboKey, rules: Rules, administration: Administration
) -> Sequence[Stale]:
    """Return what a person may cancel of a combo, which may be gone from the configuration.

    Raises UnknownCohort or UnknownScope for a combo that there is not and nothing waits for.
    """
    stale = [
        Stale(name, key, mode, Reason.BY_HAND)
        for name, key, mode in administration.waiting_combos()
        if (name, key) == (cohort, combo_key)
    ]
    if not stale:
        require_combo(cohort, combo_key, rules)
    return stale


def require_combo(cohort: CohortName, combo_key: ComboKey, rules: Rules) -> None:
    """Raise UnknownCohort or UnknownScope for a combo that the configuration does not have."""
    if combo_key not in rules.require_cohort(cohort).space.by_key:
        raise UnknownScope(
            f'The cohort "{cohort}" has no combo "{combo_key}": write delay|channel|angle|offer.'
        )


def cancel_some(stale: Stale, administration: Administration) -> int:
    """Cancel at most CANCELLED_AT_ONCE of what waits (R11, R15); return how many that were."""
    waiting = administration.waiting_for(
        stale.cohort, stale.combo_key, stale.mode, CANCELLED_AT_ONCE
    )
    named = [experiment_id for _, experiment_id in waiting]
    users = administration.users([user_id for user_id, _ in waiting], _RECENT, named)
    found = [e for user in users.values() for e in user.experiments if e.id in set(named)]
    _cancel(found, stale.reason, administration)
    return len(waiting)
