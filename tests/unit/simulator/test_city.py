"""The demo's city: what happens in it follows from its truth and its seed."""

from collections import Counter

import numpy as np
import pytest
from tests.support.builders import an_experiment

from experiment_engine.domain.delivery.experiment import Experiment
from experiment_engine.domain.events import Happened
from experiment_engine.domain.identifiers import CohortName, ExperimentId, UserId
from experiment_engine.domain.moments import DAY, HOUR, Instant
from experiment_engine.entrypoints.simulator.city import City, Shape
from experiment_engine.entrypoints.simulator.fast_time import FastClock, SeededChance
from experiment_engine.entrypoints.simulator.setting import demo_rules
from experiment_engine.entrypoints.simulator.truth import Person, Truth, truths

NOW = Instant(20_000 * DAY)
RULES = demo_rules()
TRUTHS = truths({name: cohort.space for name, cohort in RULES.cohorts.items()})
ABANDONERS = CohortName("checkout_abandoners")


def a_city(seed: int = 1) -> City:
    return City(RULES.cohorts, TRUTHS, seed, Shape(people=500))


@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
def test_messages_help_and_choices_matter(truth: Truth) -> None:
    """The best combo wins back at least one and a half times as many as an even split does."""
    for person in a_city().persons[:50]:
        rates = truth.rates(person)
        assert truth.alone < rates.min() < rates.max() < 0.6
        assert truth.gains(person).max() > 1.5 * truth.gains(person).mean()


def test_people_differ_in_what_brings_them_back() -> None:
    """No combo is the best one for everybody."""
    best = {int(TRUTHS[ABANDONERS].rates(person).argmax()) for person in a_city().persons}
    assert len(best) > 1


def test_a_seed_is_a_city() -> None:
    """The same seed gives the same people and events; another one gives others."""

    def told(seed: int) -> list[bytes]:
        city = a_city(seed)
        city.leave(Instant(NOW - DAY), NOW)
        return [fact.raw for fact in city.facts(NOW)]

    assert told(1) == told(1) != told(2)
    assert len(told(1)) > 100


def test_as_many_come_back_as_is_true() -> None:
    """With and without a message, within 4 standard errors; inside the window, and once."""
    city, truth = a_city(), TRUTHS[ABANDONERS]
    made = [_made(number) for number in range(20_000)]
    city.decided(made)
    sent = made[::2]
    for one in sent:
        city.receive(one.id, one.due_at)
    goal = RULES.cohorts[ABANDONERS].goal
    reached: list[Instant] = []
    back: Counter[int] = Counter()
    for fact in city.facts(Instant(NOW + 10 * DAY)):
        if isinstance(fact, Happened) and fact.name == goal.event:
            assert fact.at is not None
            reached.append(fact.at)
            back[int(fact.user_id[4:]) % 2] += 1
    assert NOW <= min(reached) <= max(reached) <= NOW + goal.window
    gains = np.array([truth.gains(_person(city, one))[_place(one)] for one in sent])
    for odd, expected in ((1, np.full(len(sent), truth.alone)), (0, truth.alone + gains)):
        error = np.sqrt((expected * (1 - expected)).sum())
        assert abs(back[odd] - expected.sum()) < 4 * error


def _made(number: int) -> Experiment:
    """Return an experiment of one of the city's people, with one of the combos."""
    space = TRUTHS[ABANDONERS].space
    person = number % 500
    combo = space[(number // 500 * 7 + person) % len(space)]
    return an_experiment(
        id=ExperimentId(f"id-{number}"),
        user_id=UserId(f"usr_{person:05}"),
        cohort=ABANDONERS,
        combo_key=combo.key,
        channel=combo.channel,
        triggered_at=NOW,
        due_at=Instant(NOW + combo.delay),
        window_ends_at=Instant(NOW + RULES.cohorts[ABANDONERS].goal.window),
    )


def _person(city: City, one: Experiment) -> Person:
    return city.persons[int(one.user_id[4:])]


def _place(one: Experiment) -> int:
    return TRUTHS[ABANDONERS].space.by_key[one.combo_key].index


def test_a_fast_clock_stands_until_it_is_started() -> None:
    """Then it runs many times as fast as real time."""
    clock = FastClock(NOW)
    assert clock.now() == clock.now() == NOW
    clock.start(1e9)
    assert clock.now() > NOW + HOUR // 1_000
    clock.set(NOW)
    assert clock.now() == NOW


def test_ids_sort_by_the_citys_time() -> None:
    """Also those of one moment, by when they were made; each is a UUIDv7."""
    chance = SeededChance(1)
    ids = [chance.experiment_id(Instant(NOW + n // 3)) for n in range(100)]
    assert ids == sorted(set(ids))
    assert {(one[14], one[19]) for one in ids} <= {("7", v) for v in "89ab"}
