"""How experiments and what is kept about them read in answers: values in the API's words."""

from collections.abc import Mapping
from typing import Any

import msgspec

from experiment_engine.application.report_records import (
    AttemptRecord,
    DistributionRecord,
    ExperimentRecord,
    KeptEvent,
)
from experiment_engine.domain.bandit.reward import Group, contribution, group_of
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.domain.delivery.experiment import Decided, Experiment, Mode, State
from experiment_engine.domain.measurement.silence import Silence
from experiment_engine.domain.moments import Instant, iso

Answer = dict[str, Any]


def decided(made: Experiment, how: Decided) -> Answer:
    """Answer `/api/trigger` (CONTRACT 6) for an experiment that was just decided."""
    return {
        "experiment_id": made.id,
        "user_id": made.user_id,
        "cohort": made.cohort,
        "status": made.state.value,
        "combo_key": made.combo_key,
        "combo": _levels(made.combo_key),
        "propensity": how.propensity,
        "scheduled_for": iso(made.due_at),
        "message": {"title": how.title, "body": how.body, "language": how.language},
        "postponed": made.postponed,
        "mode": made.mode.value,
    }


def experiment(record: ExperimentRecord) -> Answer:
    """Answer one experiment in a list, or the beginning of what explains it."""
    return {
        "experiment_id": record.id,
        "user_id": record.user_id,
        "cohort": record.cohort,
        "status": record.state,
        "reason": record.reason,
        "combo_key": record.combo_key,
        "combo": _levels(record.combo_key),
        "propensity": record.propensity,
        "held_out": record.held_out,
        "manual": record.manual,
        "postponed": record.postponed,
        "mode": record.mode,
        "triggered_at": iso(record.triggered_at),
        "decided_at": iso(record.decided_at),
        "scheduled_for": iso(record.due_at),
        "expires_at": iso(record.expires_at),
        "window_ends_at": iso(record.window_ends_at),
        "sent_at": _iso(record.placed_at if record.state == State.SENT else None),
        "message": {"title": record.title, "body": record.body, "language": record.language},
        "replaced": _replaced(record),
        "feedback": {
            "opened_at": _iso(record.opened_at),
            "converted_at": _iso(record.converted_at),
            "converted_by": record.converted_by,
            "value": None if record.value is None else record.value / 1_000,
            "converted_in_flight": _in_flight(record),
        },
        "attempt_count": record.attempts,
    }


def _replaced(record: ExperimentRecord) -> Answer | None:
    """Return what went out instead of what was drawn, why, and what would have been said."""
    if record.replaced_by is None:
        return None
    return {
        "combo_key": record.replaced_by,
        "reason": record.replaced_for,
        "drawn_message": msgspec.json.decode(record.drawn_text) if record.drawn_text else None,
    }


def credit(record: ExperimentRecord) -> Answer:
    """Say what the experiment counts for, by the one rule that every counter follows (R1, R2)."""
    values = {name: getattr(record, name) for name in Experiment.__dataclass_fields__}
    made = Experiment(**{**values, "mode": Mode(record.mode), "state": State(record.state)})
    counts = contribution(made)
    return {
        "counted_for": group_of(made).value,
        "trial": counts.trials == 1,
        "success": counts.successes == 1,
        "teaches": counts.trials == 1 and group_of(made) is Group.COMBO,
    }


def _in_flight(record: ExperimentRecord) -> bool:
    """Say whether the goal was reached after the claim had looked, and before the message."""
    return (
        record.converted_at is not None
        and record.placed_at is not None
        and record.state in ("sent", "unknown", "claimed")
        and record.converted_at <= record.placed_at
    )


def event(kept: KeptEvent) -> Answer:
    """Answer what came, without its bytes."""
    return {
        "type": "event",
        "name": kept.name,
        "source": kept.source,
        "happened_at": iso(kept.happened_at),
        "status": kept.status,
        "reason": kept.reason,
        "experiment_id": kept.experiment_id,
    }


def decision(made: DistributionRecord) -> Answer:
    """Answer what an experiment was drawn from."""
    return {
        "policy": made.policy,
        "policy_state": made.snapshot_id,
        "policy_state_taken_at": iso(made.snapshot_taken_at),
        "distribution_id": made.id,
        "context": made.context,
        "postponed": made.postponed,
        "eligible": made.propensities,
        "not_eligible": made.refused,
    }


def silence(one: Silence) -> Answer:
    """Answer one silence of a source."""
    return {
        "source": one.source,
        "told": one.told,
        "since": iso(one.since),
        "until": _iso(one.until),
        "expected": round(one.expected, 1) if one.until is not None else None,
        "late": one.late,
    }


def attempt(made: AttemptRecord) -> Answer:
    """Answer one try at the provider."""
    return {
        "number": made.number,
        "call_id": made.call_id,
        "started_at": iso(made.started_at),
        "ended_at": _iso(made.ended_at),
        "outcome": made.verdict,
        "reason": made.reason,
        "status": made.status,
        "answer": made.answer,
    }


def _levels(combo_key: str) -> Mapping[str, str]:
    return dict(zip(DIMENSIONS, combo_key.split("|"), strict=True))


def _iso(instant: Instant | None) -> str | None:
    return None if instant is None else iso(instant)
