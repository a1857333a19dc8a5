"""What an answer of CleverTap, or the lack of one, means for the messages of a call."""

from collections.abc import Iterable
from dataclasses import replace

from experiment_engine.adapters.calling.endings import Members, Reply, answered, members_of
from experiment_engine.adapters.calling.statuses import SUCCESSES, UNCERTAIN, of_status
from experiment_engine.adapters.clevertap.answer_bodies import Outcome, outcome_of, telling
from experiment_engine.domain.delivery.message import Answer, Call


def of_reply(call: Call, reply: Reply, secrets: Iterable[str] = ()) -> Answer:
    """Classify an answer of which at least the status arrived: a 4xx is one even if cut short."""
    said = members_of(reply.body)
    outcome = _outcome(call, reply, said)
    told = telling(said) if said else None
    return replace(
        answered(reply, outcome.meaning, outcome.reason, told, secrets),
        whole_call=outcome.meaning.whole_call,
        exceptions=outcome.exceptions,
    )


def _outcome(call: Call, reply: Reply, said: Members | None) -> Outcome:
    if reply.status not in SUCCESSES:
        return Outcome(of_status(reply.status), f"http_{reply.status}")
    if said is None:
        return Outcome(UNCERTAIN, reply.fault or "not_json")
    return outcome_of(call, said)
