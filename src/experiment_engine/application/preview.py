"""What would be decided about a user if a cohort's trigger came now; nothing is drawn or kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experiment_engine.application.changes import Changes
from experiment_engine.application.ports import Intake
from experiment_engine.application.switches import switched_off
from experiment_engine.application.take_in import Deciding
from experiment_engine.application.triggers import CONTEXT, TriggerTaker
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.user import User
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.reasons import Reason

_LISTED = 3  # combos whose chances are told


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What one cohort would do about a user now."""

    cohort: str
    reason: str | None  # why nothing would be sent
    chances: Sequence[tuple[str, float]] = ()  # of the likeliest combos
    allowed: int = 0
    combos: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)  # reason -> combos
    postponed: bool = False


def foresee(
    user_id: UserId,
    context: Mapping[str, str],
    zone: str | None,
    deciding: Deciding,
    intake: Intake,
    now: Instant,
) -> list[Foreseen]:
    """Return what each cohort would do; `context` is what the user's last event told."""
    rules = deciding.guardrails.rules
    users = intake.users([user_id], Instant(now - rules.memory()), [])
    taker = TriggerTaker(
        deciding.guardrails,
        deciding.chance,
        deciding.salt,
        deciding.policies,
        switched_off(intake, rules, deciding.guardrails.mode, now),
        Changes(),
        now,
    )
    properties = {
        name: context[feature] for feature, name in CONTEXT.items() if feature in context
    }
    told = {**properties, **({} if zone is None else {"timezone": zone})}
    user = users.get(user_id) or User(user_id)
    return [_foreseen(taker, cohort, user, told) for cohort in rules.cohorts.values()]


def _foreseen(
    taker: TriggerTaker, cohort: Cohort, user: User, told: Mapping[str, str]
) -> Foreseen:
    found = taker.foresee(cohort, user, told)
    if isinstance(found, Reason):
        return Foreseen(cohort.name, found.value)
    eligibility = found.eligibility
    shares = zip(eligibility.eligible, found.propensities.tolist(), strict=True)
    ordered = sorted(shares, key=lambda share: (-share[1], share[0]))
    return Foreseen(
        cohort.name,
        None,
        [(str(cohort.space[place].key), share) for place, share in ordered[:_LISTED]],
        len(eligibility.eligible),
        len(cohort.space),
        {reason.value: len(places) for reason, places in eligibility.refused.items()},
        eligibility.postponed,
    )
