"""Any life of a few users, step by step, against a model that was written from the contract.

`MODEL_LIVES` and `MODEL_STEPS` choose how many lives the long form has, and how long they are.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import time
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select
from tests.contracts import model
from tests.contracts.model import COHORTS, DAY, DELAYS, HOUR, MINUTE, SECOND, Message, Model
from tests.support.builders import (
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    opened,
    said_no,
    said_yes,
    some_rules,
)
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.application.deliver import Claimed
from experiment_engine.application.manage import erase_user
from experiment_engine.domain.delivery.experiment import Experiment
from experiment_engine.domain.delivery.limits import FrequencyCap
from experiment_engine.domain.delivery.message import Call, Verdict
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import Duration, Instant, to_datetime
from experiment_engine.domain.rules import Rules

LIVES = int(os.environ.get("MODEL_LIVES", "3000"))
STEPS = int(os.environ.get("MODEL_STEPS", "100"))
USERS = ("anna", "bela", "cyrus", "gita")  # the last is held out
EVENTS = dict(zip(COHORTS, ("left_checkout", "could_not_pay"), strict=True))
ZONES = ("UTC", "Asia/Kolkata", "America/St_Johns")
AGO = (0, 0, 0, SECOND, 3 * MINUTE, 61 * MINUTE, 5 * HOUR, 7 * HOUR, 2 * DAY)
SPANS = (SECOND, 2 * MINUTE, 2 * MINUTE, 7 * MINUTE, 31 * MINUTE, HOUR, 6 * HOUR, DAY)
CLOCK_STEPS = (-DAY, -HOUR, -5 * MINUTE, -SECOND, SECOND, 5 * MINUTE, HOUR, 3 * DAY, 3_650 * DAY)
WAYS = ("sent", "sent", "sent", "unknown", "failed", "scheduled")
VERDICTS = {
    "sent": Verdict.ACCEPTED,
    "unknown": Verdict.UNCERTAIN,
    "failed": Verdict.REFUSED,
    "scheduled": Verdict.NOT_TAKEN,
}
COLUMNS = (
    *("id", "user_id", "cohort", "combo_key", "channel", "zone", "held_out", "postponed"),
    *("triggered_at", "decided_at", "due_at", "expires_at", "state", "reason", "placed_at"),
    *("opened_at", "converted_at", "call_id", "propensity"),
)

happenings: Counter[str] = Counter()  # over all lives, to be printed


def rules_of(chosen: model.Settings) -> Rules:
    """Write the model's settings as a configuration of the engine."""
    cohorts = [
        a_cohort(
            name,
            event=EVENTS[name],
            delays=tuple(DELAYS),
            channels=chosen.channels,
            again_after=Duration(model.AGAIN_AFTER),
            converted_quiet=Duration(model.CONVERTED_QUIET),
            max_age=Duration(model.MAX_AGE),
            window=model.WINDOW,
        )
        for name in COHORTS
    ]
    quiet = QuietHours(time(model.QUIET_FROM), time(model.QUIET_TO))
    cap = FrequencyCap(chosen.cap, Duration(model.CAP_SPAN), Duration(model.MIN_GAP))
    return some_rules(
        *cohorts,
        quiet_hours=quiet if chosen.quiet else None,
        frequency_cap=cap,
        holdout_share=0.3,
        expires_after=Duration(model.EXPIRES_AFTER),
    )


somebody = st.sampled_from([USERS[0]] * 3 + list(USERS))
rarely = precondition(lambda self: self.number % 4 == 3)  # else little comes to its end


class Lives(RuleBasedStateMachine):
    """Everything that can happen to the loop, each step checked against the model."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.world.begin_anew()
        self.world.restart(rules_of(self.model.settings))
        self.under_way: list[Call] = []
        self.gone: list[Call] = []  # answered, or nobody waits for the answer
        self.told: list[tuple[str, str, str, int, str]] = []  # triggers
        self.in_holdout: dict[str, bool] = {}
        self.refusals = 0
        self.number = 0

    @property
    def now(self) -> int:
        return self.world.now

    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        found = self.world.fast_rows(tables.experiment, ", ".join(COLUMNS))
        return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in found}

    # What users do

    @rule(
        user=somebody,
        cohort=st.sampled_from(COHORTS),
        ago=st.sampled_from(AGO),
        zone=st.sampled_from(ZONES),
    )
    def leaves(self, user: str, cohort: str, ago: int, zone: str) -> None:
        """Let a user leave, in any zone; this may be told hours later."""
        self.number += 1
        self.tell(user, cohort, f"key {self.number}", self.now - ago, zone)

    @precondition(lambda self: self.told)
    @rule(which=st.integers(0, 5))
    def tells_again(self, which: int) -> None:
        """Tell the same event again."""
        self.tell(*self.told[-1 - which % len(self.told)])

    def tell(self, user: str, cohort: str, key: str, at: int, zone: str) -> None:
        self.told.append((user, cohort, key, at, zone))
        fact = happened(EVENTS[cohort], user=user, at=at, key=key, properties={"timezone": zone})
        at = min(at, self.now)
        person = self.model.person(user)
        known = key in person.events
        against = self.model.against(user, cohort, at, self.now)
        refused = self.model.refused(user, at, zone, self.now)
        if not person.erased:
            person.events.add(key)
        result = self.world.one(fact)
        happenings[f"trigger {result.status}"] += 1
        if known:
            assert result.status == "duplicate"
        elif against:
            assert (result.status, result.reason in against) == ("ignored", True), result
        elif result.status == "ignored":
            assert None not in refused, result
            assert result.reason in {*refused, "no_eligible_combo", "frequency_cap"}
            taken = [*self.model.of(user, *model.PLACED)]
            assert "quiet_hours" not in refused or taken, "it could go out after the quiet hours"
        else:
            assert {None, "quiet_hours"} & set(refused), result
            assert result.experiment_id is not None
            self.decided(result.experiment_id, result.status, at)

    def decided(self, experiment_id: str, status: str, at: int) -> None:
        """Take over what chance decided, and check that it could."""
        row = self.rows()[experiment_id]
        made = {name: row[name] for name in Message.__dataclass_fields__ if name in row}
        message = Message(**{**made, "user": row["user_id"], "held_out": bool(row["held_out"])})
        self.model.messages[message.id] = message
        assert message.triggered_at == at
        assert message.decided_at == self.now
        assert message.held_out is (status == "holdout")
        assert self.in_holdout.setdefault(row["user_id"], message.held_out) is message.held_out
        assert 0 < row["propensity"] <= 1
        assert not self.model.is_quiet(message.zone, message.due_at)
        assert message.expires_at == message.due_at + model.EXPIRES_AFTER
        if row["postponed"]:
            assert self.model.is_quiet(message.zone, message.due_at - model.SPREAD)
        else:
            delay = DELAYS[row["combo_key"].partition("|")[0]]
            assert message.due_at == max(at + delay, self.now)

    @rule(user=somebody, ago=st.sampled_from(AGO), by_event=st.booleans())
    def converts(self, user: str, ago: int, *, by_event: bool) -> None:
        """Let a user reach the goal; Amplitude or CleverTap tells, perhaps late."""
        self.number += 1
        at = self.now - ago
        fact = (
            happened("purchase", user=user, at=at, key=f"key {self.number}")
            if by_event
            else converted(user=user, at=at)
        )
        expected = self.model.convert(user, at)
        result = self.world.one(fact)
        happenings[f"conversion {result.status}"] += 1
        assert result.status == expected

    @precondition(lambda self: self.model.messages)
    @rule(which=st.integers(0, 3), ago=st.sampled_from(AGO), by_event=st.booleans())
    def comes_back(self, which: int, ago: int, *, by_event: bool) -> None:
        """Let somebody convert who was written to, or will be."""
        self.converts(self.newest(which).user or USERS[0], ago, by_event=by_event)

    def newest(self, which: int) -> Message:
        return list(self.model.messages.values())[-1 - which % len(self.model.messages)]

    @precondition(lambda self: self.model.messages)
    @rule(user=st.sampled_from([None, None, *USERS]), which=st.integers(0, 5))
    def opens(self, user: str | None, which: int) -> None:
        """Tell of an open, with an id that may be somebody else's."""
        message = self.newest(which)
        user = user or message.user or USERS[0]
        expected = self.model.open(user, message, self.now)
        result = self.world.one(opened(message.id, user=user, at=self.now))
        happenings[f"open {result.status}"] += 1
        assert (result.status, result.reason) == expected

    @rarely
    @rule(
        user=somebody,
        channel=st.sampled_from(["*", "push", "whatsapp"]),
        ago=st.sampled_from(AGO[2:6]),
        no=st.booleans(),
    )
    def chooses(self, user: str, channel: str, ago: int, *, no: bool) -> None:
        """Let a user want no messages, or want them again."""
        choose, at = (said_no if no else said_yes), self.now - ago
        expected = self.model.choose(user, channel, at, no=no)
        result = self.world.one(choose(user, channel=channel, at=at))
        happenings["opt-out" if no else "opt-in"] += 1
        assert result.status == expected

    @rarely
    @rule(user=st.sampled_from(USERS))
    def is_erased(self, user: str) -> None:
        """Forget a user: no column of any table knows the id."""
        self.model.erase(user, self.now)
        with self.world.storage.transaction() as tx:
            erase_user(UserId(user), tx, Instant(self.now))
        happenings["erasure"] += 1
        with self.world.storage.readers.connect() as connection:
            for table in tables.metadata.sorted_tables:
                for row in connection.execute(select(table)):
                    assert user not in "\n".join(map(str, row)), table.name

    # What time, operators and failures do

    @rule(span=st.sampled_from(SPANS))
    def time_passes(self, span: int) -> None:
        """Let time go by."""
        self.set_clock(self.now + span)

    @rarely
    @rule(step=st.sampled_from(CLOCK_STEPS))
    def clock_is_set(self, step: int) -> None:
        """Set the clock of the machine, also back."""
        happenings["clock step"] += 1
        self.set_clock(max(self.now + step, 400 * DAY))

    def set_clock(self, at: int) -> None:
        self.world.clock.set(to_datetime(Instant(at)))

    @rarely
    @rule(scope=st.sampled_from(["*", *COHORTS]), paused=st.booleans())
    def is_paused(self, scope: str, *, paused: bool) -> None:
        """Pause or resume."""
        (self.model.paused.add if paused else self.model.paused.discard)(scope)
        self.world.pause(None if scope == "*" else scope, paused=paused)

    @rarely
    @rule(
        cap=st.sampled_from([3, 3, 1]),
        quiet=st.booleans(),
        channels=st.sampled_from([("push", "whatsapp"), ("push",)]),
    )
    def is_configured(self, cap: int, channels: tuple[str, ...], *, quiet: bool) -> None:
        """Start the engine again with another configuration."""
        self.model.settings = model.Settings(cap, quiet, channels)
        self.crashes()
        happenings["configuration"] += 1

    @rarely
    @rule()
    def crashes(self) -> None:
        """Let the process die and start again: what was under way may have gone out."""
        happenings["crash"] += 1
        self.gone += self.under_way
        self.under_way.clear()
        self.world.restart(rules_of(self.model.settings))
        self.world.cancel_what_cannot_be_sent()
        self.world.recover(all_claims=True)
        waiting = [m for m in self.model.messages.values() if m.state == "scheduled"]
        for message in waiting:
            if message.channel not in self.model.settings.channels:
                message.end("cancelled", "combo_removed")
        self.lost(m for m in self.model.messages.values() if m.state == "claimed")

    @rarely
    @rule()
    def is_recovered(self) -> None:
        """Look for claims whose lease has ended, as another process does."""
        self.world.recover()
        ended = self.now - model.LEASE
        claimed = [m for m in self.model.messages.values() if m.state == "claimed"]
        self.lost(m for m in claimed if (m.placed_at or 0) < ended)

    def lost(self, messages: Iterator[Message]) -> None:
        for message in messages:
            happenings["unknown after a crash"] += 1
            message.end("unknown", "stopped")

    @rarely
    @rule()
    def is_learned(self) -> None:
        """Let the policies look at the counters."""
        self.world.learn()

    # Delivery

    @rule(span=st.sampled_from(SPANS[1:4]))
    def claims_soon(self, span: int) -> None:
        """Wait a little, and claim."""
        self.time_passes(span)
        self.claims()

    @rule()
    def claims(self) -> None:
        """Claim; whatever moves had to, and whatever stays must wait."""
        claimed = self.world.claim()
        self.under_way += claimed.calls
        rows = self.rows()
        for moved in claimed.experiments:
            happenings[f"claim {moved.state} {moved.reason or ''}".strip()] += 1
            self.moved(moved, rows[moved.id])
        self.called(claimed)
        for message in self.model.messages.values():
            if message.state == "scheduled" and message.due_at <= self.now:
                assert "paused" in self.model.why_not(message, self.now), message
                assert self.now <= message.expires_at, message

    def moved(self, moved: Experiment, row: Mapping[str, Any]) -> None:
        message = self.model.messages[moved.id]
        why_not = self.model.why_not(message, self.now)
        assert message.state == "scheduled"
        assert "early" not in why_not
        if moved.state in ("claimed", "held_out"):
            assert not why_not, message
            assert not message.may_be_out, "it may be out already"
            assert message.held_out is (moved.state == "held_out")
            message.placed_at, message.call = self.now, row["call_id"]
        elif moved.state == "scheduled":
            assert "quiet_hours" in why_not
            assert row["due_at"] > self.now
            message.due_at, message.expires_at = row["due_at"], row["expires_at"]
        else:
            assert moved.reason in why_not, message
        if moved.reason == "converted" and message.converted_at is None:
            at = max(self.model.person(moved.user_id).goals)
            message.converted_at = at if message.holds(at) else None
        message.end(moved.state.value, moved.reason)

    def called(self, claimed: Claimed) -> None:
        placed = [e.id for e in claimed.experiments if e.state == "claimed"]
        called = [id_ for call in claimed.calls for id_ in call.recipients.values()]
        assert sorted(called) == sorted(placed)
        for call in claimed.calls:
            for user, experiment_id in call.recipients.items():
                assert self.model.messages[experiment_id].user == user

    @rule(
        user=somebody,
        cohort=st.sampled_from(COHORTS),
        way=st.sampled_from(WAYS),
        late=st.sampled_from([0, 0, 0, SECOND, MINUTE, 31 * MINUTE]),
    )
    def is_written_to(self, user: str, cohort: str, way: str, late: int) -> None:
        """Go the whole walk with one user, unless something forbids it."""
        self.leaves(user, cohort, 0, "UTC")
        waiting = [m for m in self.model.of(user, "scheduled") if m.cohort == cohort]
        if not waiting:
            return
        self.set_clock(max(self.now, waiting[0].due_at + late))
        self.claims()
        if self.under_way:
            self.provider_answers(-1, way)

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 5), way=st.sampled_from(WAYS))
    def provider_answers(self, which: int, way: str) -> None:
        """Let the provider answer a call."""
        way = "sent" if way == "failed" and self.refusals >= 10 else way  # or the channel rests
        self.refusals = self.refusals + 1 if way == "failed" else 0
        call = self.under_way.pop(which % len(self.under_way))
        self.gone.append(call)
        self.answer(call, way)

    @precondition(lambda self: self.gone)
    @rule(which=st.integers(0, 5), way=st.sampled_from(WAYS[2:]))
    def answer_comes_late(self, which: int, way: str) -> None:
        """Record an answer again, or one to a worker that was taken for dead."""
        self.answer(self.gone[-1 - which % len(self.gone)], way)

    def answer(self, call: Call, way: str) -> None:
        ((_, experiment_id),) = call.recipients.items()
        message = self.model.messages[experiment_id]
        self.world.record((call, an_answer(VERDICTS[way])))
        if message.state != "claimed" or message.call != call.id:
            happenings["answer without a claim"] += 1
            return  # it changes nothing
        happenings[f"answer {way}"] += 1
        message.may_be_out = message.may_be_out or way in ("sent", "unknown")
        if way == "scheduled" and message.user is None:
            way = "failed"  # for somebody who was erased nothing is tried again
        if way in ("failed", "scheduled"):
            message.placed_at = None
        if way == "scheduled":
            row = self.rows()[message.id]
            assert self.now < row["due_at"] or row["due_at"] == message.expires_at + 1
            message.due_at = row["due_at"]
        message.end(way)

    # What holds after every step

    @invariant()
    def stored_as_it_must_be(self) -> None:
        """States, reasons, times and owners are the model's; and nobody waits twice."""
        rows = self.rows()
        assert rows.keys() == self.model.messages.keys()
        for message in self.model.messages.values():
            row = rows[message.id]
            assert row["state"] == message.state
            assert message.state not in ("cancelled", "expired") or (
                row["reason"] == message.reason
            ), message
            for name in ("due_at", "placed_at", "opened_at", "converted_at"):
                assert row[name] == getattr(message, name), (name, message)
            assert message.user is None or row["user_id"] == message.user
        waiting = Counter(
            (row["user_id"], row["cohort"])
            for row in rows.values()
            if row["state"] in ("scheduled", "claimed") and row["user_id"] in USERS
        )
        assert max(waiting.values(), default=0) <= 1

    @invariant()
    def counted_as_it_must_be(self) -> None:
        """Add up what each message counts for: these are the counters."""
        names = "sum(trials), sum(successes), sum(sent), sum(opened), sum(converted), hour"
        query = f"SELECT {names} FROM combo_count WHERE hour = -1 GROUP BY hour"
        found = self.world.ask(query)
        sums = tuple(map(int, found[0][:5])) if found else (0,) * 5
        counts = [message.counts() for message in self.model.messages.values()]
        assert sums == tuple(map(sum, zip(*counts, strict=True))) if counts else (0,) * 5

    def teardown(self) -> None:
        """Nothing is stuck: left alone, every message comes to its end."""
        for scope in list(self.model.paused):
            self.is_paused(scope, paused=False)
        for _ in range(200):
            if not any(m.state in ("scheduled", "claimed") for m in self.model.messages.values()):
                return
            self.claims()
            for call in self.under_way:
                self.answer(call, "sent")
            self.under_way.clear()
            self.is_recovered()
            dues = [m.due_at for m in self.model.messages.values() if m.state == "scheduled"]
            self.set_clock(max(self.now + MINUTE, min(dues, default=0)))
        left = [m for m in self.model.messages.values() if m.state in ("scheduled", "claimed")]
        raise AssertionError(f"stuck: {left}")


@contextmanager
def lives_on(database: str) -> Iterator[type[Lives]]:
    """Give the machine on a database of its own."""
    with a_world(rules_of(model.Settings()), database=database) as world:

        class LivesHere(Lives):
            pass

        LivesHere.world = world
        yield LivesHere


def _live(database: str, lives: int, steps: int) -> None:
    happenings.clear()
    chosen = settings(max_examples=lives, stateful_step_count=steps, print_blob=True)
    with lives_on(database) as machine:
        run_state_machine_as_test(machine, settings=chosen)
    print(
        f"{database}: {lives} lives of at most {steps} steps: {dict(sorted(happenings.items()))}"
    )
    seldom = ("conversion cancelled", "claim held_out", "erasure", "clock step", "opt-out")
    for what in ("claim claimed", "crash", *(seldom if lives >= 200 else ())):
        assert happenings[what], f"{what} never happened"


@pytest.mark.parametrize(("database", "lives"), [("sqlite", 200), ("postgresql", 10)])
def test_lives_follow_the_model(database: str, lives: int) -> None:
    """After every step of a life, what is stored and answered is what the contract says."""
    _live(database, lives, 40)


@pytest.mark.long
@pytest.mark.parametrize(("database", "share"), [("sqlite", 1), ("postgresql", 10)])
def test_many_lives_follow_the_model(database: str, share: int) -> None:
    """The same for thousands of long lives, and a tenth of them on PostgreSQL."""
    _live(database, LIVES // share, STEPS if share == 1 else STEPS * 6 // 10)
