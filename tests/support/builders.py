"""Builds values for tests: a small configuration, facts, experiments, and the loop on a database.

Defaults are plain: no quiet hours, no caps, no holdout. A test names what it is about.
"""

import atexit
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, NamedTuple

from sqlalchemy import Table, delete, select, text
from tests.support.clock import MORNING, FakeClock
from tests.support.fakes import CountingChance, an_answer
from tests.support.postgres import a_database

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.postgres import PostgresStorage
from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.application.deliver import Claimed, Delivering, claim
from experiment_engine.application.gather import Learning, gather
from experiment_engine.application.learn import fit, restored
from experiment_engine.application.manage import cancel_some, set_paused, what_cannot_be_sent
from experiment_engine.application.ports import Chance
from experiment_engine.application.results import Result
from experiment_engine.application.settle import record, recover, renew
from experiment_engine.application.take_in import Deciding, take_in
from experiment_engine.domain.bandit.snapshot import PolicyInForce
from experiment_engine.domain.cohorts.cohort import Cohort, Goal, PolicyChoice, Prior, Trigger
from experiment_engine.domain.cohorts.combo import ComboSpace
from experiment_engine.domain.delivery.copy import Catalogue, Placeholder, Template, Text
from experiment_engine.domain.delivery.experiment import Experiment, Mode, State
from experiment_engine.domain.delivery.message import Answer, Call
from experiment_engine.domain.events import (
    Chosen,
    Fact,
    Feedback,
    FeedbackKind,
    Happened,
    Requested,
    Source,
)
from experiment_engine.domain.guardrails import Guardrails
from experiment_engine.domain.identifiers import (
    EVERY_CHANNEL,
    CallId,
    Channel,
    CohortName,
    ComboKey,
    EventName,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import DAY, MINUTE, Duration, Instant, to_instant
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import ChannelRules, Rules

NOW = to_instant(MORNING)
PUSH, WHATSAPP = Channel("push"), Channel("whatsapp")
CHECKOUT = CohortName("checkout_abandoners")
PAYMENT = CohortName("payment_failed")
PAYWALL = CohortName("paywall_bouncers")
USER = UserId("usr_1")
Texts = dict[tuple[str, str, str, str, str], Text]  # the key type of a catalogue
SALT = b"a salt that never changes"

# Values


def a_cohort(
    name: str = CHECKOUT,
    *,
    event: str = "checkout_abandoned",
    goal: str = "purchase",
    window: int = 3 * DAY,
    delays: Sequence[str] = ("2min", "1h"),
    channels: Sequence[str] = ("push",),
    angles: Sequence[str] = ("urgency", "scarcity"),
    offers: Sequence[str] = ("none",),
    policy: str = "epsilon_greedy",
    options: Mapping[str, float] | None = None,
    prior: Prior | None = None,
    **trigger: Any,
) -> Cohort:
    """Return a cohort; further arguments are those of its trigger."""
    return Cohort(
        name=CohortName(name),
        trigger=Trigger(event=EventName(event), **trigger),
        goal=Goal(event=EventName(goal), window=Duration(window)),
        space=ComboSpace.of(delays, channels, angles, offers),
        policy=PolicyChoice(name=policy, options=options or {}),
        prior=prior or Prior(),
    )


def a_text(body: str, *, title: str = "Hello", language: str = "en") -> Text:
    """Return the copy of one message."""
    return Text(language, Template.of(title), Template.of(body))


def a_catalogue(
    *cohorts: Cohort,
    body: str = "Come back",
    languages: Sequence[str] = ("en",),
    placeholders: Sequence[Placeholder] = (),
) -> Catalogue:
    """Return a text that tells its channel, angle and offer for every combo of the cohorts."""
    texts: Texts = {
        (language, "*", combo.channel, combo.angle, combo.offer): a_text(
            f"{body} ({combo.channel}, {combo.angle}, {combo.offer})", language=language
        )
        for language in languages
        for cohort in cohorts
        for combo in cohort.space.combos
    }
    return Catalogue(texts, {placeholder.name: placeholder for placeholder in placeholders})


def some_rules(*cohorts: Cohort, **changes: Any) -> Rules:
    """Return a configuration of these cohorts, in UTC, without anything that forbids a message."""
    known = cohorts or (a_cohort(),)
    channels = {
        channel: ChannelRules(campaigns={("*", "*", "*"): "1700000000"})
        for cohort in known
        for channel in cohort.space.channels
    }
    given: dict[str, Any] = {
        "cohorts": {cohort.name: cohort for cohort in known},
        "catalogue": a_catalogue(*known),
        "channels": channels,
        "timezone": "UTC",
        "holdout_share": 0.0,
    }
    return Rules(**{**given, **changes})


def an_experiment(state: State = State.SCHEDULED, **changes: Any) -> Experiment:
    """Return an experiment that was triggered and decided now."""
    given: dict[str, Any] = {
        "id": ExperimentId("id-0"),
        "user_id": USER,
        "cohort": CHECKOUT,
        "combo_key": ComboKey("2min|push|urgency|none"),
        "channel": PUSH,
        "mode": Mode.LIVE,
        "held_out": False,
        "manual": False,
        "postponed": False,
        "triggered_at": NOW,
        "decided_at": NOW,
        "due_at": Instant(NOW + 2 * MINUTE),
        "expires_at": Instant(NOW + 32 * MINUTE),
        "window_ends_at": Instant(NOW + 3 * DAY),
    }
    return Experiment(**{**given, **changes}, state=state)


# Facts

_numbers = count(1)


def happened(
    name: str = "checkout_abandoned",
    *,
    user: str = USER,
    at: int | None = None,
    key: str | None = None,
    properties: Mapping[str, object] | None = None,
    user_properties: Mapping[str, object] | None = None,
) -> Happened:
    """Return an event of a user; without a key it is one of its own."""
    return Happened(
        UserId(user),
        EventName(name),
        None if at is None else Instant(at),
        key or f"event-{next(_numbers)}",
        b'{"raw": "bytes"}',
        event_properties=properties or {},
        user_properties=user_properties or {},
    )


def opened(
    experiment: str | None = None, *, user: str | None = None, at: int | None = None
) -> Feedback:
    """Return the report of an open."""
    return _feedback(FeedbackKind.OPENED, experiment, user, at)


def converted(
    experiment: str | None = None, *, user: str | None = None, at: int | None = None
) -> Feedback:
    """Return the report of a conversion."""
    return _feedback(FeedbackKind.CONVERTED, experiment, user, at)


def _feedback(
    kind: FeedbackKind, experiment: str | None, user: str | None, at: int | None
) -> Feedback:
    return Feedback(
        kind,
        None if user is None else UserId(user),
        None if experiment is None else ExperimentId(experiment),
        None if at is None else Instant(at),
        b"{}",
    )


def said_no(user: str = USER, *, channel: str = EVERY_CHANNEL, at: int | None = None) -> Chosen:
    """Return an opt-out."""
    moment = None if at is None else Instant(at)
    return Chosen(UserId(user), False, moment, b"{}", Source.API, Channel(channel))


def said_yes(user: str = USER, *, channel: str = EVERY_CHANNEL, at: int | None = None) -> Chosen:
    """Return an opt-in."""
    moment = None if at is None else Instant(at)
    return Chosen(UserId(user), True, moment, b"{}", Source.API, Channel(channel))


def requested(
    user: str = USER, cohort: str = CHECKOUT, attributes: Mapping[str, object] | None = None
) -> Requested:
    """Return a manual trigger."""
    return Requested(UserId(user), CohortName(cohort), b"{}", attributes or {})


# The loop

Storage = SqliteStorage | PostgresStorage


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        SqliteStorage(path).close()
        return path.read_bytes()


def empty_database(folder: Path, name: str = "engine.db") -> Path:
    """Write a database without rows; every one holds the same salt and keys."""
    path = folder / name
    path.write_bytes(_migrated())
    return path


def rows_of(storage: Storage, table: Table) -> list[dict[str, Any]]:
    """Return a table's rows in the order of their keys."""
    with storage.readers.connect() as connection:
        found = connection.execute(select(table).order_by(*table.primary_key.columns))
        return [dict(row) for row in found.mappings()]


class Learned(NamedTuple):
    """The policies on fresh statistics, and whether others moved too little to follow yet."""

    fresh: Mapping[CohortName, PolicyInForce]
    more_to_come: bool


class World:
    """The use cases on a database, with a clock that is turned and chance that is counted."""

    def __init__(
        self,
        storage: Storage,
        rules: Rules,
        mode: Mode = Mode.LIVE,
        chance: Chance | None = None,
    ) -> None:
        """Take the first snapshots; several worlds on one database need chances of their own."""
        self.storage, self.rules, self.mode = storage, rules, mode
        self.clock, self.chance = FakeClock(), chance or CountingChance()
        self.policies: dict[CohortName, PolicyInForce] = {}
        self.restart(rules, mode)

    def __repr__(self) -> str:
        """Stay short: a failing property prints its arguments."""
        return f"World(now={self.now})"

    def begin_anew(self) -> None:
        """Delete every row and turn clock and chance back: as good as opened, and much faster."""
        _empty(self.storage)
        self.clock, self.chance = FakeClock(), CountingChance()
        self.restart(self.rules)

    def restart(self, rules: Rules, mode: Mode | None = None) -> None:
        """Go on with another configuration or mode, as after a start; cancels nothing."""
        self.rules, self.mode = rules, mode or self.mode
        self.guardrails = Guardrails(self.rules, self.mode)
        self._deciding = Deciding(self.guardrails, self.chance, SALT, self.policies)
        self._delivering = Delivering(self.guardrails, self.chance)
        self._learning = Learning(self.rules.cohorts, self.mode, self.chance)
        self.policies.clear()
        self.learn()

    @property
    def now(self) -> Instant:
        """Return the present."""
        return self.clock.now()

    def take(self, *facts: Fact) -> list[Result]:
        """Take in facts as one batch."""
        taken = self.storage.run(lambda tx: take_in(facts, self._deciding, tx, self.now))
        return list(taken.results)

    def one(self, fact: Fact) -> Result:
        """Take in one fact."""
        return self.take(fact)[0]

    def claim(
        self, free: int | Mapping[Channel, int] = 1_000, allowance: int = 100_000
    ) -> Claimed:
        """Claim what is due, with this many free calls a channel."""
        lanes = dict.fromkeys(self.rules.channels, free) if isinstance(free, int) else free
        return self.storage.run(
            lambda tx: claim(lanes, self._delivering, tx, self.now, allowance=allowance)
        )

    def record(self, *answers: tuple[Call, Answer]) -> Sequence[Experiment]:
        """Record what the provider answered."""
        return self.storage.run(lambda tx: record(answers, self._delivering, tx, self.now))

    def deliver(self, answer: Answer | None = None) -> Sequence[Call]:
        """Claim what is due, and record the same answer to every call."""
        calls = self.claim().calls
        self.record(*((call, answer or an_answer()) for call in calls))
        return calls

    def deliver_some(self, lanes: Mapping[Channel, int]) -> None:
        """Claim for these free calls alone, and have the provider take all of it."""
        self.record(*((call, an_answer()) for call in self.claim(lanes).calls))

    def recover(self, *under_way: CallId, all_claims: bool = False) -> Sequence[Experiment]:
        """Settle what dead workers left, and keep hold of the calls under way."""
        with self.storage.transaction() as tx:
            renew(under_way, tx, self.now)
            return recover(tx, self.now, all_claims=all_claims)

    def learn(self) -> Learned:
        """Take snapshots where the counters moved enough."""
        with self.storage.evidence() as evidence:
            for name, cohort in self.rules.cohorts.items():
                newest = evidence.newest_snapshot(self.mode, name)
                if newest is not None and name not in self.policies:
                    stored = evidence.snapshot(newest, cohort)
                    self.policies.update({name: restored(stored, cohort)} if stored else {})
            gathered = gather(self.policies, self._learning, evidence, self.now)
        fresh = {m.cohort.name: fit(m, self._learning) for m in gathered.materials}
        with self.storage.transaction() as tx:
            for learned in fresh.values():
                tx.add_snapshot(self.mode, learned.cohort, learned.snapshot)
        self.policies.update(fresh)
        return Learned(fresh, gathered.more_to_come)

    def pause(self, scope: str | None = None, *, paused: bool = True) -> None:
        """Pause or resume."""
        with self.storage.transaction() as tx:
            set_paused(scope, self.rules, tx, self.now, paused=paused)

    def cancel_what_cannot_be_sent(self) -> Mapping[Reason, int]:
        """Put in order what an earlier configuration left, as a start does."""
        cancelled: Counter[Reason] = Counter()
        with self.storage.transaction() as tx:
            for waiting in what_cannot_be_sent(self.rules, self.mode, tx):
                cancelled[waiting.reason] += cancel_some(waiting, tx)
        return cancelled

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """Return a table's rows in the order of their keys."""
        return rows_of(self.storage, table)

    def fast_rows(self, table: Table, columns: str = "*") -> list[tuple[Any, ...]]:
        """Return a table's rows as plain values in the order of their keys."""
        order = ", ".join(column.name for column in table.primary_key.columns)
        return self.ask(f'SELECT {columns} FROM "{table.name}" ORDER BY {order}')

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a question finds, as plain values."""
        if isinstance(self.storage, SqliteStorage):
            return self.storage._writer.execute(query).fetchall()
        with self.storage.readers.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def experiments(self, user: str | None = None) -> list[dict[str, Any]]:
        """Return every experiment's row, or those of one user, oldest first."""
        return [row for row in self.rows(tables.experiment) if user in (None, row["user_id"])]

    def experiment(self, experiment_id: str | None = None) -> dict[str, Any]:
        """Return one experiment's row: the named one, or the newest."""
        found = self.experiments()
        if experiment_id is None:
            return found[-1]
        return next(row for row in found if row["id"] == experiment_id)

    def states(self) -> list[tuple[str, str | None]]:
        """Return state and reason of every experiment, oldest first."""
        return [(row["state"], row["reason"]) for row in self.experiments()]

    def counts(self, hour: int = tables.ALL_HOURS) -> dict[str, tuple[int, ...]]:
        """Return group -> (trials, successes, sent, opened, converted), over all combos."""
        sums: dict[str, tuple[int, ...]] = {}
        for row in self.rows(tables.combo_count):
            if row["hour"] == hour:
                names = ("trials", "successes", "sent", "opened", "converted")
                before = sums.get(row["counted_for"], (0,) * len(names))
                sums[row["counted_for"]] = tuple(
                    a + row[name] for a, name in zip(before, names, strict=True)
                )
        return {group: counts for group, counts in sums.items() if any(counts)}


# Opened, and used again: opening costs more than most tests.
_spare: dict[str, list[Storage]] = {"sqlite": [], "postgresql": []}


def _open(database: str) -> Storage:
    if database == "postgresql":
        lasting = a_database()
        storage: Storage = PostgresStorage(lasting.__enter__())
        atexit.register(lasting.__exit__, None, None, None)
    else:
        folder = mkdtemp()
        embedded = SqliteStorage(empty_database(Path(folder)))
        embedded._writer.execute("PRAGMA synchronous = OFF")
        atexit.register(rmtree, folder)
        storage = embedded
    atexit.register(storage.close)  # goes first
    return storage


def _empty(storage: Storage) -> None:
    with storage.transaction() as tx:
        for table in tables.metadata.sorted_tables:
            if table is not tables.meta:
                tx.core.execute(delete(table))


@contextmanager
def a_world(
    rules: Rules | None = None, mode: Mode = Mode.LIVE, database: str = "sqlite"
) -> Iterator[World]:
    """Open the loop on an empty database of its own; it need not outlive a power cut."""
    storage = _spare[database].pop() if _spare[database] else _open(database)
    _empty(storage)
    yield World(storage, rules or some_rules(), mode)
    _spare[database].append(storage)  # not after an error: nobody knows what state it is in
