"""What was sent before the engine counted teaches, once, and is in no statistic."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import CHECKOUT, World, a_cohort, a_world, happened, some_rules

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.application.gather import gather
from experiment_engine.application.history import History, read_history, take_in_history
from experiment_engine.application.rebuild import rebuild, recount
from experiment_engine.application.report import Report
from experiment_engine.domain.bandit.reward import Group
from experiment_engine.domain.events import Happened
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Instant

SOON, LATE = "2min|push|urgency|none", "1h|push|urgency|none"
COHORT = a_cohort(angles=("urgency",), policy="thompson")
WINDOW = COHORT.goal.window
LONG_AGO = 1_700_000_000_000
NEVER_ENDS = Instant(1 << 50)


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Return one cohort of two combos, on each database."""
    with a_world(some_rules(COHORT), database=request.param) as opened:
        yield opened


def sent(user: int, at: int, combo: str = SOON, **told: object) -> Happened:
    """Return the event of a message of the past, as the engine tells Amplitude of one."""
    properties = {"cohort": CHECKOUT, "combo_key": combo, **told}
    return happened("experiment_sent", user=f"past{user}", at=at, properties=properties)


def goal(user: int, at: int) -> Happened:
    return happened("purchase", user=f"past{user}", at=at)


def read(*facts: Happened, until: Instant = NEVER_ENDS) -> History:
    return read_history(facts, {CHECKOUT: COHORT}, until)


def learn(world: World, *facts: Happened) -> History:
    return world.storage.run(lambda tx: take_in_history(read(*facts), world.mode, tx))


def deliver_all(world: World) -> None:
    for wait in ("2min", "58min"):
        world.clock.advance(wait)
        world.deliver()


def counted(world: World) -> list[list[dict[str, object]]]:
    return [world.rows(table) for table in (tables.combo_count, tables.conversion_count)]


def a_past() -> list[Happened]:
    """Return 400 messages, half of each combo; of the late ones every fourth led to the goal."""
    facts = []
    for user in range(400):
        at = LONG_AGO + user * 10 * MINUTE
        combo = (SOON, LATE)[user % 2]
        facts.append(sent(user, at, combo, language=("hi", "en")[user // 2 % 2]))
        if user % 8 == 1:
            facts.append(goal(user, at + HOUR))
    return facts


def test_it_teaches(world: World) -> None:
    """Policies begin with what exports say, in the contexts that they say."""
    taken = learn(world, *a_past())
    snapshot = world.learn().fresh[CHECKOUT].snapshot

    assert Counter(bool(trial.converted) for trial in taken.trials) == {True: 50, False: 350}
    assert snapshot.statistics.trials.tolist() == [200, 200]
    assert snapshot.statistics.successes.tolist() == [0, 50]
    assert snapshot.model.propensities((), (0, 1))[1] > 0.9
    assert {row["context"] for row in world.rows(tables.combo_count) if row["hour"] >= 0} == {
        '{"language":"hi"}',
        '{"language":"en"}',
    }


def test_nothing_is_sent(world: World) -> None:
    """History makes no experiment and no delivery (R15)."""
    learn(world, *a_past())
    world.clock.advance("1h")

    assert not world.deliver()
    assert world.experiments() == []


def test_once_more_changes_nothing(world: World) -> None:
    """The same history twice counts once, also where the export tells events twice."""
    learn(world, *a_past())
    once = counted(world)
    past = a_past()
    named = [replace(fact, key=f"key{place}") for place, fact in enumerate(past)]
    learn(world, *named, *reversed(named))

    assert counted(world) == once


def test_it_can_be_forgotten(world: World) -> None:
    """Without its history every counter is what it was before."""
    world.take(happened())
    before = counted(world)
    learn(world, *a_past())
    assert counted(world) != before

    learn(world)

    assert counted(world) == before


def test_the_engine_s_own_time_is_its_own(world: World) -> None:
    """From its own first trigger on the engine counts by itself, whatever exports say."""
    world.take(happened())
    day = world.now - world.now % DAY
    taken = learn(world, sent(1, day - HOUR), sent(2, day + HOUR), sent(3, day + 2 * DAY))

    assert len(taken.trials) == 1
    assert taken.left_out == {"own": 2}


def test_a_rebuild_keeps_it(world: World) -> None:
    """Counting the experiments anew finds no difference, and leaves history where it is."""
    world.take(happened())
    learn(world, *a_past())
    before = counted(world)

    assert world.storage.run(recount).differences == []
    world.storage.run(rebuild)

    assert counted(world) == before


def test_no_statistic_has_it(world: World) -> None:
    """What people are shown stays as it was; history stands beside it, by itself."""
    world.take(happened(), happened(user="usr_2"))
    deliver_all(world)
    report = Report(StorageReader(world.storage.readers), world.rules, world.mode, world.clock)
    before = report.statistics()

    learn(world, *a_past())
    after = report.statistics()

    assert after.pop("history") == {"trials": 400, "successes": 50}
    assert before.pop("history") == {"trials": 0, "successes": 0}
    assert after == before
    assert world.counts()[Group.HISTORY] == (400, 50, 0, 0, 0)


def test_no_feedback_looks_forged_beside_it(world: World) -> None:
    """Live conversions are not held against those of history: others sent, and others told."""
    learn(world, *(sent(user, LONG_AGO, (SOON, LATE)[user % 2]) for user in range(3_000)))
    world.learn()
    world.take(*(happened(user=f"u{number}") for number in range(60)))
    deliver_all(world)
    world.take(*(happened("purchase", user=f"u{number}") for number in range(50)))
    with world.storage.evidence() as evidence:
        gathered = gather(world.policies, world._learning, evidence, world.now)

    assert gathered.materials
    assert not gathered.suspects


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"cohort": "gone"}, "cohort_unknown"),
        ({"cohort": None}, "cohort_unknown"),
        ({"combo": "9h|push|urgency|none"}, "combo_unknown"),
        ({"combo": ""}, "combo_unknown"),
        ({"sent_as": LATE}, "replaced"),
        ({"postponed": True}, "postponed"),
    ],
)
def test_what_is_left_out(told: dict[str, object], reason: str) -> None:
    """A row that says nothing certain about a combo of today is no trial, and it is said why."""
    combo = str(told.pop("combo", SOON))
    found = read(sent(1, LONG_AGO, combo, **told))

    assert (found.trials, found.left_out) == ([], {reason: 1})


@pytest.mark.parametrize(("late", "kept"), [(0, 1), (1, 0)])
def test_an_open_window_is_no_outcome(late: int, kept: int) -> None:
    """A message whose window ends after the newest event of the export is left out."""
    triggered = LONG_AGO - 2 * MINUTE
    found = read(sent(1, LONG_AGO), until=Instant(triggered + WINDOW - late))

    assert len(found.trials) == kept
    assert found.left_out == ({} if kept else {"window_open": 1})


HOURS = st.integers(0, 200)
MESSAGES = st.lists(st.tuples(st.integers(1, 3), HOURS, st.sampled_from([SOON, LATE])), max_size=8)
GOALS = st.lists(st.tuples(st.integers(1, 3), HOURS), max_size=6)


@given(messages=MESSAGES, goals=GOALS, luck=st.randoms(use_true_random=False))
def test_a_goal_counts_for_the_newest_message(
    messages: Sequence[tuple[int, int, str]], goals: Sequence[tuple[int, int]], luck: object
) -> None:
    """Each goal belongs to the newest message whose window holds it, in any order of the rows."""
    told = [
        *(sent(user, LONG_AGO + hour * HOUR, combo) for user, hour, combo in messages),
        *(goal(user, LONG_AGO + hour * HOUR) for user, hour in goals),
    ]
    luck.shuffle(told)  # type: ignore[attr-defined]

    found = read(*told)

    delays = {combo.key: combo.delay for combo in COHORT.space.combos}
    begun: Mapping[int, list[tuple[int, str]]] = {
        user: sorted(
            (LONG_AGO + hour * HOUR - delays[combo], combo)  # type: ignore[index]
            for one, hour, combo in messages
            if one == user
        )
        for user in (1, 2, 3)
    }
    expected: Counter[tuple[int, bool]] = Counter()
    for user, mine in begun.items():
        won = set()
        for at in (LONG_AGO + hour * HOUR for one, hour in goals if one == user):
            holding = [place for place, (t, _) in enumerate(mine) if t <= at <= t + WINDOW]
            won.update(holding[-1:])
        expected.update((t, place in won) for place, (t, _) in enumerate(mine))
    assert Counter((t.triggered_at, t.converted is not None) for t in found.trials) == expected
