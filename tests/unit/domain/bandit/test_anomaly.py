"""Leaks of a conversion token are noticed, and honest feedback is left alone."""

import numpy as np
import pytest
from scipy import stats

from experiment_engine.domain.bandit.anomaly import ALARM, Leap, Record, _tail, largest_leap
from experiment_engine.domain.identifiers import ComboKey

RATE, ARMS = 0.02, 12
KEYS = [ComboKey(f"{n}min|push|a|none") for n in range(ARMS)]


def look(before: int, recent: int, rng: np.random.Generator, forged: float = 0.0) -> Leap | None:
    """Look at twelve combos with true rates around 2 %, the first of them with forged ones."""
    rates = np.clip(rng.normal(RATE, 0.006, ARMS), 0.002, 1)
    records = {}
    for key, rate in zip(KEYS, rates, strict=True):
        told = rng.binomial(recent, rate) + (rng.binomial(recent, forged) if key == KEYS[0] else 0)
        records[key, "clevertap"] = Record(before, rng.binomial(before, rate), recent, told)
    return largest_leap(records, rate=RATE, weight=60)


def test_a_forged_twentieth_is_noticed() -> None:
    """Forging 5 % of one combo's decisions is noticed within 1,000 of them, in 95 of 100 runs."""
    rng = np.random.default_rng(20261126)
    found = [look(5_000, 1_000, rng, forged=0.05) for _ in range(500)]

    noticed = [leap for leap in found if leap is not None and leap.combo_key == KEYS[0]]
    assert len(noticed) >= 475
    assert "told by clevertap" in noticed[0].reason


def test_honest_feedback_does_not_stop_learning() -> None:
    """Without forgery there is no alarm in 12 million decisions."""
    rng = np.random.default_rng(7)
    assert [look(2_000, 1_000, rng) for _ in range(500)] == [None] * 500


def test_a_new_combo_may_be_good() -> None:
    """A combo without a history is not suspected for doing well."""
    new = {(KEYS[0], "amplitude"): Record(0, 0, 500, 30)}
    assert largest_leap(new, rate=RATE, weight=60) is None


@pytest.mark.parametrize(("conversions", "trials"), [(12, 100), (40, 900), (70, 1_000)])
def test_the_tail_is_the_beta_binomial_s(conversions: int, trials: int) -> None:
    """The chance of so many conversions is that of the reference library, to a part in 100."""
    ours = _tail(Record(0, 0, trials, conversions), 41.2, 2_018.8)

    assert ours == pytest.approx(
        stats.betabinom.sf(conversions - 1, trials, 41.2, 2_018.8), rel=0.01
    )
    assert ALARM < 1e-5
