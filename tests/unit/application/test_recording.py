"""What the provider answered, late answers, and what dead workers left (R2, R7, R9, R10)."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import (
    NOW,
    PUSH,
    USER,
    World,
    a_cohort,
    a_world,
    happened,
    said_no,
    some_rules,
)
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.application.deliver import LEASE
from experiment_engine.application.manage import erase_user
from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.identifiers import CallId
from experiment_engine.domain.moments import HOUR, MINUTE, SECOND
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import ChannelRules, Rules

ONE = a_cohort(delays=("2min",), angles=("urgency",))
BATCHED = some_rules(ONE, channels={PUSH: ChannelRules(batch=100)})
THREE = ("u1", "u2", "u3")


@pytest.fixture
def world() -> Iterator[World]:
    """Return one cohort with one combo, a call for each user."""
    with a_world(some_rules(ONE)) as opened:
        yield opened


def claimed(world: World, *users: str) -> Call:
    """Bring messages of these users into one call, or one user's."""
    world.take(*(happened(user=user) for user in users or (USER,)))
    world.clock.advance("2min")
    (call,) = world.claim().calls
    return call


@pytest.mark.parametrize(
    ("verdict", "state", "keeps_its_place"),
    [
        (Verdict.ACCEPTED, ("sent", None), True),
        (Verdict.REFUSED, ("failed", "http_400"), False),
        (Verdict.UNCERTAIN, ("unknown", "http_400"), True),
        (Verdict.NOT_TAKEN, ("scheduled", "http_400"), False),
    ],
)
def test_what_a_verdict_does(
    *, world: World, verdict: Verdict, state: tuple[str, str | None], keeps_its_place: bool
) -> None:
    """Accepted is sent, refused is failed, uncertain is unknown, not taken is tried again."""
    call = claimed(world)

    (moved,) = world.record((call, an_answer(verdict, "http_400")))

    assert world.states() == [state]
    row = world.experiment()
    assert (row["placed_at"] is not None) is keeps_its_place
    assert row["lease_until"] is None
    assert moved.id == row["id"]


def test_every_try_is_kept(world: World) -> None:
    """Each try at the provider is kept with its call, its times and what came back."""
    first = claimed(world)
    world.clock.advance("1s")
    world.record((first, an_answer(Verdict.NOT_TAKEN, "http_429")))
    world.clock.advance("10s")
    (second,) = world.claim().calls
    world.clock.advance("1s")
    world.record((second, an_answer()))

    one, two = world.rows(tables.attempt)
    began = NOW + 2 * MINUTE
    assert (one["number"], one["call_id"], one["started_at"]) == (1, first.id, began)
    assert (one["ended_at"], one["verdict"], one["reason"]) == (
        began + SECOND,
        "not_taken",
        "http_429",
    )
    assert (two["number"], two["call_id"], two["verdict"]) == (2, second.id, "accepted")
    assert (two["status"], two["answer"]) == (200, "as told")


def test_each_user_has_an_outcome_of_their_own() -> None:
    """Users that the answer names apart get their own verdict, the others the call's (R10)."""
    with a_world(BATCHED) as world:
        call = claimed(world, *THREE)

        world.record(
            (call, an_answer(exceptions={"u1": Verdict.REFUSED, "u3": Verdict.UNCERTAIN}))
        )

        assert {row["user_id"]: row["state"] for row in world.experiments()} == {
            "u1": "failed",
            "u2": "sent",
            "u3": "unknown",
        }


def test_a_time_out_makes_the_whole_call_unknown() -> None:
    """If nobody knows what became of a call, all of its messages are unknown (R10)."""
    with a_world(BATCHED) as world:
        world.record((claimed(world, *THREE), an_answer(Verdict.UNCERTAIN, "timed_out")))

        assert set(world.states()) == {("unknown", "timed_out")}
        world.clock.advance("1h")
        assert not world.claim().calls
        assert world.counts() == {}


def test_the_parts_of_a_halved_call() -> None:
    """The answers to the parts of a call settle their own users, under the call's id (R10)."""
    with a_world(BATCHED) as world:
        call = claimed(world, *THREE)
        users = list(call.recipients.items())
        parts = [Call(call.id, call.content, dict(some)) for some in (users[:1], users[1:])]

        world.record((parts[0], an_answer(Verdict.REFUSED)), (parts[1], an_answer()))

        assert [row["state"] for row in world.experiments()] == ["failed", "sent", "sent"]


# Trying again


def test_a_retry_waits_longer_each_time(world: World) -> None:
    """What was not taken is tried again after 2, 4, 8 ... seconds and a chance, then sent once."""
    call = claimed(world)
    for attempt in range(1, 6):
        world.record((call, an_answer(Verdict.NOT_TAKEN)))
        wait = world.experiment()["due_at"] - world.now
        assert 2**attempt * SECOND <= wait < 1.5 * 2**attempt * SECOND
        assert not world.claim().calls
        world.clock.advance(f"{wait / SECOND}s")
        (call,) = world.claim().calls
    world.record((call, an_answer()))

    assert world.states() == [("sent", None)]
    assert world.experiment()["attempts"] == 6
    assert world.counts() == {"combo": (1, 0, 1, 0, 0)}


def test_as_late_as_the_provider_asks(world: World) -> None:
    """A retry does not come before the time that the provider asked for."""
    call = claimed(world)
    world.record((call, an_answer(Verdict.NOT_TAKEN, retry_after=10 * MINUTE)))  # type: ignore[arg-type]

    assert world.experiment()["due_at"] == world.now + 10 * MINUTE


def test_retries_end_with_the_time(world: World) -> None:
    """A message that cannot be handed over in time expires, and is not tried after it (R7)."""
    call = claimed(world)
    world.record((call, an_answer(Verdict.NOT_TAKEN, retry_after=HOUR)))
    expires_at = world.experiment()["expires_at"]
    world.clock.advance("30min")
    assert not world.claim().experiments
    assert world.now == expires_at
    world.clock.advance("0.001s")

    assert not world.claim().calls
    assert world.states() == [("expired", "expired")]


@pytest.mark.parametrize(("delay", "told"), [("1min", "paused"), ("1min", "opted out")])
def test_a_retry_passes_the_whole_claim(*, world: World, delay: str, told: str) -> None:
    """What happened meanwhile stops a retry as it stops a first try (R7)."""
    call = claimed(world)
    world.record((call, an_answer(Verdict.NOT_TAKEN)))
    if told == "paused":
        world.pause()
    else:
        world.one(said_no())
    world.clock.advance(delay)

    assert not world.claim().calls


# Late answers and dead workers


def test_the_same_answer_twice(world: World) -> None:
    """An answer that is recorded again changes nothing."""
    call = claimed(world)
    world.record((call, an_answer()))

    assert not world.record((call, an_answer()))
    assert not world.record((call, an_answer(Verdict.REFUSED)))
    assert world.counts() == {"combo": (1, 0, 1, 0, 0)}


def test_an_answer_to_a_claim_that_is_no_longer_held(world: World) -> None:
    """Once a message is settled as unknown, the answer of a worker taken for dead is too late."""
    call = claimed(world)
    world.recover(all_claims=True)

    assert not world.record((call, an_answer()))
    assert world.states() == [("unknown", "stopped")]


@pytest.mark.parametrize("late", list(Verdict))
def test_the_fence_is_the_call(*, world: World, late: Verdict) -> None:
    """While a second call is under way, a late answer to the first one settles nothing."""
    first = claimed(world)
    world.record((first, an_answer(Verdict.NOT_TAKEN)))
    world.clock.advance("10s")
    (second,) = world.claim().calls

    assert not world.record((first, an_answer(late)))
    assert world.states() == [("claimed", None)]
    world.record((second, an_answer()))
    assert world.states() == [("sent", None)]


def test_an_answer_of_nobody_s_call(world: World) -> None:
    """An answer with a call id that was never given out settles nothing."""
    call = claimed(world)

    stranger = Call(CallId("call-of-nobody"), call.content, call.recipients)

    assert not world.record((stranger, an_answer()))
    assert world.states() == [("claimed", None)]


def test_an_answer_that_names_a_stranger(world: World) -> None:
    """A user in an answer who is not in its call is passed over."""
    call = claimed(world)

    world.record((call, an_answer(exceptions={"somebody else": Verdict.REFUSED})))

    assert world.states() == [("sent", None)]


def test_recover_after_the_lease(world: World) -> None:
    """What is claimed longer than its lease becomes unknown, what is not stays claimed."""
    claimed(world)
    world.clock.advance("2min")
    assert world.now == world.experiment()["lease_until"]
    assert not world.recover()
    world.clock.advance("0.001s")

    (moved,) = world.recover()

    assert LEASE == 2 * MINUTE
    assert (moved.state.value, moved.reason) == ("unknown", Reason.STOPPED)
    assert world.states() == [("unknown", "stopped")]
    assert world.experiment()["placed_at"] is not None
    assert not world.recover()


def test_a_call_that_takes_long_is_kept(world: World) -> None:
    """A worker's own calls under way keep their claims, however long they take."""
    call = claimed(world)
    for _ in range(4):
        world.clock.advance("100s")
        assert not world.recover(call.id)
    world.record((call, an_answer()))

    assert world.states() == [("sent", None)]


def test_a_lease_is_renewed_for_calls_under_way_only() -> None:
    """While one call is kept, another's claim that nobody holds is settled as unknown."""
    with a_world(some_rules(ONE)) as world:
        world.take(happened(user="u1"), happened(user="u2"))
        world.clock.advance("2min")
        kept, lost = world.claim().calls
        world.clock.advance("121s")

        (moved,) = world.recover(kept.id)

        assert {moved.id} == set(lost.recipients.values())
        assert sorted(state for state, _ in world.states()) == ["claimed", "unknown"]


def test_recover_at_a_start() -> None:
    """A start settles every claim of the process before it, and nothing else."""
    with a_world(BATCHED) as world:
        claimed(world, *THREE)
        world.one(happened(user="waiting"))

        assert len(world.recover(all_claims=True)) == 3
        assert sorted(state for state, _ in world.states()) == ["scheduled", *["unknown"] * 3]


def test_an_unknown_is_never_sent_again(world: World) -> None:
    """Nothing sends an unknown message again by itself."""
    claimed(world)
    world.recover(all_claims=True)
    for _ in range(5):
        world.clock.advance("30min")
        assert not world.claim().calls
        assert not world.recover(all_claims=True)


def test_a_user_erased_while_the_call_is_under_way(world: World) -> None:
    """A message accepted after its user was erased still ends as sent, without the user (R2)."""
    call = claimed(world)
    with world.storage.transaction() as tx:
        erase_user(USER, tx, world.now)

    world.record((call, an_answer()))

    assert world.states() == [("sent", None)]
    assert USER not in str(world.experiments()) + str(world.rows(tables.attempt))


# A failing channel


def refusals(world: World) -> list[int]:
    return [row["failures_in_a_row"] for row in world.rows(tables.channel_health)]


def test_refusals_are_counted_in_a_row(world: World) -> None:
    """Refusals count up, an accepted call counts back to none, doubts change nothing (R9)."""
    world.take(*(happened(user=f"u{number}") for number in range(6)))
    world.clock.advance("2min")
    calls = world.claim().calls
    seen = []
    for call, verdict in zip(
        calls,
        [
            Verdict.REFUSED,
            Verdict.REFUSED,
            Verdict.UNCERTAIN,
            Verdict.REFUSED,
            Verdict.ACCEPTED,
            Verdict.REFUSED,
        ],
        strict=True,
    ):
        world.record((call, an_answer(verdict)))
        seen += refusals(world)

    assert seen == [1, 2, 2, 3, 0, 1]


# Any provider at all

ANSWERS = st.lists(
    st.tuples(st.sampled_from(list(Verdict)), st.integers(0, 3)), min_size=1, max_size=25
)


@settings(max_examples=40)
@given(answers=ANSWERS, batch=st.sampled_from([1, 3]), data=st.data())
def test_any_provider(answers: list[tuple[Verdict, int]], batch: int, data: st.DataObject) -> None:
    """Whatever the provider does, no message is accepted twice, and each ends in one state."""
    rules: Rules = some_rules(ONE, channels={PUSH: ChannelRules(batch=batch)})
    accepted: list[str] = []
    with a_world(rules) as world:
        world.take(*(happened(user=f"u{number}") for number in range(5)))
        world.clock.advance("2min")
        under_way: list[Call] = []
        for verdict, wait in answers:
            under_way += world.claim(2).calls
            if under_way:
                call = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
                answer: Answer = an_answer(verdict)
                if verdict is Verdict.ACCEPTED:
                    accepted += call.recipients.values()
                world.record((call, answer))
            world.clock.advance(f"{wait * 10}s")
            world.recover()
        world.clock.advance("40min")
        world.recover()
        world.claim()

        assert len(accepted) == len(set(accepted))
        states = {row["id"]: row["state"] for row in world.experiments()}
        assert set(states.values()) <= {"sent", "failed", "unknown", "expired"}
        assert {id_ for id_, state in states.items() if state == "sent"} == set(accepted)
        sent = world.counts().get("combo", (0, 0, 0))[2]
        assert sent == len(accepted)
