"""Distributions are made once for each situation, and are the same whenever they are made."""

import numpy as np
import pytest
from tests.support.builders import a_cohort
from tests.unit.domain.bandit.histories import a_history

from experiment_engine.domain.bandit.cells import Cells
from experiment_engine.domain.bandit.context import ContextLevels
from experiment_engine.domain.bandit.policies import build_policy
from experiment_engine.domain.bandit.snapshot import PolicyInForce, Snapshot
from experiment_engine.domain.bandit.statistics import Statistics
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import SnapshotId
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.reasons import Reason

LEVELS = ContextLevels((("bihar", "goa"), ("hi",), (), ()))
ALL = Eligibility(tuple(range(12)), {})
SOME = Eligibility((0, 5, 7), {Reason.OFFER_BUDGET: (1, 2, 3, 4, 6, 8, 9, 10, 11)})


def in_force(policy: str) -> PolicyInForce:
    cohort = a_cohort(delays=("2min", "15min", "1h"), channels=("push", "whatsapp"), policy=policy)
    made = build_policy(cohort)
    counts = a_history(80, 100, 3)
    nowhere = np.zeros((80, 2), np.int64)
    cells = Cells(
        np.concatenate([counts.contexts, nowhere], axis=1),
        counts.arms,
        counts.postponed,
        counts.trials,
        counts.successes,
        LEVELS.sizes,
    )
    nothing = Statistics.none(12)
    snapshot = Snapshot(SnapshotId("s"), Instant(0), nothing, made.fit(cells, 1), LEVELS)
    return PolicyInForce(cohort, snapshot, made.uses_context)


def test_a_situation_has_one_distribution() -> None:
    """The same eligible set and context give the same object, others give others."""
    policy = in_force("factorial_thompson")
    goa, bihar = (policy.levels_of({"region": region})[0] for region in ("goa", "bihar"))

    made = policy.distribution(ALL, goa)

    assert policy.distribution(ALL, goa) is made
    ids = {policy.distribution(e, c).id for e in (ALL, SOME) for c in (goa, bihar)}
    assert len(ids) == 4


def test_a_distribution_is_over_the_eligible_combos() -> None:
    """It has one probability for each eligible combo, and their context's key."""
    policy = in_force("factorial_thompson")
    context, key = policy.levels_of({"region": "goa", "language": "hi", "plan": "unknown"})

    made = policy.distribution(SOME, context)

    assert len(made.propensities) == 3
    assert made.propensities.sum() == pytest.approx(1, abs=1e-12)
    assert made.context == key == '{"region":"goa","language":"hi"}'
    assert made.draw(7)[0] in SOME.eligible


def test_without_context_a_policy_has_one_distribution_for_all() -> None:
    """A policy that does not look at the context is not asked, or stored, once for each."""
    policy = in_force("thompson")

    made = [policy.distribution(ALL, (region, 0, 0, 0)) for region in range(3)]

    assert made[0] is made[1] is made[2]
    assert made[0].context == ""


def test_made_again_it_is_the_same() -> None:
    """Another process, or this one after it forgot, makes the same id, shares and draws."""
    one, other = in_force("factorial_thompson"), in_force("factorial_thompson")
    again = Eligibility(SOME.eligible, SOME.refused)

    first, second = one.distribution(SOME, (1, 0, 0, 0)), other.distribution(again, (1, 0, 0, 0))

    assert first.id == second.id
    assert np.array_equal(first.propensities, second.propensities)
    assert [first.draw(seed) for seed in range(50)] == [second.draw(seed) for seed in range(50)]


def test_what_is_postponed_is_a_situation_of_its_own() -> None:
    """After the quiet hours the same combos have other probabilities, under another id."""
    policy = in_force("factorial_thompson")
    late = Eligibility(ALL.eligible, {}, postponed=True)

    in_time, postponed = (policy.distribution(e, (0, 0, 0, 0)) for e in (ALL, late))

    assert in_time.id != postponed.id
    assert not np.array_equal(in_time.propensities, postponed.propensities)
