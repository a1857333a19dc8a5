"""Another policy is judged on the log by what the log can tell, and refused where it cannot."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from tests.support.builders import (
    CHECKOUT,
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    some_rules,
)

from experiment_engine.application.evaluate import Judged, judge, read_log
from experiment_engine.application.evidence import Logged
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.identifiers import ComboKey, ExperimentId
from experiment_engine.domain.measurement.off_policy import NotEnoughOverlap
from experiment_engine.domain.moments import DAY, HOUR, Instant

ANGLES = ("a", "b", "c", "d")
RATES = dict(zip(ANGLES, (0.05, 0.05, 0.05, 0.2), strict=True))


def cohort(policy: str = "uniform", angles: Sequence[str] = ANGLES, **options: float) -> Cohort:
    return a_cohort(delays=("2min",), angles=angles, policy=policy, options=options)


def a_log(number: int, shares: Sequence[float], seed: int = 1) -> list[Logged]:
    """Return a log of twenty days in which one angle is four times as good as the others."""
    rng = np.random.default_rng(seed)
    keys = [ComboKey(f"2min|push|{angle}|none") for angle in ANGLES]
    arms = rng.choice(4, size=number, p=shares)
    return [
        Logged(
            ExperimentId(f"{row:06}"),
            Instant(row * 20 // number * DAY),
            keys[arm],
            shares[arm],
            tuple(keys),
            {},
            Instant(row * 20 // number * DAY) if rng.random() < RATES[ANGLES[arm]] else None,
            is_trial=True,
        )
        for row, arm in enumerate(arms)
    ]


def judged(target: Cohort, rows: Sequence[Logged]) -> Judged:
    return judge(target, rows, lambda _: None)


def test_an_even_split_of_a_learning_log() -> None:
    """What an even split would have reached is found from a log that preferred one combo."""
    found = judged(cohort("uniform"), a_log(20_000, (0.1, 0.1, 0.1, 0.7)))

    truth = np.mean(list(RATES.values()))
    for value in (found.ips, found.snips, found.doubly_robust):
        assert value is not None
        assert value.interval.low <= truth <= value.interval.high
        assert value.value == pytest.approx(truth, abs=0.01)
    assert found.behind is not None
    assert found.behind.interval.low > 0
    assert found.is_worse


def test_a_better_policy_is_seen_to_be_better() -> None:
    """A policy that learns is judged better than the even split that was done."""
    found = judged(cohort("epsilon_greedy"), a_log(20_000, (0.25,) * 4))

    assert found.snips is not None
    assert found.snips.value == pytest.approx(
        0.8 * 0.2 + 0.2 * np.mean(list(RATES.values())), abs=0.02
    )
    assert found.behind is not None
    assert found.behind.interval.high < 0
    assert not found.is_worse


@pytest.mark.parametrize(("took", "is_known"), [(2 * HOUR, True), (30 * HOUR, False)])
def test_it_knows_nothing_before_it_comes(took: int, *, is_known: bool) -> None:
    """On the second day, conversions of the first teach only if they have come by then."""
    rows = [row._replace(converted_at=None) for row in a_log(4_000, (0.25,) * 4)]
    days = [row for row in rows if row.triggered_at < 2 * DAY]

    def if_all_converted(angle: str) -> Judged:
        won = [
            row._replace(converted_at=Instant(row.triggered_at + took))
            if f"|{angle}|" in row.combo_key and row.triggered_at < DAY
            else row
            for row in days
        ]
        return judged(cohort("epsilon_greedy"), won)

    one, other = if_all_converted("a"), if_all_converted("b")

    assert (one.sums.ww != other.sums.ww) == is_known


def test_it_refuses_where_the_log_cannot_tell() -> None:
    """A policy that sends what was hardly ever sent is not judged, and the reason is said."""
    found = judged(cohort(angles=("a",)), a_log(2_000, (0.02, 0.32, 0.33, 0.33)))

    assert isinstance(found.refused, NotEnoughOverlap)
    assert "of the other policy" in found.refused.reason
    assert not found.is_worse


def test_what_it_could_not_have_sent_is_counted() -> None:
    """Messages where nothing of the other configuration was eligible are left out, and said."""
    found = judged(cohort(angles=("new",)), a_log(100, (0.25,) * 4))

    assert found.left_out == 100
    assert found.sums.w == 0


def test_an_empty_log_is_refused() -> None:
    """Without messages nothing can be said."""
    assert judged(cohort(), []).refused is not None


@pytest.fixture
def world() -> Iterator[World]:
    """Return four combos and a holdout."""
    with a_world(some_rules(cohort("epsilon_greedy"), holdout_share=0.2)) as opened:
        yield opened


def test_the_log_is_what_the_engine_kept(world: World) -> None:
    """Read back are the trials of messaged users, with what was eligible and what it came to."""
    users = [f"u{number}" for number in range(30)]
    world.take(*(happened(user=user, properties={"region": "Bihar"}) for user in users))
    world.clock.advance("2min")
    world.deliver()
    made = [row for row in world.experiments() if not row["held_out"]]
    world.one(converted(made[0]["id"]))

    with world.storage.evidence() as log:
        rows = read_log(
            world.rules.cohorts[CHECKOUT],
            world.mode,
            log,
            Instant(world.now + DAY),
            lambda _: None,
        )

    trials = [row for row in rows if row.is_trial]
    assert [row.id for row in trials] == [row["id"] for row in made]
    assert [row.successes for row in trials] == [1] + [0] * (len(made) - 1)
    assert {len(row.eligible) for row in trials} == {4}
    assert trials[0].named == {"region": "Bihar"}
