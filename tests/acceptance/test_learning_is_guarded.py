"""Forged feedback moves little, freezes learning, and can be taken back; changes show."""

import random
from functools import partial

import pytest
from tests.support.builders import happened
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort
from tests.support.engine import RunningEngine
from tests.support.events import Json
from tests.support.start import Start

from experiment_engine.application.rebuild import exclude, recount
from experiment_engine.domain.events import Source
from experiment_engine.domain.identifiers import CohortName, ExperimentId
from experiment_engine.domain.moments import Instant

ANGLES = ["a", "b", "c"]
NAME = CohortName(COHORT)


def start_cohort(start: Start, policy: str = "thompson") -> RunningEngine:
    return start(
        cohorts={COHORT: cohort(angle=ANGLES, policy={"name": policy})},
        holdout={"share": 0.0},
    )


def day(
    engine: RunningEngine, users: int, rates: dict[str, float], rng: random.Random, prefix: str
) -> None:
    """Let users come, get their message, and reach the goal at their angle's rate."""
    names = [f"{prefix}{number}" for number in range(users)]
    taken = engine.engine.traffic.take([happened(TRIGGER, user=name) for name in names])
    engine.deliver(after="2min")
    goals = [
        happened(GOAL, user=made.user_id)
        for made, _ in taken.decided.values()
        if rng.random() < rates[made.combo_key.split("|")[2]]
    ]
    engine.clock.advance("6h")
    engine.engine.traffic.take(goals)
    engine.clock.advance("18h")
    engine.learn()


def shares(engine: RunningEngine) -> dict[str, float]:
    snapshot = engine.engine.policies[NAME].snapshot
    assert snapshot.shares is not None
    return dict(zip(ANGLES, snapshot.shares.tolist(), strict=True))


def learning(engine: RunningEngine) -> Json:
    found: Json = engine.get("/api/stats")["measurement"][COHORT]["learning"]
    return found


def test_a_share_moves_by_a_set_amount_an_hour(start: Start) -> None:
    """However good a combo looks, its share of the traffic rises by at most 0.2 in an hour."""
    engine = start_cohort(start)
    rng = random.Random(1)
    before = shares(engine)
    users = [f"u{number}" for number in range(300)]
    taken = engine.engine.traffic.take([happened(TRIGGER, user=user) for user in users])
    engine.deliver(after="2min")
    good = [made for made, _ in taken.decided.values() if made.combo_key.split("|")[2] == "b"]
    engine.engine.traffic.take(
        [happened(GOAL, user=made.user_id) for made in good if rng.random() < 0.5]
    )
    engine.learn()

    moved = shares(engine)["b"] - before["b"]
    assert moved == pytest.approx(0.2, abs=1e-9)
    assert learning(engine)["limited"] is True


def test_a_leap_freezes_learning_until_somebody_looked(start: Start) -> None:
    """Forged conversions stop learning at the last good snapshot, which the API says."""
    engine = start_cohort(start)
    rng = random.Random(2)
    honest = dict.fromkeys(ANGLES, 0.03)
    for number in range(4):
        day(engine, 900, honest, rng, f"d{number}-")
    good = engine.engine.policies[NAME].snapshot.id
    forged = {**honest, "a": 0.4}

    day(engine, 900, forged, rng, "forged-")
    engine.learn()

    told = learning(engine)
    assert "|a|" in told["frozen"]["reason"]
    assert engine.engine.policies[NAME].snapshot.id == told["frozen"]["at"] == good
    day(engine, 50, honest, rng, "later-")
    assert engine.engine.policies[NAME].snapshot.id == good
    assert "learning is frozen" in engine.log.getvalue()

    answer = engine.post(f"/api/cohorts/{COHORT}/unfreeze").raise_for_status().json()
    assert answer == {"cohort": COHORT, "was_frozen": True}
    day(engine, 50, honest, rng, "after-")
    assert learning(engine)["frozen"] is None
    assert engine.engine.policies[NAME].snapshot.id != good


def test_a_change_of_the_world_shows(start: Start) -> None:
    """When conversions no longer come as foretold, the API names the day and the numbers."""
    engine = start_cohort(start, "factorial_thompson")
    rng = random.Random(3)
    for number in range(8):
        day(engine, 400, dict.fromkeys(ANGLES, 0.10), rng, f"d{number}-")
    assert learning(engine)["changes"] == []
    for number in range(6):
        day(engine, 400, dict.fromkeys(ANGLES, 0.03), rng, f"e{number}-")

    (change,) = learning(engine)["changes"]
    assert change["conversions"] < change["expected_conversions"]
    assert change["since"] <= change["noticed"]


def test_a_source_can_be_taken_back_in_a_running_engine(start: Start) -> None:
    """Without the forged conversions the counters are those of the ledger, without a restart."""
    engine = start_cohort(start)
    day(engine, 60, dict.fromkeys(ANGLES, 0.0), random.Random(4), "u")
    for made in engine.embedded.run(lambda tx: tx.experiments_after(ExperimentId(""), 20)):
        engine.converted(user_id=made.user_id)
    before = engine.get("/api/stats")["summary"]["total_converted"]

    storage, cohorts = engine.engine.storage, engine.engine.rules.cohorts
    ever = (Instant(0), engine.clock.now())
    number = storage.run(partial(exclude, Source.CLEVERTAP, ever, cohorts))

    assert before == number == 20
    assert engine.get("/api/stats")["summary"]["total_converted"] == 0
    assert not storage.run(recount).differences
