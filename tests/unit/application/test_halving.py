"""A call that is refused as a whole is halved down to the culprit (CONTRACT R10)."""

import asyncio
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import PUSH
from tests.support.fakes import FakeSender, an_answer

from experiment_engine.domain.delivery.message import Answer, Call, Content, Verdict
from experiment_engine.domain.identifiers import CallId, ExperimentId, UserId
from experiment_engine.entrypoints.worker import send_halving

CONTENT = Content(PUSH, "title", "body", "link")


def a_call(users: int) -> Call:
    return Call(
        CallId("call-1"),
        CONTENT,
        {UserId(f"u{n:04}"): ExperimentId(f"id-{n:04}") for n in range(users)},
    )


def send(call: Call, sender: FakeSender) -> list[tuple[Call, Answer]]:
    return asyncio.run(send_halving(sender, call))


def refusing(culprits: Collection[str]) -> FakeSender:
    """Return a provider that refuses every call with one of these users in it."""
    return FakeSender(
        lambda call: an_answer(
            Verdict.REFUSED if set(call.recipients) & set(culprits) else Verdict.ACCEPTED
        )
    )


def outcomes(parts: list[tuple[Call, Answer]]) -> dict[str, Verdict]:
    return {
        user: answer.verdict_for(user)[0] for call, answer in parts for user in call.recipients
    }


@given(users=st.integers(1, 40), data=st.data())
def test_only_the_culprits_are_refused(users: int, data: st.DataObject) -> None:
    """Whoever spoils a call is refused alone; everybody else gets the message, exactly once."""
    call = a_call(users)
    culprits = data.draw(st.sets(st.sampled_from(sorted(call.recipients))))
    sender = refusing(culprits)

    parts = send(call, sender)

    assert outcomes(parts) == {
        user: Verdict.REFUSED if user in culprits else Verdict.ACCEPTED for user in call.recipients
    }
    reached = [
        user
        for made in sender.calls
        if not set(made.recipients) & culprits
        for user in made.recipients
    ]
    assert sorted(reached) == sorted(set(call.recipients) - culprits)


@given(users=st.integers(1, 40), data=st.data())
def test_every_user_is_in_one_part(users: int, data: st.DataObject) -> None:
    """The answered parts hold every recipient once, with its experiment, under the call's id."""
    call = a_call(users)
    culprits = data.draw(st.sets(st.sampled_from(sorted(call.recipients))))

    parts = send(call, refusing(culprits))

    together = [pair for part, _ in parts for pair in part.recipients.items()]
    assert sorted(together) == sorted(call.recipients.items())
    assert {part.id for part, _ in parts} == {call.id}
    assert all(part.content == call.content for part, _ in parts)


def test_one_culprit_in_a_thousand_is_found_quickly() -> None:
    """Halving finds one user in a thousand with about twenty calls."""
    sender = refusing({"u0617"})

    parts = send(a_call(1_000), sender)

    assert list(outcomes(parts).values()).count(Verdict.REFUSED) == 1
    assert len(sender.calls) <= 22


def test_nothing_but_a_refusal_of_the_whole_call_is_repeated() -> None:
    """What was accepted, is in doubt, may be tried later, or speaks of users stays whole."""
    for answer in (
        an_answer(Verdict.ACCEPTED),
        an_answer(Verdict.UNCERTAIN),
        an_answer(Verdict.NOT_TAKEN),
        an_answer(Verdict.REFUSED, whole_call=False),
        an_answer(exceptions={"u0001": Verdict.REFUSED}),
    ):
        sender = FakeSender(lambda _, answer=answer: answer)  # type: ignore[misc]
        call = a_call(8)

        assert send(call, sender) == [(call, answer)]
        assert len(sender.calls) == 1


def test_a_doubt_inside_a_half_stays_there() -> None:
    """If one half times out it is unknown and not sent again; the other half goes its own way."""

    def answering(call: Call) -> Answer:
        if len(call.recipients) == 8:
            return an_answer(Verdict.REFUSED)
        return an_answer(Verdict.UNCERTAIN if "u0000" in call.recipients else Verdict.ACCEPTED)

    sender = FakeSender(answering)

    verdicts = outcomes(send(a_call(8), sender))

    assert [verdicts[UserId(f"u{n:04}")] for n in range(8)] == (
        [Verdict.UNCERTAIN] * 4 + [Verdict.ACCEPTED] * 4
    )
    assert len(sender.calls) == 3


def test_one_user_is_not_halved() -> None:
    """A refused call of one user is that user's refusal."""
    sender = refusing({"u0000"})

    ((part, answer),) = send(a_call(1), sender)

    assert len(sender.calls) == 1
    assert answer.verdict is Verdict.REFUSED
    assert part.carries_ids
