"""What the use cases rely on, of any database (application/ports.py)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError
from tests.contracts.conftest import Open
from tests.support.builders import (
    CHECKOUT,
    NOW,
    PAYMENT,
    PUSH,
    USER,
    WHATSAPP,
    Storage,
    a_cohort,
    an_experiment,
    rows_of,
)

from experiment_engine.adapters.storage import tables
from experiment_engine.application.changes import (
    Changes,
    EndedAttempt,
    Quarantined,
    StoredChoice,
    StoredEvent,
)
from experiment_engine.application.evidence import StoredSnapshot
from experiment_engine.application.manage import erase_user
from experiment_engine.application.page_records import ProcessRecord
from experiment_engine.application.ports import Retained, Transaction
from experiment_engine.domain.bandit.context import ContextLevels
from experiment_engine.domain.bandit.decision import Distribution
from experiment_engine.domain.bandit.epsilon_greedy import GreedyModel
from experiment_engine.domain.bandit.reward import Counts, Group
from experiment_engine.domain.bandit.snapshot import Snapshot
from experiment_engine.domain.bandit.statistics import Statistics
from experiment_engine.domain.cohorts.cohort import Cohort, Prior
from experiment_engine.domain.cohorts.counting import Counted
from experiment_engine.domain.cohorts.user import Choice, User
from experiment_engine.domain.delivery.experiment import Decided, Experiment, Mode, State
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.events import Source
from experiment_engine.domain.guardrails import Eligibility
from experiment_engine.domain.identifiers import (
    CallId,
    CohortName,
    ComboKey,
    DistributionId,
    EventName,
    ExperimentId,
    SnapshotId,
    UserId,
)
from experiment_engine.domain.moments import DAY, HOUR, Instant
from experiment_engine.domain.pausing import EVERYTHING
from experiment_engine.domain.reasons import Reason

LIVE, DRY_RUN = Mode.LIVE, Mode.DRY_RUN
KEY = ComboKey("2min|push|urgency|none")
OTHER = UserId("usr_2")
# Whatever a partner may send as an id: quotes of every kind, other scripts, JSON's own signs.
ODD = ("o'brien", 'a"b', "ए🙂", "a\\b\n", "[1]", "%_", "NULL", " ", "a;--", "x" * 1_000)


def a_distribution(number: int = 0) -> Distribution:
    eligibility = Eligibility((0, 2), {Reason.OVERDUE: (1, 3)})
    return Distribution.of(
        DistributionId(f"distribution-{number}"), SnapshotId("s"), eligibility, (0.25, 0.75)
    )


def decided(**changes: Any) -> Decided:
    given: dict[str, Any] = {
        "event_key": "key-1",
        "zone": "Asia/Kolkata",
        "propensity": 0.25,
        "distribution_id": DistributionId("distribution-0"),
        "snapshot_id": SnapshotId("s"),
        "seed": 2**63 - 1,
        "language": "en",
        "title": "Title",
        "body": "Body",
        "context": "{}",
    }
    return Decided(**{**given, **changes})


def with_experiments(*experiments: Experiment, **fixed: Any) -> Changes:
    changes = Changes()
    for experiment in experiments:
        changes.decide(experiment, decided(**fixed), a_distribution())
    return changes


def store(storage: Storage, changes: Changes) -> None:
    with storage.transaction() as tx:
        tx.store(changes)


def numbered(number: int, state: State = State.SCHEDULED, **changes: Any) -> Experiment:
    return an_experiment(state, id=ExperimentId(f"id-{number:03}"), **changes)


def load(
    storage: Storage,
    *users: str,
    since: int = 0,
    named: Sequence[str] = (),
) -> dict[UserId, User]:
    wanted = [UserId(user) for user in users or (USER,)]
    with storage.transaction() as tx:
        return tx.users(wanted, Instant(since), [ExperimentId(name) for name in named])


def ids(user: User) -> list[str]:
    return [experiment.id for experiment in user.experiments]


def an_event(user: str = USER, key: str = "key-1", **changes: Any) -> StoredEvent:
    given: dict[str, Any] = {
        "source": Source.AMPLITUDE,
        "name": "checkout_abandoned",
        "happened_at": NOW,
        "received_at": NOW,
        "raw": b"\x00\xff not JSON",
    }
    return StoredEvent(UserId(user), key, **{**given, **changes})


# Transactions


def everything() -> Changes:
    """Return changes that write to every table a batch can write to."""
    claimed = numbered(2, State.CLAIMED, cohort=PAYMENT, call_id=CallId("call-1"), attempts=1)
    claimed.placed_at = NOW
    changes = with_experiments(numbered(1), claimed)
    changes.events.append(an_event())
    changes.quarantined.append(Quarantined(Source.AMPLITUDE, NOW, "not_json", b"{"))
    changes.goals[USER, EventName("purchase"), NOW] = None
    changes.choices.append(StoredChoice(USER, PUSH, False, NOW, Source.API))
    changes.counted.append((USER, CHECKOUT, Counted("key-1", NOW)))
    changes.offers_used[LIVE, "rupee_1", 20_000] = 1
    changes.attempts_begun.append(claimed)
    changes.attempts_ended.append(
        EndedAttempt(claimed, CallId("call-1"), NOW, Verdict.ACCEPTED, "ok", 200, "{}")
    )
    return changes


WRITTEN = (
    tables.event,
    tables.quarantine,
    tables.experiment,
    tables.distribution,
    tables.goal_reached,
    tables.choice,
    tables.counted,
    tables.combo_count,
    tables.experiment_count,
    tables.offer_use,
    tables.attempt,
)


def test_what_is_committed_is_there(storage: Storage) -> None:
    """After a transaction every row is seen by readers."""
    store(storage, everything())

    assert all(rows_of(storage, table) for table in WRITTEN)


def test_what_is_committed_stays(storage: Storage, reopen: Open) -> None:
    """What was committed is there after the database was closed and opened again."""
    store(storage, everything())
    before = {table: rows_of(storage, table) for table in tables.metadata.sorted_tables}

    again = reopen()

    assert {table: rows_of(again, table) for table in tables.metadata.sorted_tables} == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_rolled_back_transaction_leaves_nothing(
    storage: Storage, error: type[BaseException]
) -> None:
    """Whatever ends a transaction early, none of its rows stays, and the next one works."""
    with pytest.raises(error), storage.transaction() as tx:  # noqa: PT012 - all in one
        tx.store(everything())
        tx.set_paused(EVERYTHING, paused=True, at=NOW)
        tx.set_failures_in_a_row(PUSH, 3, None)
        tx.add_snapshot(LIVE, a_cohort(), a_snapshot("s", NOW, 0, 0, 0, 0))
        erase_user(USER, tx, NOW)
        raise error

    for table in tables.metadata.sorted_tables:
        if table is not tables.meta:
            assert not rows_of(storage, table)
    store(storage, everything())


def test_a_refused_statement_leaves_nothing(storage: Storage) -> None:
    """If one row of a batch is refused, no row of it stays."""
    store(storage, with_experiments(numbered(1)))
    batch = everything()  # its first experiment is there already

    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        store(storage, batch)

    assert not rows_of(storage, tables.event)
    assert len(rows_of(storage, tables.experiment)) == 1


def test_a_transaction_sees_its_own_rows(storage: Storage) -> None:
    """What was stored is read back inside the same transaction."""
    with storage.transaction() as tx:
        tx.store(everything())
        assert tx.owners([ExperimentId("id-001")]) == {"id-001": USER}
        assert USER in tx.users([USER], Instant(0), [])


def test_secrets_stay(storage: Storage, reopen: Open) -> None:
    """The holdout's salt is made once, with the database."""
    salt = storage.salt()

    assert reopen().salt() == salt
    assert len(salt) >= 16


# Events


def test_seen(storage: Storage) -> None:
    """Of the keys that are asked for, those are told that are kept, with what each led to."""
    changes = Changes()
    changes.events += [an_event(experiment_id=ExperimentId("id-001")), an_event(OTHER, "key-2")]
    store(storage, changes)

    with storage.transaction() as tx:
        found = tx.seen([(USER, "key-1"), (OTHER, "key-1"), (OTHER, "key-2"), (USER, "x")])
        nothing = tx.seen([])

    assert found == {(USER, "key-1"): "id-001", (OTHER, "key-2"): None}
    assert nothing == {}


@pytest.mark.parametrize("odd", ODD)
def test_odd_identifiers(storage: Storage, odd: str) -> None:
    """Whatever an id or a key is made of, it is found again and matches nothing else."""
    user = UserId(odd)
    changes = with_experiments(numbered(1, user_id=user))
    changes.events.append(an_event(odd, odd))
    changes.goals[user, EventName(odd), NOW] = None
    changes.counted.append((user, CHECKOUT, Counted(odd, NOW)))
    store(storage, changes)

    with storage.transaction() as tx:
        assert list(tx.seen([(user, odd), (user, odd + " "), (USER, odd)])) == [(user, odd)]
        found = tx.users([user, USER], Instant(0), [])

    assert list(found) == [user]
    assert ids(found[user]) == ["id-001"]
    assert found[user].goals == {odd: NOW}
    assert found[user].counted == {CHECKOUT: [Counted(odd, NOW)]}


def test_a_second_event_with_the_same_key_is_refused(storage: Storage) -> None:
    """The database itself keeps one event for each user and key."""
    changes = Changes()
    changes.events.append(an_event())
    store(storage, changes)

    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        store(storage, changes)


def test_what_is_not_understood_is_kept_once_from_each_source(storage: Storage) -> None:
    """The same bytes again are the same; the same bytes from elsewhere are not."""
    changes = Changes()
    changes.quarantined += [
        Quarantined(source, NOW, "not_json", raw)
        for source in (Source.AMPLITUDE, Source.CLEVERTAP)
        for raw in (b"\x00", b"\x01", b"\x00")
    ]
    store(storage, changes)
    store(storage, changes)

    kept = [(row["source"], row["raw"]) for row in rows_of(storage, tables.quarantine)]
    assert sorted(kept) == [
        ("amplitude", b"\x00"),
        ("amplitude", b"\x01"),
        ("clevertap", b"\x00"),
        ("clevertap", b"\x01"),
    ]


# Users


def test_nobody_is_known(storage: Storage) -> None:
    """Who has no row is not among the users."""
    assert load(storage, USER, OTHER) == {}
    assert load(storage, USER, named=["nobody's"]) == {}


def test_which_experiments_are_loaded(storage: Storage) -> None:
    """Those decided since, whatever still waits, and those named; oldest decision first."""
    old = Instant(NOW - 10 * DAY)
    store(
        storage,
        with_experiments(
            numbered(3, State.SENT, decided_at=NOW),
            numbered(1, State.SENT, decided_at=old),
            numbered(2, decided_at=Instant(old + 1)),
            numbered(4, State.CLAIMED, decided_at=Instant(old + 2), cohort=PAYMENT),
            numbered(5, State.SENT, decided_at=old),
            numbered(6, State.SENT, decided_at=NOW, user_id=OTHER),
        ),
    )

    recent = load(storage, since=NOW)[USER]
    named = load(storage, since=NOW, named=["id-001"])[USER]

    assert ids(recent) == ["id-002", "id-004", "id-003"]
    assert sorted(ids(named)) == ["id-001", "id-002", "id-003", "id-004"]
    assert ids(load(storage, since=0)[USER]) == [f"id-00{n}" for n in (1, 5, 2, 4, 3)]


def test_named_once(storage: Storage) -> None:
    """An experiment that is named and recent is loaded once, also if it is named twice."""
    store(storage, with_experiments(numbered(1)))

    assert ids(load(storage, named=["id-001", "id-001"])[USER]) == ["id-001"]


def test_somebody_s_goals_choices_and_counted(storage: Storage) -> None:
    """The last time of each goal, the last no and yes of each channel, and what counts."""
    changes = Changes()
    for at in (NOW - 5, NOW, NOW - 9):
        changes.goals[USER, EventName("purchase"), Instant(at)] = 99_000
    changes.choices += [
        StoredChoice(USER, PUSH, allowed, Instant(at), Source.API)
        for allowed, at in ((False, 5), (True, 3), (False, 2), (True, 3))
    ]
    changes.counted += [(USER, CHECKOUT, Counted(key, NOW)) for key in "ab"]
    store(storage, changes)
    store(storage, changes)

    user = load(storage)[USER]

    assert user.goals == {"purchase": NOW}
    assert user.choices == {PUSH: Choice(no_at=Instant(5), yes_at=Instant(3))}
    assert sorted(event.key for event in user.counted[CHECKOUT]) == ["a", "b"]


def test_used_up(storage: Storage) -> None:
    """What counted is gone; what came in the same batch and did not count is not."""
    changes = Changes()
    changes.counted += [(USER, CHECKOUT, Counted(key, NOW)) for key in "abc"]
    changes.used_up += [(USER, CHECKOUT, key) for key in "ab"]
    store(storage, changes)

    assert [event.key for event in load(storage)[USER].counted[CHECKOUT]] == ["c"]


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


LAST = 253_402_300_799_999  # the last millisecond that a date can say: what is told lies before
MOMENTS = st.integers(0, LAST).map(Instant)
EXPERIMENTS = st.builds(
    Experiment,
    id=st.uuids().map(str),
    user_id=st.sampled_from(ODD),
    cohort=st.sampled_from([CHECKOUT, PAYMENT]),
    combo_key=st.just(KEY),
    channel=st.sampled_from([PUSH, WHATSAPP]),
    mode=st.sampled_from(Mode),
    held_out=st.booleans(),
    manual=st.booleans(),
    postponed=st.booleans(),
    triggered_at=MOMENTS,
    decided_at=MOMENTS,
    due_at=MOMENTS,
    expires_at=MOMENTS,
    window_ends_at=MOMENTS,
    state=st.sampled_from(State),
    reason=_maybe(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    placed_at=_maybe(MOMENTS),
    opened_at=_maybe(MOMENTS),
    converted_at=_maybe(MOMENTS),
    attempts=st.integers(0, 1_000),
    call_id=_maybe(st.uuids().map(str)),
    lease_until=_maybe(MOMENTS),
    levels=st.sampled_from(["", '{"region":"Bihar"}']),
    converted_by=_maybe(st.sampled_from(["amplitude", "clevertap"])),
    value=_maybe(st.integers(0, 10**12)),
)


CHANGEABLE = (
    *("postponed", "due_at", "expires_at", "state", "reason", "placed_at", "opened_at"),
    *("converted_at", "attempts", "call_id", "lease_until", "converted_by", "value"),
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=EXPERIMENTS, later=EXPERIMENTS)
def test_experiments_come_back_as_they_were(
    storage: Storage, made: Experiment, later: Experiment
) -> None:
    """An experiment is read back as it was stored, and again as it was changed."""
    with storage.transaction() as tx:
        tx.core.execute(text("DELETE FROM experiment"))
        tx.store(with_experiments(made))
        (before,) = tx.users([made.user_id], Instant(0), [])[made.user_id].experiments
        assert before == made
        for name in CHANGEABLE:
            setattr(made, name, getattr(later, name))
        changes = Changes()
        changes.changed[made.id] = made
        tx.store(changes)
        (after,) = tx.users([made.user_id], Instant(0), [])[made.user_id].experiments
    assert after == made


def test_what_is_fixed_is_kept(storage: Storage) -> None:
    """Everything fixed at the decision is in the row, the seed to its last bit."""
    store(storage, with_experiments(numbered(1), title="शीर्षक", context='{"show":"x"}'))

    (row,) = rows_of(storage, tables.experiment)
    fixed = decided(title="शीर्षक", context='{"show":"x"}')
    assert {name: row[name] for name in Decided.__struct_fields__} == {
        name: getattr(fixed, name) for name in Decided.__struct_fields__
    }


def test_owners(storage: Storage) -> None:
    """Whose experiments they are; ids that nobody has are left out."""
    store(storage, with_experiments(numbered(1), numbered(2, user_id=OTHER)))

    with storage.transaction() as tx:
        named = [ExperimentId(name) for name in ("id-001", "id-002", "nobody's", "id-001")]
        assert tx.owners(named) == {"id-001": USER, "id-002": OTHER}


# What the database refuses


@pytest.mark.parametrize("first", [State.SCHEDULED, State.CLAIMED])
@pytest.mark.parametrize("second", [State.SCHEDULED, State.CLAIMED])
def test_a_second_waiting_experiment_is_refused(
    storage: Storage, first: State, second: State
) -> None:
    """A user has at most one waiting experiment in a cohort: the database itself refuses more."""
    store(storage, with_experiments(numbered(1, first)))

    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        store(storage, with_experiments(numbered(2, second)))


@pytest.mark.parametrize("state", sorted(set(State) - {State.SCHEDULED, State.CLAIMED}))
def test_any_number_that_ended(storage: Storage, state: State) -> None:
    """What has ended stands beside what waits, in any number."""
    store(storage, with_experiments(numbered(1, state), numbered(2, state), numbered(3)))

    assert len(rows_of(storage, tables.experiment)) == 3


def test_a_waiting_one_of_another_cohort_or_user(storage: Storage) -> None:
    """One for each cohort and user may wait."""
    store(
        storage,
        with_experiments(numbered(1), numbered(2, cohort=PAYMENT), numbered(3, user_id=OTHER)),
    )

    assert len(rows_of(storage, tables.experiment)) == 3


def test_one_ends_and_another_begins_in_one_batch(storage: Storage) -> None:
    """A batch may end a waiting experiment and begin the next one of the same user."""
    first = numbered(1)
    store(storage, with_experiments(first))
    changes = with_experiments(numbered(2))
    changes.change(first, lambda e: e.move(State.CANCELLED, Reason.OPTED_OUT))

    store(storage, changes)

    assert [row["state"] for row in rows_of(storage, tables.experiment)] == [
        "cancelled",
        "scheduled",
    ]


def _write(statement: str) -> Callable[[Storage], None]:
    def write(storage: Storage) -> None:
        with storage.transaction() as tx:
            tx.core.execute(text(statement))

    return write


@pytest.mark.parametrize(
    "write",
    [
        _write("UPDATE experiment SET state = 'thought_about'"),
        _write("UPDATE experiment SET state = NULL"),
        _write("UPDATE experiment SET propensity = 0"),
        _write("UPDATE experiment SET propensity = 1.5"),
        _write("UPDATE experiment SET user_id = NULL"),
        _write("INSERT INTO attempt SELECT * FROM attempt"),
    ],
    ids=[
        "unknown state",
        "no state",
        "propensity 0",
        "propensity 1.5",
        "no user",
        "attempt twice",
    ],
)
def test_what_must_never_be(storage: Storage, write: Callable[[Storage], None]) -> None:
    """The database refuses what the code must never do."""
    store(storage, everything())

    with pytest.raises(DBAPIError):
        write(storage)


# Counters


def test_counters_add(storage: Storage) -> None:
    """What batches count adds up, by hour and over all hours, each group by itself."""
    hour = NOW // HOUR
    for group, counts, at in (
        (Group.COMBO, Counts(1, 1, 1, 1, 1), hour),
        (Group.COMBO, Counts(2, 0, 2, 0, 0), hour + 1),
        (Group.COMBO, Counts(-1, 0, 0, 0, 0), hour),
        (Group.HOLDOUT, Counts(5), hour),
        (Group.POSTPONED, Counts(7), hour),
    ):
        changes = Changes()
        changes.counts[LIVE, CHECKOUT, at, "Bihar", KEY, group] = counts
        store(storage, changes)

    with storage.evidence() as evidence:
        assert evidence.totals(LIVE, CHECKOUT) == {KEY: (9, 1)}  # the holdout apart
        assert evidence.totals(DRY_RUN, CHECKOUT) == {}
        assert evidence.totals(LIVE, PAYMENT) == {}
    by_hour = {
        (row["hour"], row["counted_for"]): row["trials"]
        for row in rows_of(storage, tables.combo_count)
    }
    assert by_hour == {
        (hour, "combo"): 0,
        (hour + 1, "combo"): 2,
        (tables.ALL_HOURS, "combo"): 2,
        (hour, "holdout"): 5,
        (tables.ALL_HOURS, "holdout"): 5,
        (hour, "postponed"): 7,
        (tables.ALL_HOURS, "postponed"): 7,
    }


def test_offers_add_and_are_given_back(storage: Storage) -> None:
    """Used offers add up by mode and day, come back, and are never fewer than none."""
    for number, day in ((3, 100), (2, 100), (-1, 100), (1, 101), (-5, 101)):
        changes = Changes()
        changes.offers_used[LIVE, "rupee_1", day] = number
        store(storage, changes)

    with storage.transaction() as tx:
        assert tx.offers_used(LIVE, 100)["rupee_1"].today == 4
        assert tx.offers_used(LIVE, 101)["rupee_1"].today == 0
        assert tx.offers_used(DRY_RUN, 100) == {}


# Deliveries


def due(
    storage: Storage,
    limit: int = 100,
    *,
    held_out: bool = False,
    paused: Sequence[CohortName] = (),
) -> list[str]:
    with storage.transaction() as tx:
        return [found.experiment_id for found in tx.due({(PUSH, held_out): limit}, NOW, paused)]


def waiting(number: int, due_in: int, **changes: Any) -> Experiment:
    return numbered(number, user_id=UserId(f"u{number}"), due_at=Instant(NOW + due_in), **changes)


def test_due(storage: Storage) -> None:
    """What waits on a channel and has come due, longest waiting first, up to the limit."""
    store(
        storage,
        with_experiments(
            waiting(1, 0),
            waiting(2, -10),
            waiting(3, 1),
            waiting(4, -5),
            waiting(5, -7, channel=WHATSAPP),
            waiting(6, -8, held_out=True),
            waiting(7, -9, state=State.CANCELLED),
            waiting(8, -9, state=State.CLAIMED),
        ),
    )

    assert due(storage) == ["id-002", "id-004", "id-001"]
    assert due(storage, 2) == ["id-002", "id-004"]
    assert due(storage, 0) == []
    assert due(storage, held_out=True) == ["id-006"]


def test_due_carries_its_message(storage: Storage) -> None:
    """With a due delivery comes what its message needs."""
    store(storage, with_experiments(waiting(1, 0)))

    with storage.transaction() as tx:
        (found,) = tx.due({(PUSH, False): 1}, NOW, ())

    assert (found.user_id, found.zone, found.language) == ("u1", "Asia/Kolkata", "en")
    assert (found.title, found.body, found.seed) == ("Title", "Body", 2**63 - 1)


def test_an_address_is_kept_while_the_message_waits(storage: Storage) -> None:
    """It comes with what is due, stays through tries, and goes with any other state."""
    waiting, ended = numbered(1), numbered(2, user_id=UserId("other"))
    store(storage, with_experiments(waiting, ended, address="+919800000001"))
    changes = Changes()
    for experiment, state in ((waiting, State.CLAIMED), (ended, State.CANCELLED)):
        changes.change(experiment, lambda e, to=state: e.move(to))  # type: ignore[misc]
    changes.change(waiting, lambda e: e.move(State.SCHEDULED))
    store(storage, changes)

    with storage.transaction() as tx:
        due = tx.due({(waiting.channel, False): 10}, waiting.due_at, [])
    assert [(one.experiment_id, one.address) for one in due] == [(waiting.id, "+919800000001")]
    kept = {row["id"]: row["address"] for row in rows_of(storage, tables.experiment)}
    assert kept == {waiting.id: "+919800000001", ended.id: None}


def test_who_is_reached_where(storage: Storage) -> None:
    """Users are found by the hash of where they were to be written to, each once."""
    changes = Changes()
    changes.recipients += [("phone", USER), ("phone", OTHER), ("phone", USER), ("else", OTHER)]
    store(storage, changes)
    store(storage, changes)

    with storage.transaction() as tx:
        found = tx.users_reached_at(["phone", "nobody's"])
    assert found == {"phone": [USER, OTHER]}


def test_due_while_paused(storage: Storage) -> None:
    """Of paused cohorts only what has expired is due; others are as ever, behind any number."""
    expired = {"expires_at": Instant(NOW - 1)}
    store(
        storage,
        with_experiments(
            *(waiting(number, -100) for number in range(1, 50)),
            waiting(50, -5, **expired),
            waiting(51, -5, expires_at=NOW),
            waiting(52, -1, cohort=PAYMENT),
        ),
    )

    assert due(storage, 2, paused=[CHECKOUT]) == ["id-050", "id-052"]
    assert due(storage, 2, paused=[CHECKOUT, PAYMENT]) == ["id-050"]


def test_abandoned(storage: Storage) -> None:
    """What is claimed by calls whose lease ended before now; without a now, by any call."""
    store(
        storage,
        with_experiments(
            waiting(1, 0, state=State.CLAIMED, lease_until=Instant(NOW - 1)),
            waiting(2, 0, state=State.CLAIMED, lease_until=NOW),
            waiting(3, 0, state=State.UNKNOWN, lease_until=Instant(NOW - 1)),
            waiting(4, 0),
        ),
    )

    with storage.transaction() as tx:
        assert list(tx.abandoned(NOW)) == [("u1", "id-001")]
        assert sorted(tx.abandoned(None)) == [("u1", "id-001"), ("u2", "id-002")]


def test_renew(storage: Storage) -> None:
    """The leases of these calls are extended, of others not, nor what is no longer claimed."""
    store(
        storage,
        with_experiments(
            waiting(1, 0, state=State.CLAIMED, call_id=CallId("a"), lease_until=NOW),
            waiting(2, 0, state=State.CLAIMED, call_id=CallId("b"), lease_until=NOW),
            waiting(3, 0, state=State.SENT, call_id=CallId("a"), lease_until=None),
        ),
    )

    with storage.transaction() as tx:
        tx.renew([CallId("a"), CallId("c")], Instant(NOW + 5))
        tx.renew([], Instant(NOW + 9))

    leases = [row["lease_until"] for row in rows_of(storage, tables.experiment)]
    assert leases == [NOW + 5, NOW, None]


def test_attempts(storage: Storage) -> None:
    """A try begins and ends once, in a row of its own."""
    store(storage, everything())

    (row,) = rows_of(storage, tables.attempt)
    assert {**row} == {
        "experiment_id": "id-002",
        "user_id": USER,
        "number": 1,
        "call_id": "call-1",
        "started_at": NOW,
        "ended_at": NOW,
        "verdict": "accepted",
        "reason": "ok",
        "status": 200,
        "answer": "{}",
    }


def test_failing_channels(storage: Storage) -> None:
    """A channel with a next probe fails until then, and may be probed from then on."""
    for at, failing, probing in ((NOW - 1, {PUSH}, set()), (NOW, set(), {PUSH})):
        with storage.transaction() as tx:
            tx.set_failures_in_a_row(PUSH, 20, NOW)
            tx.set_failures_in_a_row(WHATSAPP, 3, None)
            switches = tx.switches(Instant(at))
            assert (set(switches.failing), set(switches.probing)) == (failing, probing)
            assert tx.failures_in_a_row() == {PUSH: 20, WHATSAPP: 3}

    changes = Changes()
    changes.probed[PUSH] = Instant(NOW + 5)
    store(storage, changes)
    with storage.transaction() as tx:
        assert tx.switches(NOW).failing == {PUSH}
        tx.set_failures_in_a_row(PUSH, 0, None)
        assert not tx.switches(NOW).failing | tx.switches(NOW).probing


# Snapshots

COHORT = a_cohort()


def a_snapshot(name: str, at: int, *trials: float) -> Snapshot:
    statistics = Statistics(np.array(trials), np.array(trials) / 2)
    model = GreedyModel(statistics.trials / 3, 0.2)
    levels = ContextLevels((("Bihar", "न"), (), ("monthly",), ()))
    return Snapshot(SnapshotId(name), Instant(at), statistics, model, levels)


def newest_of(storage: Storage, cohort: Cohort) -> StoredSnapshot | None:
    with storage.evidence() as evidence:
        newest = evidence.newest_snapshot(LIVE, cohort.name)
        return None if newest is None else evidence.snapshot(newest, cohort)


def test_the_latest_snapshot(storage: Storage) -> None:
    """The snapshot in force is the newest of the mode and cohort, as it was taken."""
    newest = a_snapshot("b", NOW, 4, 0, 2.5, 1e9)
    with storage.transaction() as tx:
        for mode, cohort, snapshot in (
            (LIVE, COHORT, a_snapshot("a", NOW - 1, 1, 1, 1, 1)),
            (LIVE, COHORT, newest),
            (DRY_RUN, COHORT, a_snapshot("c", NOW + 1, 1, 1, 1, 1)),
            (LIVE, a_cohort(PAYMENT), a_snapshot("d", NOW + 1, 1, 1, 1, 1)),
        ):
            tx.add_snapshot(mode, cohort, snapshot)
    found = newest_of(storage, COHORT)

    assert found is not None
    assert (found.id, found.taken_at) == ("b", NOW)
    assert np.array_equal(found.statistics.trials, newest.statistics.trials)
    assert np.array_equal(found.statistics.successes, newest.statistics.successes)
    assert found.arrays["rates"].tobytes() == (newest.statistics.trials / 3).tobytes()
    assert found.levels == newest.levels


def test_models_of_old_snapshots_are_let_go_of(storage: Storage) -> None:
    """A snapshot keeps its numbers, and its model only while a policy might go back to it."""
    with storage.transaction() as tx:
        for name, at in (("old", NOW - 3 * HOUR), ("new", NOW - HOUR), ("newest", NOW)):
            tx.add_snapshot(LIVE, COHORT, a_snapshot(name, at, 1, 1, 1, 1))

    models = {row["id"]: row["model"] for row in rows_of(storage, tables.snapshot)}
    assert {name for name, model in models.items() if model is None} == {"old"}


@pytest.mark.parametrize(
    "changed",
    [
        a_cohort(angles=("scarcity", "urgency")),
        a_cohort(angles=("urgency",)),
        a_cohort(policy="uniform"),
        a_cohort(options={"epsilon": 0.1}),
        a_cohort(prior=Prior(rate=0.5)),
    ],
    ids=["order", "fewer", "policy", "options", "prior"],
)
def test_a_snapshot_of_other_combos_is_not_in_force(storage: Storage, changed: Any) -> None:
    """A snapshot over other combos, their other order, or another policy does not count."""
    with storage.transaction() as tx:
        tx.add_snapshot(LIVE, COHORT, a_snapshot("a", NOW, 1, 1, 1, 1))

    assert newest_of(storage, changed) is None
    assert newest_of(storage, COHORT) is not None


def test_combo_keys_are_kept_once(storage: Storage) -> None:
    """However many snapshots there are, the keys they count by are written once."""
    with storage.transaction() as tx:
        for number in range(3):
            tx.add_snapshot(LIVE, COHORT, a_snapshot(f"s{number}", NOW, 1, 1, 1, 1))

    assert len(rows_of(storage, tables.combo_space)) == 1
    assert len(rows_of(storage, tables.snapshot)) == 3


# Administration


def test_pauses(storage: Storage) -> None:
    """Pausing twice and resuming twice is no mistake; each scope is paused by itself."""
    with storage.transaction() as tx:
        for scope in (EVERYTHING, CHECKOUT, CHECKOUT):
            tx.set_paused(scope, paused=True, at=NOW)
        assert tx.switches(NOW).paused == {EVERYTHING, CHECKOUT}
        for scope in (EVERYTHING, EVERYTHING):
            tx.set_paused(scope, paused=False, at=NOW)
        assert tx.switches(NOW).paused == {CHECKOUT}


def test_waiting_combos_are_cancelled(storage: Storage) -> None:
    """What waits for a combo of one mode is cancelled and counted, nothing else is touched."""
    other = ComboKey("1h|push|urgency|none")
    store(
        storage,
        with_experiments(
            waiting(1, 0),
            waiting(2, 0),
            waiting(3, 0, combo_key=other),
            waiting(4, 0, mode=DRY_RUN),
            waiting(5, 0, state=State.CLAIMED),
            waiting(6, 0, cohort=PAYMENT),
            waiting(7, 0, state=State.SENT),
        ),
    )

    with storage.transaction() as tx:
        assert sorted(tx.waiting_combos()) == sorted(
            [
                (CHECKOUT, KEY, LIVE),
                (CHECKOUT, other, LIVE),
                (CHECKOUT, KEY, DRY_RUN),
                (PAYMENT, KEY, LIVE),
            ]
        )
        assert len(tx.waiting_for(CHECKOUT, KEY, LIVE, 10)) == 2
        assert len(tx.waiting_for(CHECKOUT, KEY, LIVE, 1)) == 1


def texts_of(storage: Storage) -> str:
    """Return everything the database holds, with the bytes as text."""
    found = []
    with storage.readers.connect() as connection:
        for table in inspect(connection).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                found += [
                    value.decode(errors="replace") if isinstance(value, bytes) else str(value)
                    for value in row
                ]
    return "\n".join(found)


def test_erasing_leaves_the_user_in_no_table(storage: Storage) -> None:
    """After an erasure no column of any table holds the user's id, nor the message's words."""
    person = UserId("somebody@example.org")
    made = numbered(1, user_id=person)
    sent = numbered(2, State.SENT, user_id=person, call_id=CallId("call-1"), attempts=1)
    sent.placed_at = NOW
    changes = with_experiments(made, sent, body="Dear Asha", context='{"region":"Bihar"}')
    changes.events.append(an_event(person, f"{person}-key", raw=person.encode()))
    changes.goals[person, EventName("purchase"), NOW] = None
    changes.choices.append(StoredChoice(person, PUSH, False, NOW, Source.API))
    changes.counted.append((person, CHECKOUT, Counted(f"{person}-key", NOW)))
    changes.attempts_begun.append(sent)
    changes.attempts_ended.append(
        EndedAttempt(sent, CallId("call-1"), NOW, Verdict.ACCEPTED, "ok", 200, f"sent to {person}")
    )
    store(storage, changes)
    counts = rows_of(storage, tables.combo_count)
    assert person in texts_of(storage)

    with storage.transaction() as tx:
        erase_user(person, tx, NOW)

    left = texts_of(storage)
    assert not [word for word in (person, "Dear Asha", "Bihar", "key-1") if word in left]
    states = [(row["state"], row["reason"]) for row in rows_of(storage, tables.experiment)]
    assert states == [("cancelled", "erased"), ("sent", None)]
    assert len(counts) == len(rows_of(storage, tables.combo_count))


def test_an_erased_user_is_known_as_such(storage: Storage, reopen: Open) -> None:
    """By a keyed hash an erased user is known again, also after a start, and nobody else is."""
    with storage.transaction() as tx:
        erase_user(USER, tx, NOW)
        erase_user(USER, tx, NOW)

    again = reopen()
    found = load(again, USER, OTHER)

    assert {user.id: user.erased for user in found.values()} == {USER: True}
    assert USER not in texts_of(again)


def test_a_pardon(storage: Storage) -> None:
    """Who asks to hear again is no longer known as erased."""
    with storage.transaction() as tx:
        erase_user(USER, tx, NOW)
    changes = Changes()
    changes.pardoned.add(USER)
    store(storage, changes)

    assert load(storage) == {}


def test_processes_say_that_they_live(storage: Storage) -> None:
    """A process is kept once, as it said last, and forgotten when it ends."""
    process = ProcessRecord("serve", "host", "1.0", "abc", NOW, NOW)
    for seen_at in (NOW, Instant(NOW + 5)):
        for name in ("one", "other"):
            storage.run(partial(_beat, name, replace(process, seen_at=seen_at)))
    storage.run(lambda tx: tx.gone("other"))

    (kept,) = rows_of(storage, tables.process)
    assert kept == {"id": "one", **asdict(replace(process, seen_at=Instant(NOW + 5)))}


def _beat(name: str, process: ProcessRecord, tx: Transaction) -> None:
    tx.beat(name, process)


def test_pruning_in_small_steps(storage: Storage) -> None:
    """No more rows of a kind go at once than the limit, until all that is old is gone."""
    changes = Changes()
    changes.events += [
        an_event(key=f"key-{number}", received_at=Instant(number)) for number in range(10)
    ]
    store(storage, changes)

    gone = []
    for _ in range(4):
        with storage.transaction() as tx:
            gone.append(tx.prune(Retained(*map(Instant, (7, 7, 7, 0, 0))), 3))

    assert gone == [3, 3, 1, 0]
    assert [row["received_at"] for row in rows_of(storage, tables.event)] == [7, 8, 9]
