"""PostgreSQL: what several processes on one database owe one another."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from tests.contracts.test_any_life import check_counters, experiments_of
from tests.support.builders import (
    NOW,
    PUSH,
    WHATSAPP,
    World,
    a_cohort,
    converted,
    happened,
    some_rules,
)
from tests.support.cutting_proxy import a_cutting_proxy
from tests.support.fakes import an_answer
from tests.support.postgres import a_database, shared_server

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.postgres import PostgresStorage, migrate_database
from experiment_engine.adapters.storage.postgres_transaction import PostgresTransaction
from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.application.changes import Changes
from experiment_engine.domain.delivery.limits import OfferBudget
from experiment_engine.domain.errors import (
    ConfigurationError,
    OutcomeUnknown,
    StorageUnavailable,
    UnknownSchema,
)
from experiment_engine.domain.identifiers import Channel, EventName, ExperimentId, UserId
from experiment_engine.domain.moments import Duration, Instant
from experiment_engine.domain.rules import Rules

PATIENCE = 10.0  # seconds; only a failing test waits that long
USER, OTHER = UserId("usr_1"), UserId("usr_2")


@pytest.fixture
def url() -> Iterator[str]:
    """Return the address of a database with the schema in it."""
    with a_database() as address:
        yield address


Open = Callable[[], PostgresStorage]


@pytest.fixture
def another(url: str) -> Iterator[Open]:
    """Return what opens the database once more, as another process would."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(PostgresStorage(url)))


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Return threads, for what has to wait."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


def waits(outcome: Future[object]) -> bool:
    """Say whether something is still waiting after it had time to end."""
    time.sleep(0.15)
    return not outcome.done()


_COHORT = a_cohort(delays=("2min",), angles=("urgency",), again_after=Duration(0))
_RULES = some_rules(_COHORT)


def _apart(storage: PostgresStorage, rules: Rules = _RULES) -> World:
    """Return a host of its own: its ids are nobody else's."""
    return World(storage, rules, chance=SystemChance())


# Starts


def test_many_starts_at_once_on_an_empty_database(aside: ThreadPoolExecutor) -> None:
    """Processes that find an empty database make its schema once, and all of them come up."""
    with a_database(empty=True) as address:
        opened = list(aside.map(lambda _: PostgresStorage(address), range(4)))
        assert len({storage.salt() for storage in opened}) == 1
        for storage in opened:
            storage.close()


@pytest.mark.parametrize("version", ["0001", "9999", ""])
def test_an_unknown_schema_is_refused(url: str, version: str) -> None:
    """Another version's database is not opened, and told how to go on."""
    shared_server().execute(
        f"UPDATE alembic_version SET version_num = '{version}'", url.rpartition("/")[2]
    )
    with pytest.raises(UnknownSchema, match="experiment-engine migrate"):
        PostgresStorage(url)


def test_migrating_twice(url: str) -> None:
    """A database that is at the newest schema stays as it is."""
    before, after = migrate_database(url)
    assert before == after


def test_what_may_lose_commits_is_refused(url: str) -> None:
    """A server that does not wait for its disk is not worked on."""
    name = url.rpartition("/")[2]
    shared_server().execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(ConfigurationError, match="synchronous_commit = on"):
        PostgresStorage(url)


@pytest.mark.parametrize(
    "wrong", ["postgresql://me:pass-word@127.0.0.1:1/x", "postgresql://me:pass-word@[::1]:1/x"]
)
def test_nobody_there(wrong: str) -> None:
    """A server that is not there is said in one line, without the password."""
    with pytest.raises(StorageUnavailable, match="DATABASE_URL") as failure:
        PostgresStorage(wrong)
    assert "pass-word" not in str(failure.value)
    assert str(failure.value).isprintable()


def test_the_servers_time(another: Open) -> None:
    """All hosts go by the time of the server."""
    storage = another()
    with storage.readers.connect() as connection:
        now = connection.execute(text("SELECT extract(epoch FROM clock_timestamp()) * 1000"))
        assert abs(float(now.scalar_one()) - storage.clock.now()) < 250


def test_readers_cannot_write(another: Open) -> None:
    """What reports read through refuses to write."""
    with another().readers.connect() as connection, pytest.raises(Exception, match="read-only"):
        connection.execute(text("DELETE FROM experiment"))


def test_a_mistake_is_not_trouble(another: Open) -> None:
    """A wrong statement is a mistake of ours, and not told as a database that is away."""
    storage = another()
    with pytest.raises(ProgrammingError, match="nobody"):
        storage.run(lambda tx: tx.core.execute(text("SELECT * FROM nobody")))
    assert storage.run(lambda tx: tx.failures_in_a_row()) == {}


# Locks


@pytest.mark.parametrize("second", [[USER], [OTHER, USER]])
def test_a_user_is_decided_about_by_one_at_a_time(
    another: Open, aside: ThreadPoolExecutor, second: list[UserId]
) -> None:
    """Who is known to one transaction is waited for by the next, also who has no row yet."""
    one, other = another(), another()
    with one.transaction() as tx:
        tx.users([USER], Instant(0), [])
        waiting = aside.submit(other.run, lambda tx: tx.users(second, Instant(0), []))
        assert waits(waiting)
        assert one.run(lambda tx: tx.users([UserId("usr_3")], Instant(0), [])) == {}
    assert waiting.result(PATIENCE) == {}


def test_the_owner_of_a_named_experiment_is_locked(
    another: Open, aside: ThreadPoolExecutor
) -> None:
    """Who is known only by an experiment's id is locked as well."""
    one, other = _apart(another()), another()
    named = ExperimentId(str(one.one(happened()).experiment_id))
    with one.storage.transaction() as tx:
        tx.users([USER], Instant(0), [])
        waiting = aside.submit(other.run, lambda tx: tx.users([], Instant(0), [named]))
        assert waits(waiting)
    assert list(waiting.result(PATIENCE)) == [USER]


def test_a_claim_passes_over_who_is_being_decided_about(another: Open) -> None:
    """A delivery whose user is locked is left for the next claim; nobody waits."""
    world, other = _apart(another()), another()
    world.take(happened(user=USER), happened(user=OTHER))
    world.clock.advance("2min")
    with other.transaction() as tx:
        tx.users([USER], Instant(0), [])
        assert [call.recipients.keys() for call in world.claim().calls] == [{OTHER}]
    assert [call.recipients.keys() for call in world.claim().calls] == [{USER}]


def test_one_claims_for_a_channel_at_a_time(another: Open) -> None:
    """Calls in flight are counted over all: who counts keeps others from beginning more."""
    one, other = _apart(another()), _apart(another())
    one.take(*(happened(user=f"u{number}") for number in range(5)))
    one.clock.advance("2min")
    with other.storage.transaction() as tx:
        assert tx.calls_elsewhere([PUSH], [], NOW) == {PUSH: 0}
        assert not one.claim().calls  # the other is at it
        assert one.storage.run(lambda tx: tx.calls_elsewhere([WHATSAPP], [], NOW)) == {WHATSAPP: 0}
    calls = one.claim(3).calls
    assert len(calls) == 3
    other.clock = one.clock
    assert not other.claim(3).calls  # all three are in flight, elsewhere
    one.record((calls[0], an_answer()))
    assert len(other.claim(3).calls) == 1


def test_own_calls_are_not_counted_twice(another: Open) -> None:
    """A worker takes its own calls off by itself; what it names here are others' no more."""
    world = _apart(another())
    world.take(*(happened(user=f"u{number}") for number in range(2)))
    world.clock.advance("2min")
    mine = [call.id for call in world.claim(2).calls]
    elsewhere = world.storage.run(lambda tx: tx.calls_elsewhere([PUSH], mine[:1], world.now))
    assert elsewhere == {PUSH: 1}


def test_a_pause_waits_for_claims_under_way(another: Open, aside: ThreadPoolExecutor) -> None:
    """Once a pause is answered, nothing that was claimed before it is still to be committed."""
    one, other = another(), another()
    with one.transaction() as tx:
        tx.calls_elsewhere([PUSH], [], NOW)
        pausing = aside.submit(other.run, lambda tx: tx.set_paused("*", paused=True, at=NOW))
        assert waits(pausing)
        assert not tx.switches(NOW).paused
    pausing.result(PATIENCE)
    assert one.run(lambda tx: tx.switches(NOW)).paused == {"*"}


def test_the_send_rate_is_one_for_all(another: Open, aside: ThreadPoolExecutor) -> None:
    """Two hosts that claim at the same moment share the rate."""
    rules = some_rules(_COHORT, send_per_second=10.0)
    worlds = [_apart(another(), rules), _apart(another(), rules)]
    worlds[0].take(*(happened(user=f"u{number}") for number in range(50)))
    for world in worlds:
        world.clock.advance("2min")
    claimed = list(aside.map(lambda world: len(world.claim().calls), worlds * 3))
    assert sum(claimed) == 10


# Counting together


def test_refusals_in_a_row_are_counted_by_all(another: Open, aside: ThreadPoolExecutor) -> None:
    """However many count at once, no refusal is lost."""
    storages = [another() for _ in range(4)]

    def count(tx: PostgresTransaction) -> None:
        known = tx.failures_in_a_row(exact=True)
        tx.set_failures_in_a_row(PUSH, known.get(PUSH, 0) + 1, None)

    for _ in aside.map(lambda number: storages[number % 4].run(count), range(40)):
        pass
    assert storages[0].run(lambda tx: tx.failures_in_a_row()) == {PUSH: 40}


def test_one_probe_for_all(another: Open, aside: ThreadPoolExecutor) -> None:
    """A failing channel is tried again by one message, whoever takes triggers in."""
    worlds = [_apart(another()) for _ in range(4)]
    worlds[0].storage.run(lambda tx: tx.set_failures_in_a_row(PUSH, 20, Instant(NOW - 1)))
    outcomes = list(aside.map(lambda n: worlds[n].one(happened(user=f"u{n}")).status, range(4)))
    assert sorted(outcomes) == ["ignored", "ignored", "ignored", "scheduled"]


def test_an_offer_budget_is_one_for_all(another: Open, aside: ThreadPoolExecutor) -> None:
    """Two channels, two hosts, one budget: not one message more carries the offer."""
    cohort = a_cohort(
        delays=("2min",), angles=("urgency",), channels=("push", "whatsapp"), offers=("trial",)
    )
    rules = some_rules(cohort, offers={"trial": OfferBudget(7)})
    worlds = [_apart(another(), rules) for _ in range(2)]
    worlds[0].take(*(happened(user=f"u{number}") for number in range(60)))
    for world in worlds:
        world.clock.advance("2min")
    lanes: list[dict[Channel, int]] = [{PUSH: 3}, {WHATSAPP: 3}]
    for _ in range(6):
        list(aside.map(lambda pair: pair[0].claim(pair[1]), zip(worlds, lanes, strict=True)))
    states = Counter(row["state"] for row in worlds[0].experiments())
    assert states["claimed"] <= 7
    with worlds[0].storage.readers.connect() as connection:
        assert connection.execute(text("SELECT max(used) FROM offer_use")).scalar_one() <= 7


@pytest.mark.parametrize("budget", [OfferBudget(per_day=7), OfferBudget(total=7)])
def test_what_stands_in_keeps_the_budget_exact(
    another: Open, aside: ThreadPoolExecutor, budget: OfferBudget
) -> None:
    """Four hosts claim at the same time: exactly the budget has the offer, all others go out."""
    cohort = a_cohort(
        delays=("2min",),
        angles=("urgency", "helpful"),
        channels=("push", "whatsapp"),
        offers=("none", "trial"),
        policy="uniform",
    )
    rules = some_rules(cohort, offers={"trial": budget})
    worlds = [_apart(another(), rules) for _ in range(4)]
    worlds[0].take(*(happened(user=f"u{number}") for number in range(120)))
    for world in worlds:
        world.clock.advance("2min")
    lanes: list[dict[Channel, int]] = [{PUSH: 5}, {WHATSAPP: 5}]
    for _ in range(20):
        list(aside.map(lambda n: worlds[n].deliver_some(lanes[n % 2]), range(4)))
    while worlds[0].deliver():
        pass
    rows = worlds[0].experiments()
    drawn = [row for row in rows if row["combo_key"].endswith("trial")]
    assert {row["state"] for row in rows} == {"sent"}
    assert len(drawn) > 20
    assert sum(row["replaced_by"] is None for row in drawn) == 7
    assert {r["used"] for r in worlds[0].rows(tables.offer_use)} == {7}


# Others in the way

_TOUCH = text(
    "INSERT INTO pause VALUES (:scope, 1) ON CONFLICT (scope) DO UPDATE SET since = pause.since"
)


def test_a_deadlock_is_tried_again(another: Open, aside: ThreadPoolExecutor) -> None:
    """Two that wait for each other both get through in the end."""
    storages, met = [another(), another()], threading.Barrier(2, timeout=PATIENCE)
    tries: Counter[int] = Counter()

    def cross(number: int) -> Callable[[PostgresTransaction], None]:
        def work(tx: PostgresTransaction) -> None:
            tries[number] += 1
            scopes = ["a", "b"] if number else ["b", "a"]
            for place, scope in enumerate(scopes):
                if place and tries[number] == 1:
                    met.wait()
                tx.core.execute(_TOUCH, {"scope": scope})

        return work

    list(aside.map(lambda number: storages[number].run(cross(number)), range(2)))
    assert sum(tries.values()) == 3


def test_a_commit_that_nobody_answers(url: str) -> None:
    """Whether it was stored is told afterwards, and always as it is."""
    port, outcomes = shared_server().port, Counter[bool]()
    with a_cutting_proxy(port, seed=7) as proxy:
        storage = PostgresStorage(url.replace(f":{port}/", f":{proxy.port}/"))
        with closing(storage):
            for number in range(4):
                changes = Changes()
                changes.goals[USER, EventName(f"goal {number}"), NOW] = None
                proxy.share, proxy.before = 1.0, 1.0 if number % 2 else 0.5
                with pytest.raises(OutcomeUnknown) as doubt:
                    storage.run(partial(_store, changes))
                proxy.share = 0.0
                known = doubt.value.look() == "stored"
                user = storage.run(lambda tx: tx.users([USER], Instant(0), [])).get(USER)
                assert known is (user is not None and f"goal {number}" in user.goals)
                outcomes[known] += 1
    print(f"{proxy.cut_before} COMMITs cut, {proxy.cut_after} answers dropped: {outcomes}")
    assert outcomes[False] >= 2
    assert outcomes[True] >= 1


def _store(changes: Changes, tx: PostgresTransaction) -> str:
    tx.store(changes)
    return "stored"


def test_the_same_event_at_several_hosts_at_once(another: Open, aside: ThreadPoolExecutor) -> None:
    """Whoever names no user is not locked, and yet an event of nobody is kept once."""
    worlds = [_apart(another()) for _ in range(4)]
    keys = [f"key-{number}" for number in range(30)]

    def take(world: World) -> list[str]:
        facts = [happened("app_opened", user="", key=key) for key in keys]
        return [result.status for result in world.take(*facts)]

    answers = list(aside.map(take, worlds))
    assert Counter(status for each in answers for status in each) == {
        "ignored": len(keys),
        "duplicate": 3 * len(keys),
    }


def test_many_hosts_and_few_users(another: Open, aside: ThreadPoolExecutor) -> None:
    """Events, conversions, claims and answers of the same users at four hosts: all adds up."""
    worlds = [_apart(another()) for _ in range(4)]
    facts = [
        happened(user=f"u{number % 12}", key=f"key-{number % 97}", at=NOW) for number in range(400)
    ]
    facts_of = [facts[start::4] + facts[(start + 1) % 4 :: 4] for start in range(4)]
    print("4 hosts, 12 users, 800 deliveries of 97 events")

    def live(number: int) -> Counter[str]:
        world, answers = worlds[number], Counter[str]()
        for start in range(0, len(facts_of[number]), 20):
            some = facts_of[number][start : start + 20]
            answers.update(result.status for result in world.take(*some))
            world.clock.advance("2min")
            world.deliver()
            world.one(converted(user=f"u{start % 12}"))
        return answers

    answers = sum(aside.map(live, range(4)), Counter[str]())

    world = worlds[0]
    events = [row for row in world.rows(tables.event) if row["source"] == "amplitude"]
    assert len(events) == len({(row["user_id"], row["dedup_key"]) for row in events})
    assert len(events) == len({(f.user_id, f.key) for f in facts})
    assert answers["duplicate"] == 800 - len(events)
    experiments = world.experiments()
    waiting = Counter(row["user_id"] for row in experiments if row["state"] == "scheduled")
    assert max(waiting.values(), default=0) <= 1
    check_counters(world, experiments_of(experiments))
