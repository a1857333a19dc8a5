"""Step 3 of the walk: claim what is due. The claim is the check.

Whatever forbids a message is looked up in the transaction that hands it to a call. The provider
is called afterwards, with no transaction open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from experiment_engine.application.changes import Changes, Replaced
from experiment_engine.application.feedback import cancel_converted
from experiment_engine.application.ports import Chance, Outbox, Switches
from experiment_engine.application.switches import day_of, is_spent, offers_used, switched_off
from experiment_engine.domain.bandit.decision import SPREAD, stream
from experiment_engine.domain.bandit.stand_in import StandIn
from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.cohorts.user import User
from experiment_engine.domain.delivery.experiment import Due, Experiment, Mode, State
from experiment_engine.domain.delivery.facts import first_refusal
from experiment_engine.domain.delivery.limits import OfferUse
from experiment_engine.domain.delivery.message import Call, Content
from experiment_engine.domain.delivery.pace import UNLIMITED, Pace
from experiment_engine.domain.guardrails import Guardrails, still_wanted
from experiment_engine.domain.identifiers import (
    CallId,
    Channel,
    ComboKey,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import MINUTE, SECOND, Duration, Instant
from experiment_engine.domain.pausing import is_taken_out, of_channel
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import Rules

LEASE = Duration(2 * MINUTE)  # far above a call's time limit: nobody else touches what is claimed
_LONGEST_CALL = Duration(30 * SECOND)  # a call ends by itself in half of it
_FEW = 8
_SPARE = 200  # due deliveries looked at beyond what can be sent, so that none outlives its time


@dataclass(frozen=True, slots=True)
class Delivering:
    """What stays the same from claim to claim."""

    guardrails: Guardrails
    chance: Chance
    lease: Duration = LEASE


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim hands to the provider, and every experiment it moved."""

    calls: Sequence[Call]
    experiments: Sequence[Experiment]
    at: Instant  # from when on the leases run


def claim(
    free: Mapping[Channel, int],
    delivering: Delivering,
    outbox: Outbox,
    now: Instant,
    *,
    allowance: int = UNLIMITED,
    under_way: Sequence[CallId] = (),
    thorough: bool = True,
) -> Claimed:
    """Claim due deliveries for at most `free` calls a channel and `allowance` messages in all.

    The calls that this worker has `under_way` are not free any more; those of others are taken
    off here, and so is what the send rate does not allow yet. Whatever may not go out is
    cancelled, postponed, expired or held out with its reason. A channel with no free call is
    still looked at, so that what waits for it expires in time; a claim that is not `thorough`
    looks at little more than it can send, and leaves that to others.
    """
    spare = _SPARE if thorough else _FEW
    rules = delivering.guardrails.rules
    elsewhere = outbox.calls_elsewhere(
        sorted(rules.channels), under_way, _reached(delivering, now)
    )
    free = {channel: free.get(channel, 0) - calls for channel, calls in elsewhere.items()}
    pace = Pace(rules.send_per_second, outbox.rate_free_at() if rules.send_per_second else 0)
    allowance = min(allowance, pace.allowance(now))
    switches = switched_off(outbox, rules, delivering.guardrails.mode, now)
    paused = [name for name in rules.cohorts if switches.is_paused(name)]
    limits: dict[tuple[Channel, bool], int] = {}
    stopped: dict[tuple[Channel, bool], int] = {}  # of paused channels only what has expired
    for channel in elsewhere:
        wanted = min(max(0, free[channel]) * rules.channels[channel].batch, allowance)
        on = stopped if of_channel(channel) in switches.paused else limits
        on |= {(channel, False): wanted + spare, (channel, True): spare}
    dues = outbox.due(limits, now, paused)
    if stopped:
        dues += outbox.due(stopped, now, list(rules.cohorts))
    if not dues:
        return Claimed((), (), now)
    user_ids = list(dict.fromkeys(due.user_id for due in dues))
    users = outbox.users(user_ids, Instant(now - rules.memory()), [])
    claiming = _Claiming.begin(delivering, outbox, users, switches, now, free, allowance)
    for due in dues:
        claiming.take(due)
    claiming.changes.rate_free_at = pace.after(len(claiming.changes.attempts_begun), now)
    outbox.store(claiming.changes)
    return Claimed(claiming.calls(), list(claiming.changes.changed.values()), now)


def _reached(delivering: Delivering, now: Instant) -> Instant:
    """Return until when the claim of a call that still runs is leased, at the least.

    Leases of running calls are renewed more often than this, and no call runs for so long.
    """
    return Instant(now + delivering.lease - _LONGEST_CALL)


@dataclass(slots=True)
class _Claiming:
    """Works through due deliveries one after another and gathers calls."""

    rules: Rules
    guardrails: Guardrails
    chance: Chance
    lease: Duration
    users: Mapping[UserId, User]
    waiting: Mapping[ExperimentId, Experiment]
    switches: Switches
    now: Instant
    free: dict[Channel, int]
    allowance: int
    day: int
    offers_used: dict[str, OfferUse]
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
        used = offers_used(outbox, rules, guardrails.mode, now, exact=True) if rules.offers else {}
        return cls(
            rules=rules,
            guardrails=guardrails,
            chance=delivering.chance,
            lease=delivering.lease,
            users=users,
            switches=switches,
            waiting=by_id(users),
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
        elif not self.switches.is_paused(experiment.cohort, experiment.channel):
            self._send_or_wait(due, experiment, user, combo)

    def calls(self) -> list[Call]:
        """Return the calls that the claimed deliveries make up."""
        return [Call(c.id, c.content, c.recipients, c.addresses) for c in self.open_calls]

    def _send_or_wait(self, due: Due, experiment: Experiment, user: User, combo: Combo) -> None:
        if self.guardrails.is_quiet(experiment.channel, due.zone, self.now):
            self._postpone(due, experiment)
        elif not self.guardrails.within_caps(experiment.channel, user, self.now):
            self._cancel(experiment, Reason.FREQUENCY_CAP)
        elif due.address is None and self._needs_address(experiment):
            self._cancel(experiment, Reason.NO_ADDRESS)
        elif (refusal := self._text_refusal(due, experiment, combo)) is None:
            self._place(due, experiment, combo)
        elif (stand_in := self._stand_in(due, experiment)) is None:
            self._cancel(experiment, refusal)
        else:
            self._place(due, experiment, combo, _Instead(*stand_in, refusal))

    def _text_refusal(self, due: Due, experiment: Experiment, combo: Combo) -> Reason | None:
        """Return why what was drawn may not be said any more, or None."""
        if is_spent(combo.offer, self.rules, self.offers_used):
            return Reason.OFFER_BUDGET
        if not due.facts or experiment.replaced_by is not None:
            return None
        return first_refusal(self.rules.facts, msgspec.json.decode(due.facts), self.now)

    def _stand_in(self, due: Due, experiment: Experiment) -> tuple[StandIn, Combo] | None:
        """Return the first of what may go out instead that still may."""
        if not due.stand_ins or experiment.replaced_by is not None:
            return None
        for stand_in in msgspec.json.decode(due.stand_ins, type=list[StandIn]):
            combo = self._combo(experiment, stand_in.combo_key)
            if (
                combo is not None
                and not is_spent(combo.offer, self.rules, self.offers_used)
                and self.guardrails.can_be_addressed(combo, stand_in.language)
            ):
                return stand_in, combo
        return None

    def _place(
        self, due: Due, experiment: Experiment, combo: Combo, instead: "_Instead | None" = None
    ) -> None:
        """Hold it out or hand it to a call, as what was drawn or as what stands in for it."""
        if instead is not None:
            text = instead.stand_in
            drawn, combo = due, instead.combo
            due = replace(due, language=text.language, title=text.title, body=text.body)
        call = None if experiment.held_out else self._call_for(due, experiment, combo)
        if call is None and not experiment.held_out:
            return  # no call is free for it: it waits for the next claim
        if instead is not None:
            self._replace(drawn, experiment, instead)
        if call is None:
            self._hold_out(experiment)
        else:
            if due.address is not None:
                call.addresses[due.user_id] = due.address
            self._claim(call, experiment, combo)

    def _needs_address(self, experiment: Experiment) -> bool:
        """Say whether its provider finds nobody by our id, as after a change of provider."""
        live = experiment.mode is Mode.LIVE and not experiment.held_out
        return live and self.rules.channels[experiment.channel].address is not None

    def _replace(self, drawn: Due, experiment: Experiment, instead: "_Instead") -> None:
        def edit(e: Experiment) -> None:
            e.replaced_by, e.replaced_for = instead.combo.key, instead.reason

        self.changes.change(experiment, edit)
        self.changes.replaced.append(Replaced(experiment, instead.stand_in, drawn))

    def _combo(self, experiment: Experiment, key: ComboKey | None = None) -> Combo | None:
        """Return the combo, or None where it is not there any more or is paused itself."""
        cohort = self.rules.cohorts.get(experiment.cohort)
        wanted = key or experiment.goes_out_as
        combo = None if cohort is None else cohort.space.by_key.get(wanted)
        if cohort is None or combo is None or is_taken_out(cohort, combo, self.switches.paused):
            return None
        return combo

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

    def _claim(self, call: "_OpenCall", experiment: Experiment, combo: Combo) -> None:
        call.recipients[experiment.user_id] = experiment.id
        self.allowance -= 1

        def edit(e: Experiment) -> None:
            e.move(State.CLAIMED)
            e.placed_at, e.call_id = self.now, call.id
            e.lease_until = Instant(self.now + self.lease)
            e.attempts += 1

        self.changes.change(experiment, edit)
        self.changes.attempts_begun.append(experiment)
        if combo.offer in self.rules.offers:
            used = self.offers_used.get(combo.offer, OfferUse())
            self.offers_used[combo.offer] = OfferUse(used.today + 1, used.in_all + 1)
            self.changes.use_offer(experiment.mode, combo.offer, self.day, 1)

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


@dataclass(frozen=True, slots=True)
class _Instead:
    """What goes out instead of what was drawn, and why."""

    stand_in: StandIn
    combo: Combo
    reason: Reason


@dataclass(slots=True)
class _OpenCall:
    id: CallId
    content: Content
    recipients: dict[UserId, ExperimentId] = field(default_factory=dict)
    addresses: dict[UserId, str] = field(default_factory=dict)


def message_content(rules: Rules, combo: Combo, due: Due) -> Content:
    """Return what the provider is handed for a delivery, the user apart."""
    channel = rules.channels[combo.channel]
    return Content(
        channel=combo.channel,
        title=due.title,
        body=due.body,
        deep_link=channel.deep_link,
        campaign_id=channel.campaign(due.language, combo.angle, combo.offer),
        template=channel.template(due.language, combo.angle, combo.offer),
    )


def by_id(users: Mapping[UserId, User]) -> Mapping[ExperimentId, Experiment]:
    """Return the users' experiments by their ids."""
    return {e.id: e for user in users.values() for e in user.experiments}
