"""A provider's word about one message: what it settles, and what it never changes (R2)."""

from collections.abc import Iterator
from itertools import permutations

import pytest
from tests.support.builders import CHECKOUT, NOW, USER, World, a_cohort, a_world, happened, opened
from tests.support.builders import some_rules as rules_of
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.domain.delivery.limits import OfferBudget
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.events import Fact, Reported, Source
from experiment_engine.domain.identifiers import ExperimentId

ONE_COMBO = a_cohort(CHECKOUT, delays=("2min",), angles=("urgency",), offers=("gift",))


@pytest.fixture
def world() -> Iterator[World]:
    """Return one cohort with one combo, whose offer has a budget."""
    with a_world(rules_of(ONE_COMBO, offers={"gift": OfferBudget(per_day=5)})) as opened_world:
        yield opened_world


def a_report(made: str, name: str = "delivered", *, reached: bool = True) -> Reported:
    return Reported(
        experiment_id=ExperimentId(made),
        name=name,
        reached=reached,
        at=NOW,
        key=f"meta:{made}:{name}",
        raw=b"{}",
        source=Source.META,
        reason=None if reached else "code_131049",
    )


def failed(made: str) -> Reported:
    return a_report(made, "failed", reached=False)


def waiting(world: World) -> str:
    made = world.one(happened()).experiment_id
    assert made is not None
    world.clock.advance("2min")
    return made


@pytest.mark.parametrize("answer", [Verdict.UNCERTAIN, Verdict.ACCEPTED, Verdict.NOT_TAKEN])
def test_a_report_before_the_answer(world: World, answer: Verdict) -> None:
    """What is proved while the call is under way stays, whatever the call then comes to."""
    made = waiting(world)
    (call,) = world.claim().calls
    assert world.one(a_report(made)).status == "recorded"
    assert world.states() == [("sent", None)]
    world.record((call, an_answer(answer)))

    assert world.states() == [("sent", None)]
    world.clock.advance("20min")
    assert not world.claim().calls  # and nothing goes out a second time
    (attempt,) = world.rows(tables.attempt)
    assert (attempt["verdict"], attempt["reason"]) == ("accepted", "delivered")


def test_a_failure_before_the_answer(world: World) -> None:
    """It ends the message, and gives back its place and its offer."""
    made = waiting(world)
    world.claim()
    world.one(failed(made))

    assert world.states() == [("failed", "code_131049")]
    assert world.experiment(made)["placed_at"] is None
    assert [row["used"] for row in world.rows(tables.offer_use)] == [
        0,
        0,
    ]  # of the day, and in all


def test_one_report_in_a_batch_of_its_own_kind(world: World) -> None:
    """Repeated in one batch, a report counts once."""
    made = waiting(world)
    world.deliver(an_answer(Verdict.UNCERTAIN))
    results = world.take(a_report(made), a_report(made))
    assert [result.status for result in results] == ["recorded", "duplicate"]


@pytest.mark.parametrize("order", list(permutations(("sent", "delivered", "read", "opened"))))
@pytest.mark.parametrize("answer", [Verdict.ACCEPTED, Verdict.UNCERTAIN])
def test_any_order(world: World, order: tuple[str, ...], answer: Verdict) -> None:
    """In whatever order reports come, the message is sent, opened, and one trial."""
    made = waiting(world)
    world.deliver(an_answer(answer))
    for name in order:
        fact: Fact = opened(made) if name == "opened" else a_report(made, name)
        world.take(fact)

    assert world.states() == [("sent", None)]
    assert world.experiment(made)["opened_at"] is not None
    (counts,) = world.counts().values()
    assert counts[:4] == (1, 0, 1, 1)  # trials, successes, sent, opened


@pytest.mark.parametrize("late", [True, False])
def test_not_reached(world: World, late: bool) -> None:  # noqa: FBT001 - a table
    """Sent and not reached is no trial, whether the conversion came before or after."""
    made = waiting(world)
    world.deliver()
    conversion = happened("purchase", user=USER)
    world.take(*((failed(made), conversion) if late else (conversion, failed(made))))

    assert world.states() == [("sent", "not_reached")]
    (counts,) = world.counts().values()
    assert counts == (0, 0, 1, 0, 1)  # it stays counted as sent and converted, and teaches nothing
