"""What messages and learning brought, as far as it can be said: a part of the statistics."""

from collections.abc import Mapping
from typing import Any

from experiment_engine.application.evidence import Frozen, Learned
from experiment_engine.application.measure import EVEN, EVEN_VALUE, LIFT, RATIO
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.measurement.interval import Interval
from experiment_engine.domain.measurement.lift import TooFew, UserSums, lift, value_lift
from experiment_engine.domain.measurement.off_policy import (
    Value,
    WeightSums,
    advantage,
    overlap,
    snips,
)
from experiment_engine.domain.measurement.sample_ratio import (
    Mismatch,
    RatioSums,
    worst_mismatch,
)
from experiment_engine.domain.moments import DAY, Instant, iso, to_datetime

Answer = dict[str, Any]

SETTLED = 0.95  # the probability to be best at which a combo is called the winner


def measurement(
    cohort: Cohort,
    sums: Mapping[str, float],
    best: tuple[str, float] | None,
    frozen: Frozen | None,
    learned: Learned | None,
) -> Answer:
    """Describe one cohort: lift, value against an even split, sample ratio, and the winner.

    `sums` are those of measurement over all days, `best` the leading combo with its probability
    to be best. What the numbers do not support is left out, with the reason.
    """
    mismatch = worst_mismatch(_ratios(sums))
    return {
        "lift": _lift(cohort, sums),
        "even_split": _even_split(cohort, sums),
        "sample_ratio": _sample_ratio(mismatch),
        "winner": _winner(best, mismatch),
        "learning": _learning(cohort, frozen, learned),
    }


def _learning(cohort: Cohort, frozen: Frozen | None, learned: Learned | None) -> Answer:
    answer: Answer = {
        "policy": cohort.policy.name,
        "frozen": None
        if frozen is None
        else {"since": iso(frozen.since), "reason": frozen.reason, "at": frozen.snapshot_id},
    }
    if learned is None:
        return {**answer, "snapshot_id": None, "changes": []}
    return {
        **answer,
        "snapshot_id": learned.snapshot_id,
        "taken_at": iso(learned.taken_at),
        "limited": learned.limited,  # a combo's share would move too fast
        "changes": [
            {
                "since": _date(change.since),
                "noticed": _date(change.noticed),
                "expected_conversions": round(change.foretold, 1),
                "conversions": int(change.observed),
            }
            for change in learned.changes
        ],
    }


def _date(day: int) -> str:
    return to_datetime(Instant(day * DAY)).date().isoformat()


def _lift(cohort: Cohort, sums: Mapping[str, float]) -> Answer:
    messaged = UserSums.read(LIFT[False], sums)
    held_out = UserSums.read(LIFT[True], sums)
    found = lift(messaged, held_out)
    answer: Answer = {
        "messaged": _group(messaged),
        "held_out": _group(held_out),
        "unit": "user, once, when the window of the first trigger has closed",
    }
    if isinstance(found, TooFew):
        return {**answer, "absolute": None, "why_not": found.reason}
    answer |= {
        "absolute": _percent(found.absolute),
        "interval": _interval(found.interval),
        "relative": _percent(found.relative),
        "relative_interval": _interval(found.relative_interval),
        "settled": found.is_settled,
    }
    worth = value_lift(messaged, held_out)
    if cohort.goal.value is not None and not isinstance(worth, TooFew):
        difference, interval = worth
        answer["value_per_user"] = {
            "difference": round(difference, 4),
            "interval": [round(interval.low, 4), round(interval.high, 4)],
        }
    return answer


def _group(sums: UserSums) -> Answer:
    return {
        "users": int(sums.users),
        "converted": int(sums.converted),
        "rate": _percent(sums.rate),
    }


def _even_split(cohort: Cohort, sums: Mapping[str, float]) -> Answer:
    weights = WeightSums.read(EVEN, sums)
    answer: Answer = {
        "messages": int(weights.rows),
        "effective_messages": round(weights.effective_rows, 1),
    }
    refused = overlap(weights, "an even split")
    if refused is not None:
        return {**answer, "advantage": None, "why_not": refused.reason}
    even, ahead = snips(weights), advantage(weights)
    answer |= {
        "rate": _percent(weights.y / weights.rows),
        "even_rate": _percent(even.value),
        "even_interval": _interval(even.interval),
        "advantage": _percent(ahead.value),
        "interval": _interval(ahead.interval),
        "extra_conversions": round(ahead.value * weights.rows, 1),
        "extra_interval": [
            round(ahead.interval.low * weights.rows, 1),
            round(ahead.interval.high * weights.rows, 1),
        ],
    }
    worth = WeightSums.read(EVEN_VALUE, sums)
    if cohort.goal.value is not None and worth.rows:
        answer["value_per_message"] = _worth(advantage(worth))
    return answer


def _worth(value: Value) -> Answer:
    return {
        "difference": round(value.value, 4),
        "interval": [round(value.interval.low, 4), round(value.interval.high, 4)],
    }


def _ratios(sums: Mapping[str, float]) -> Mapping[str, RatioSums]:
    prefixes = {name.rpartition(".")[0] for name in sums if name.startswith(f"{RATIO}.")}
    return {prefix.removeprefix(f"{RATIO}."): RatioSums.read(prefix, sums) for prefix in prefixes}


def _sample_ratio(mismatch: Mismatch | None) -> Answer:
    if mismatch is None:
        return {"ok": True, "checked": False}
    return {
        "ok": not mismatch.is_alarm,
        "checked": True,
        "worst": mismatch.name,
        "assigned": int(mismatch.assigned),
        "expected": round(mismatch.expected, 1),
        "p_value": mismatch.p_value,
    }


def _winner(best: tuple[str, float] | None, mismatch: Mismatch | None) -> Answer:
    if mismatch is not None and mismatch.is_alarm:
        return {
            "combo_key": None,
            "why_not": "what was sent does not fit the logged probabilities"
            f" ({mismatch.name}): comparisons cannot be trusted until the reason is found",
        }
    if best is None or best[1] < SETTLED:
        return {"combo_key": None, "why_not": "no combo is the best with 95 % probability yet"}
    return {"combo_key": best[0], "probability_best": best[1]}


def _percent(share: float) -> float:
    return round(100 * share, 3)


def _interval(interval: Interval) -> list[float]:
    return [_percent(interval.low), _percent(interval.high)]
