"""What holds at every moment of any life: counters, states, caps, consent, and erasures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from sqlalchemy import select
from tests.contracts.lives import RULES, STEPS, USERS, Life, Other, Settle, Step, TakeIn
from tests.support.builders import World

from experiment_engine.adapters.storage import rows, tables
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.application.deliver import Claimed
from experiment_engine.domain.bandit.reward import Counts, contribution, group_of
from experiment_engine.domain.delivery.experiment import MOVES, Experiment, Mode, State
from experiment_engine.domain.identifiers import EVERY_CHANNEL, CohortName, ExperimentId
from experiment_engine.domain.moments import HOUR, Instant, to_datetime

Row = dict[str, Any]
FIELDS = list(Experiment.__dataclass_fields__)
TAKES = {"claimed", "sent", "unknown", "held_out"}
COUNTED = tuple(Counts.__dataclass_fields__)


def experiments_of(found: Sequence[Row]) -> list[Experiment]:
    return [rows.experiment_from([row[name] for name in FIELDS]) for row in found]


def go(life: Life, step: Step, kept: Sequence[str]) -> object:
    """Go through a step, facts in batches."""
    if not isinstance(step, TakeIn):
        return life.go(step)
    known = [ExperimentId(id_) for id_ in kept]
    facts = [draft.fact(life.world.now, known, known) for draft in step.drafts]
    return life.facts_in_batches(step, facts)


# Counters


def summed(experiments: Sequence[Experiment]) -> dict[tuple[object, ...], Counts]:
    """Add up what the experiments count for, by hour and over all."""
    sums: dict[tuple[object, ...], Counts] = {}
    for made in experiments:
        for hour in (made.triggered_at // HOUR, tables.ALL_HOURS):
            combo, group = made.goes_out_as, group_of(made).value
            key = (made.mode.value, made.cohort, hour, combo, group)
            sums[key] = sums.get(key, Counts()) + contribution(made)
    return {key: counts for key, counts in sums.items() if counts != Counts()}


def counted(world: World) -> dict[tuple[object, ...], Counts]:
    found = {
        (row["mode"], row["cohort"], row["hour"], row["combo_key"], row["counted_for"]): Counts(
            *(row[name] for name in COUNTED)
        )
        for row in world.rows(tables.combo_count)
    }
    return {key: counts for key, counts in found.items() if counts != Counts()}


def check_counters(world: World, experiments: Sequence[Experiment]) -> None:
    assert counted(world) == summed(experiments)
    made = Counter((e.mode.value, e.cohort, e.held_out) for e in experiments)
    assert made == {
        (row["mode"], row["cohort"], row["held_out"]): row["experiments"]
        for row in world.rows(tables.experiment_count)
    }


def check_reports(world: World) -> None:
    """Hold what reports count from the experiments against what the counters say."""
    reader = StorageReader(world.storage.readers)
    always, since = (
        sorted(astuple(counts) for counts in found if counts.trials)
        for found in (
            reader.combo_counts(Mode.LIVE, None),
            reader.combo_counts_since(Mode.LIVE, None, Instant(0)),
        )
    )
    assert always == since


# States


def check_moves(before: Sequence[Row], after: Sequence[Row]) -> None:
    """Nothing vanishes, nothing that has ended moves, and what is fixed stays as it was."""
    now = {row["id"]: row for row in after}
    for was in before:
        row = now[was["id"]]
        moved = (was["state"], was["reason"]) != (row["state"], row["reason"])
        if moved and State(row["state"]) not in MOVES[State(was["state"])]:
            # two moves inside one step: claimed and answered is not, expired after a retry is
            assert State(was["state"]) in (State.SCHEDULED, State.CLAIMED)
        for name in ("combo_key", "propensity", "seed", "triggered_at", "held_out", "manual"):
            assert row[name] == was[name]
        for name in ("opened_at", "converted_at"):
            assert was[name] in (None, row[name])
    waits = Counter(
        (row["user_id"], row["cohort"])
        for row in after
        if row["state"] in ("scheduled", "claimed")
    )
    assert max(waits.values(), default=0) <= 1


# The claim


def check_claim(world: World, claimed: Claimed, before: Sequence[Row]) -> None:
    """Whoever is written to, or held out instead, may be written to at this moment."""
    placed = {row["id"]: row for row in world.experiments() if row["id"] in _newly(claimed)}
    was = {row["id"]: row for row in before}
    paused = {row["scope"] for row in world.rows(tables.pause)}
    for id_, row in placed.items():
        assert was[id_]["state"] == "scheduled"
        assert was[id_]["due_at"] <= world.now <= was[id_]["expires_at"]
        assert not paused & {"*", row["cohort"]}
        assert not is_quiet(world.now, row["zone"])
        assert may_hear(world, row)
        assert not has_converted(world, row)
        check_caps(world, row)
    called = [id_ for call in claimed.calls for id_ in call.recipients.values()]
    assert sorted(called) == sorted(id_ for id_, row in placed.items() if not row["held_out"])
    for call in claimed.calls:
        assert len(call.recipients) <= RULES.channels[call.content.channel].batch
        for user, id_ in call.recipients.items():
            assert (placed[id_]["user_id"], placed[id_]["body"]) == (user, call.content.body)


def _newly(claimed: Claimed) -> set[str]:
    return {e.id for e in claimed.experiments if e.state in (State.CLAIMED, State.HELD_OUT)}


def is_quiet(now: Instant, zone: str) -> bool:
    assert RULES.quiet_hours is not None
    quiet = RULES.quiet_hours
    offset = {"UTC": timedelta(0), "Pacific/Chatham": timedelta(hours=13, minutes=45)}[zone]
    return quiet.start <= (to_datetime(now) + offset).time() < quiet.end


def may_hear(world: World, row: Row) -> bool:
    said = [
        (choice["at"], not choice["allowed"])
        for choice in world.rows(tables.choice)
        if choice["user_id"] == row["user_id"]
        and choice["channel"] in (EVERY_CHANNEL, row["channel"])
    ]
    says_no = max(said)[1] if said else RULES.channels[row["channel"]].consent == "required"
    return not says_no


def has_converted(world: World, row: Row) -> bool:
    cohort = RULES.cohorts[CohortName(row["cohort"])]
    return any(
        reached["at"] >= row["triggered_at"] - cohort.trigger.converted_quiet
        for reached in world.rows(tables.goal_reached)
        if (reached["user_id"], reached["goal"]) == (row["user_id"], cohort.goal.event)
    )


def check_caps(world: World, row: Row) -> None:
    assert RULES.frequency_cap is not None
    taken = [
        (other["placed_at"], other["channel"], other["id"])
        for other in world.experiments(row["user_id"])
        if other["state"] in TAKES and other["placed_at"] is not None
    ]
    for cap, moments in (
        (RULES.frequency_cap, [at for at, _, _ in taken]),
        (
            RULES.channels[row["channel"]].frequency_cap,
            [at for at, channel, _ in taken if channel == row["channel"]],
        ),
    ):
        if cap is not None:
            recent = [at for at in moments if at > world.now - cap.per]
            assert len(recent) <= cap.messages
    others = [at for at, _, id_ in taken if id_ != row["id"]]
    assert all(abs(world.now - at) >= RULES.frequency_cap.min_gap for at in others)


def check_fence(life: Life, before: Sequence[Row], after: Sequence[Row]) -> None:
    """Hold an answer to what its own call carries."""
    assert life.settled is not None or before == after
    for was, row in zip(before, after, strict=True):
        if was != row:
            assert life.settled is not None
            assert (was["state"], was["call_id"]) == ("claimed", life.settled.id)


# Who is forgotten


def check_forgotten(world: World, user: str) -> None:
    """Right after an erasure no column of any table holds the user's id."""
    with world.storage.readers.connect() as connection:
        for table in tables.metadata.sorted_tables:
            for row in connection.execute(select(table)):
                assert user not in "\n".join(str(value) for value in row)


@settings(max_examples=60)
@given(steps=STEPS)
def test_what_holds_at_every_moment(worlds: tuple[World, World], steps: list[Step]) -> None:
    """After every step of any life: counters, states, caps, consent and erasures are right."""
    world, _ = worlds
    world.begin_anew()
    life, before = Life(world), world.experiments()

    for step in steps:
        outcome = go(life, step, [row["id"] for row in before])
        after = world.experiments()
        if isinstance(step, Other) and step.what == "erase":
            check_forgotten(world, USERS[step.whom % len(USERS)])
        check_counters(world, experiments_of(after))
        check_moves(before, after)
        if isinstance(outcome, Claimed):
            check_claim(world, outcome, before)
        if isinstance(step, Settle):
            check_fence(life, before, after)
        before = after
    check_reports(world)
