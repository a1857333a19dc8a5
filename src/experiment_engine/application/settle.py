"""Step 5 of the walk: record what the provider answered, or that nobody will know."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experiment_engine.application.changes import Changes, EndedAttempt
from experiment_engine.application.deliver import LEASE, Delivering, by_id
from experiment_engine.application.ports import Outbox
from experiment_engine.application.switches import give_back_offer
from experiment_engine.domain.bandit.decision import SPREAD, stream
from experiment_engine.domain.delivery.experiment import Experiment, State
from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.delivery.retry import (
    FAILING_FOR,
    REFUSALS_UNTIL_FAILING,
    next_attempt,
)
from experiment_engine.domain.identifiers import CallId, Channel, UserId
from experiment_engine.domain.moments import Duration, Instant
from experiment_engine.domain.reasons import Reason

_NOT_LET_IN = (401, 403)  # may heal, so it is tried again; yet it is a definite refusal


def record(
    answers: Sequence[tuple[Call, Answer]],
    delivering: Delivering,
    outbox: Outbox,
    now: Instant,
) -> Sequence[Experiment]:
    """Record what became of calls; return the experiments that moved.

    An answer to a claim that is no longer held, as of a worker that was taken for dead, changes
    nothing.
    """
    changes = Changes()
    user_ids = list(dict.fromkeys(user for call, _ in answers for user in call.recipients))
    named = [experiment for call, _ in answers for experiment in call.recipients.values()]
    since = Instant(now - delivering.guardrails.rules.memory())
    users = outbox.users(user_ids, since, named)
    known = by_id(users)
    heard: list[tuple[Call, Answer]] = []
    for call, answer in answers:
        held = [
            (user_id, experiment)
            for user_id, experiment_id in call.recipients.items()
            if (experiment := known.get(experiment_id)) is not None
            and experiment.call_id == call.id
            and experiment.state is State.CLAIMED
        ]
        for user_id, experiment in held:
            said = _said_of(answer, user_id, experiment)
            _settle(experiment, call, said, delivering, changes, now)
        if held:
            heard.append((call, answer))
    _judge_channels(heard, outbox, now)
    outbox.store(changes)
    return list(changes.changed.values())


def renew(
    under_way: Sequence[CallId], outbox: Outbox, now: Instant, lease: Duration = LEASE
) -> None:
    """Extend the leases of this worker's own calls."""
    if under_way:
        outbox.renew(under_way, Instant(now + lease))


def recover(outbox: Outbox, now: Instant, *, all_claims: bool) -> Sequence[Experiment]:
    """Settle what dead workers left claimed: a call may have started, so all of it is unknown.

    With `all_claims` every claim counts as abandoned: right only where no other process can
    hold one.
    """
    abandoned = outbox.abandoned(None if all_claims else now)
    if not abandoned:
        return ()
    changes = Changes()
    named = [experiment_id for _, experiment_id in abandoned]
    users = outbox.users([user for user, _ in abandoned], Instant(0), named)
    known = by_id(users)
    for experiment_id in named:
        experiment = known.get(experiment_id)
        if experiment is not None and experiment.state is State.CLAIMED:
            changes.change(experiment, lambda e: e.move(State.UNKNOWN, Reason.STOPPED))
    outbox.store(changes)
    return list(changes.changed.values())


@dataclass(frozen=True, slots=True)
class _Said:
    """What the provider's answer means for one message."""

    verdict: Verdict
    reason: str
    answer: Answer
    excerpt: str


def _said_of(answer: Answer, user_id: UserId, experiment: Experiment) -> _Said:
    verdict, reason = answer.verdict_for(user_id)
    if experiment.user_id == user_id:
        return _Said(verdict, reason, answer, answer.answer)
    # The user was erased while the call was under way: nothing is tried again, no text is kept.
    if verdict is Verdict.NOT_TAKEN:
        verdict, reason = Verdict.REFUSED, Reason.ERASED
    return _Said(verdict, reason, answer, "")


def _settle(
    experiment: Experiment,
    call: Call,
    said: _Said,
    delivering: Delivering,
    changes: Changes,
    now: Instant,
) -> None:
    placed_at = experiment.placed_at
    changes.change(experiment, _edit_for(said, delivering, now))
    changes.attempts_ended.append(
        EndedAttempt(
            experiment, call.id, now, said.verdict, said.reason, said.answer.status, said.excerpt
        )
    )
    if said.verdict in (Verdict.REFUSED, Verdict.NOT_TAKEN) and placed_at is not None:
        give_back_offer(experiment, placed_at, delivering.guardrails.rules, changes)


def _edit_for(said: _Said, delivering: Delivering, now: Instant) -> Callable[[Experiment], None]:
    retried = said.verdict is Verdict.NOT_TAKEN
    jitter = stream(delivering.chance.seed(), SPREAD) if retried else 0.0

    def edit(e: Experiment) -> None:
        e.lease_until = None
        if said.verdict is Verdict.ACCEPTED:
            e.move(State.SENT)
        elif said.verdict is Verdict.UNCERTAIN:
            e.move(State.UNKNOWN, said.reason)
        elif said.verdict is Verdict.REFUSED:
            e.move(State.FAILED, said.reason)
            e.placed_at = None
        else:
            e.move(State.SCHEDULED, said.reason)
            # Past its time it is looked at once more, and then it expires.
            later = next_attempt(now, e.attempts, jitter, said.answer.retry_after)
            e.due_at = min(later, Instant(e.expires_at + 1))
            e.placed_at = e.call_id = None

    return edit


def _judge_channels(answers: Sequence[tuple[Call, Answer]], outbox: Outbox, now: Instant) -> None:
    """Count definite refusals in a row; after 20 the channel rests for a while (R9)."""
    before = outbox.failures_in_a_row()
    if _failures_after(before, answers) == before:
        return  # nearly always
    before = outbox.failures_in_a_row(exact=True)
    for channel, failures in sorted(_failures_after(before, answers).items()):
        if failures != before.get(channel, 0):
            failing = failures >= REFUSALS_UNTIL_FAILING
            next_probe_at = Instant(now + FAILING_FOR) if failing else None
            outbox.set_failures_in_a_row(channel, failures, next_probe_at)


def _failures_after(
    before: Mapping[Channel, int], answers: Sequence[tuple[Call, Answer]]
) -> Mapping[Channel, int]:
    after = dict(before)
    for call, answer in answers:
        channel = call.content.channel
        if answer.verdict is Verdict.ACCEPTED:
            if after.get(channel):
                after[channel] = 0
        elif answer.verdict is Verdict.REFUSED or answer.status in _NOT_LET_IN:
            after[channel] = after.get(channel, 0) + 1
    return after
