"""Steps 3 and 5 of the walk: claim what is due, and record what the provider answered.

Between them the provider is called, with no transaction open. The claim is the check: whatever
forbids a message is looked up in the transaction that hands it to a call.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from experiment_engine.application.changes import Changes, EndedAttempt
from experiment_engine.application.feedback import cancel_converted
from experiment_engine.application.ports import Chance, Outbox, Switches
from experiment_engine.application.switches import (
    day_of,
    offers_used_today,
    switched_off,
)
from experiment_engine.domain.bandit.decision import SPREAD, stream
from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.cohorts.user import User
from experiment_engine.domain.delivery.experiment import Due, Experiment, State
from experiment_engine.domain.delivery.message import Answer, Call, Content, Verdict
from experiment_engine.domain.delivery.retry import (
    FAILING_FOR,
    REFUSALS_UNTIL_FAILING,
    next_attempt,
)
from experiment_engine.domain.guardrails import Guardrails, still_wanted
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId
from experiment_engine.domain.moments import MINUTE, Duration, Instant
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import Rules

LEASE = Duration(2 * MINUTE)  # far above a call's time limit: nobody else touches what is claimed
_NOT_LET_IN = (401, 403)  # may heal, so it is tried again; yet it is a definite refusal
_SPARE = 200  # due deliveries looked at beyond what can be sent, so that none outlives its time


@dataclass(frozen=True, slots=True)
class Delivering:
    """What stays the same from claim to claim."""

    guardrails: Guardrails
    chance: Chance


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim hands to the provider, and every experiment it moved."""

    calls: Sequence[Call]
    experiments: Sequence[Experiment]


def claim(
    free: Mapping[Channel, int],
    allowance: int,
    delivering: Delivering,
    outbox: Outbox,
    now: Instant,
) -> Claimed:
    """Claim due deliveries for at most `free` calls a channel and `allowance` messages in all.

    Whatever may not go out is cancelled, postponed, expired or held out with its reason. A
    channel with no free call is still looked at, so that what waits for it expires in time.
    """
    rules = delivering.guardrails.rules
    switches = switched_off(outbox, rules, delivering.guardrails.mode, now)
    paused = [name for name in rules.cohorts if switches.is_paused(name)]
    dues: list[Due] = []
    for channel, channel_rules in rules.channels.items():
        wanted = min(free.get(channel, 0) * channel_rules.batch, allowance)
        dues += outbox.due(channel, now, wanted + _SPARE, held_out=False, paused=paused)
        dues += outbox.due(channel, now, _SPARE, held_out=True, paused=paused)
    if not dues:
        return Claimed((), ())
    user_ids = list(dict.fromkeys(due.user_id for due in dues))
    users = outbox.users(user_ids, Instant(now - rules.memory()), [])
    claiming = _Claiming.begin(delivering, outbox, users, switches, now, dict(free), allowance)
    for due in dues:
        claiming.take(due)
    outbox.store(claiming.changes)
    return Claimed(claiming.calls(), list(claiming.changes.changed.values()))


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
    known = _by_id(users)
    for call, answer in answers:
        for user_id, experiment_id in call.recipients.items():
            experiment = known.get(experiment_id)
            if experiment is None or experiment.call_id != call.id:
                continue
            if experiment.state is State.CLAIMED:
                said = _said_of(answer, user_id, experiment)
                _settle(experiment, call, said, delivering, changes, now)
    _judge_channels(answers, outbox, now)
    outbox.store(changes)
    return list(changes.changed.values())


def recover(
    under_way: Sequence[CallId], outbox: Outbox, now: Instant, *, all_claims: bool
) -> Sequence[Experiment]:
    """Settle what dead workers left claimed: a call may have started, so all of it is unknown.

    The calls `under_way` are this worker's own: their leases are extended. With `all_claims`
    every claim counts as abandoned: right only where no other process can hold one.
    """
    if under_way:
        outbox.renew(under_way, Instant(now + LEASE))
    abandoned = outbox.abandoned(None if all_claims else now)
    if not abandoned:
        return ()
    changes = Changes()
    named = [experiment_id for _, experiment_id in abandoned]
    users = outbox.users([user for user, _ in abandoned], Instant(0), named)
    known = _by_id(users)
    for experiment_id in named:
        experiment = known.get(experiment_id)
        if experiment is not None and experiment.state is State.CLAIMED:
            changes.change(experiment, lambda e: e.move(State.UNKNOWN, Reason.STOPPED))
    outbox.store(changes)
    return list(changes.changed.values())


@dataclass(slots=True)
class _Claiming:
    """Works through due deliveries one after another and gathers calls."""

    rules: Rules
    guardrails: Guardrails
    chance: Chance
    users: Mapping[UserId, User]
    waiting: Mapping[ExperimentId, Experiment]
    switches: Switches
    now: Instant
    free: dict[Channel, int]
    allowance: int
    day: int
    offers_used: dict[str, int]
    changes: Changes = field(default_factory=Changes)
    open_calls: list["_OpenCall"] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        delivering: Delivering,
        outbox: Outbox,
        users: Mapping[UserId, User],
        switches: Switches,
        now: Instant,
        free: dict[Channel, int],
        allowance: int,
    ) -> "_Claiming":
        """Read what holds for all deliveries of this claim."""
        guardrails = delivering.guardrails
        rules = guardrails.rules
        used = (
            offers_used_today(outbox, rules, guardrails.mode, now) if rules.offers_per_day else {}
        )
        return cls(
            rules=rules,
            guardrails=guardrails,
            chance=delivering.chance,
            users=users,
            switches=switches,
            waiting=_by_id(users),
            now=now,
            free=free,
            allowance=allowance,
            day=day_of(now, rules.timezone),
            offers_used=dict(used),
        )

    def take(self, due: Due) -> None:
        """Cancel, expire, postpone, hold out or claim one delivery, or leave it waiting."""
        experiment = self.waiting.get(due.experiment_id)
        if experiment is None or experiment.state is not State.SCHEDULED:
            return
        user = self.users[due.user_id]
        combo = self._combo(experiment)
        if combo is None or experiment.mode is not self.guardrails.mode:
            self._cancel(
                experiment,
                Reason.COMBO_REMOVED if combo is None else Reason.MODE_CHANGED,
            )
        elif (refusal := self.guardrails.may_contact(experiment.channel, user)) is not None:
            self._cancel(experiment, refusal)
        elif not still_wanted(self.rules.cohorts[experiment.cohort], experiment, user):
            goal = self.rules.cohorts[experiment.cohort].goal.event
            self.changes.change(experiment, cancel_converted(user.goals[goal]))
        elif self.now > experiment.expires_at:
            self.changes.change(experiment, lambda e: e.move(State.EXPIRED, Reason.EXPIRED))
        elif not self.switches.is_paused(experiment.cohort):
            self._send_or_wait(due, experiment, user, combo)

    def calls(self) -> list[Call]:
        """Return the calls that the claimed deliveries make up."""
        return [Call(c.id, c.content, c.recipients) for c in self.open_calls]

    def _send_or_wait(self, due: Due, experiment: Experiment, user: User, combo: Combo) -> None:
        if self.guardrails.is_quiet(experiment.channel, due.zone, self.now):
            self._postpone(due, experiment)
        elif not self.guardrails.within_caps(experiment.channel, user, self.now):
            self._cancel(experiment, Reason.FREQUENCY_CAP)
        elif self._budget_is_spent(combo.offer):
            self._cancel(experiment, Reason.OFFER_BUDGET)
        elif experiment.held_out:
            self._hold_out(experiment)
        else:
            self._claim(due, experiment, combo)

    def _combo(self, experiment: Experiment) -> Combo | None:
        cohort = self.rules.cohorts.get(experiment.cohort)
        return None if cohort is None else cohort.space.by_key.get(experiment.combo_key)

    def _cancel(self, experiment: Experiment, reason: Reason) -> None:
        self.changes.change(experiment, lambda e: e.move(State.CANCELLED, reason))

    def _postpone(self, due: Due, experiment: Experiment) -> None:
        later = self.guardrails.after_quiet_hours(
            experiment.channel, due.zone, self.now, stream(due.seed, SPREAD)
        )

        def edit(e: Experiment) -> None:
            e.move(State.SCHEDULED, Reason.QUIET_HOURS)
            e.due_at, e.postponed = later, True
            e.expires_at = Instant(later + self.rules.expires_after)

        self.changes.change(experiment, edit)

    def _hold_out(self, experiment: Experiment) -> None:
        def edit(e: Experiment) -> None:
            e.move(State.HELD_OUT)
            e.placed_at = self.now

        self.changes.change(experiment, edit)

    def _budget_is_spent(self, offer: str) -> bool:
        limit = self.rules.offers_per_day.get(offer)
        return limit is not None and self.offers_used.get(offer, 0) >= limit

    def _claim(self, due: Due, experiment: Experiment, combo: Combo) -> None:
        call = self._call_for(due, experiment, combo)
        if call is None:
            return  # no call is free for it: it waits for the next claim
        call.recipients[due.user_id] = experiment.id
        self.allowance -= 1

        def edit(e: Experiment) -> None:
            e.move(State.CLAIMED)
            e.placed_at, e.call_id = self.now, call.id
            e.lease_until = Instant(self.now + LEASE)
            e.attempts += 1

        self.changes.change(experiment, edit)
        self.changes.attempts_begun.append(experiment)
        if combo.offer in self.rules.offers_per_day:
            self.offers_used[combo.offer] = self.offers_used.get(combo.offer, 0) + 1
            self.changes.offers_used[experiment.mode, combo.offer, self.day] += 1

    def _call_for(self, due: Due, experiment: Experiment, combo: Combo) -> "_OpenCall | None":
        if self.allowance <= 0:
            return None
        content = message_content(self.rules, combo, due)
        batch = self.rules.channels[experiment.channel].batch
        for call in self.open_calls:
            if (
                len(call.recipients) < batch
                and due.user_id not in call.recipients
                and call.content == content
            ):
                return call
        if self.free.get(experiment.channel, 0) <= 0:
            return None
        self.free[experiment.channel] -= 1
        opened = _OpenCall(self.chance.call_id(), content)
        self.open_calls.append(opened)
        return opened


@dataclass(slots=True)
class _OpenCall:
    id: CallId
    content: Content
    recipients: dict[UserId, ExperimentId] = field(default_factory=dict)


def message_content(rules: Rules, combo: Combo, due: Due) -> Content:
    """Return what the provider is handed for a delivery, the user apart."""
    channel = rules.channels[combo.channel]
    return Content(
        channel=combo.channel,
        title=due.title,
        body=due.body,
        deep_link=channel.deep_link,
        campaign_id=channel.campaign(due.language, combo.angle, combo.offer),
    )


def _by_id(users: Mapping[UserId, User]) -> Mapping[ExperimentId, Experiment]:
    return {e.id: e for user in users.values() for e in user.experiments}


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
        _give_back_offer(experiment, placed_at, delivering.guardrails.rules, changes)


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


def _give_back_offer(
    experiment: Experiment, placed_at: Instant, rules: Rules, changes: Changes
) -> None:
    cohort = rules.cohorts.get(experiment.cohort)
    combo = cohort.space.by_key.get(experiment.combo_key) if cohort else None
    if combo is not None and combo.offer in rules.offers_per_day:
        day = day_of(placed_at, rules.timezone)
        changes.offers_used[experiment.mode, combo.offer, day] -= 1


def _judge_channels(answers: Sequence[tuple[Call, Answer]], outbox: Outbox, now: Instant) -> None:
    """Count definite refusals in a row; after 20 the channel rests for a while (R9)."""
    before = outbox.failures_in_a_row()
    after = dict(before)
    for call, answer in answers:
        channel = call.content.channel
        if answer.verdict is Verdict.ACCEPTED:
            after[channel] = 0
        elif answer.verdict is Verdict.REFUSED or answer.status in _NOT_LET_IN:
            after[channel] = after.get(channel, 0) + 1
    for channel, failures in after.items():
        if failures != before.get(channel, 0):
            failing = failures >= REFUSALS_UNTIL_FAILING
            next_probe_at = Instant(now + FAILING_FOR) if failing else None
            outbox.set_failures_in_a_row(channel, failures, next_probe_at)
