"""What may go out to whom, and when: at the decision, and again at the claim."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import product

import msgspec
import numpy as np
from numpy.typing import NDArray

from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.cohorts.user import User
from experiment_engine.domain.delivery.experiment import Experiment, Mode
from experiment_engine.domain.delivery.facts import FactValue
from experiment_engine.domain.identifiers import Channel
from experiment_engine.domain.moments import MINUTE, Duration, Instant
from experiment_engine.domain.pausing import scopes_of
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import Rules

OVERDUE_GRACE = MINUTE  # a combo this late is still what it says (R7)
SPREAD = Duration(30 * MINUTE)  # over which postponed messages go out after quiet hours (R8)

Timing = tuple[Reason | None, ...]  # for every delay and channel, in the order of the space
Lacking = tuple[frozenset[tuple[str, Reason]], ...]  # facts on which no text may rest; likewise

_MEMO_LIMIT = 20_000  # situations remembered: far above what one configuration can produce


@dataclass(frozen=True)
class Eligibility:
    """Which combos may be drawn, and why the others may not."""

    eligible: tuple[int, ...]  # places in the cohort's space
    refused: Mapping[Reason, tuple[int, ...]]
    postponed: bool = False  # the delay is not drawn: it goes out after the quiet hours

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Return `eligible` as policies take it."""
        return np.array(self.eligible, np.int64)

    @cached_property
    def digest(self) -> str:
        """Return what tells this from every other set: the digest of its content."""
        refused = sorted((str(reason), places) for reason, places in self.refused.items())
        described = f"{self.postponed}|{self.eligible}|{refused}"
        return blake2b(described.encode(), digest_size=16).hexdigest()

    @property
    def why_none(self) -> Reason:
        """Return the one reason that holds for every combo, or `no_eligible_combo`."""
        return next(iter(self.refused)) if len(self.refused) == 1 else Reason.NO_ELIGIBLE_COMBO


class Situation(msgspec.Struct, frozen=True):
    """What a decision depends on, besides the user's own history."""

    now: Instant
    triggered_at: Instant
    zone: str
    chain: tuple[str, ...]  # languages to try
    values: Mapping[str, str]  # of the placeholders
    addresses: Mapping[Channel, str] = {}  # of channels whose provider needs one
    failing: frozenset[Channel] = frozenset()
    spent: frozenset[str] = frozenset()  # offers whose budget is used up
    paused: frozenset[str] = frozenset()  # scopes, as in `domain.pausing`
    facts: Mapping[str, FactValue] = msgspec.field(default_factory=dict)


@dataclass
class Guardrails:
    """The rules of one configuration and mode, with the situations already worked out."""

    rules: Rules
    mode: Mode
    _memo: dict[object, Eligibility] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look up once what is asked for every event."""
        self._quiet = {c: self.rules.quiet_hours_of(c) for c in self.rules.channels}
        self._rests = {quiet for quiet in self._quiet.values() if quiet is not None}
        channels = self.rules.channels.items()
        live = self.mode is Mode.LIVE
        self._unconnected = {c for c, rules in channels if live and not rules.connected}
        self._addressed = {c for c, rules in channels if rules.address is not None}
        self._placeholders = frozenset(self.rules.catalogue.placeholders)

    def eligibility(self, cohort: Cohort, user: User, situation: Situation) -> Eligibility:
        """Work out which of the cohort's combos this user may get now."""
        channels = tuple(
            self._channel_refusal(channel, user, situation) for channel in cohort.space.channels
        )
        timing = self._timing(cohort, user, situation)
        found = self._worked_out(cohort, situation, channels, timing, postponed=False)
        if found.eligible or Reason.QUIET_HOURS not in found.refused:
            return found
        timing = self._timing_after_quiet_hours(cohort, user, situation)
        return self._worked_out(cohort, situation, channels, timing, postponed=True)

    def send_time(
        self,
        cohort: Cohort,
        combo: Combo,
        situation: Situation,
        *,
        postponed: bool,
        spread: float,
    ) -> Instant:
        """Return when the combo's message goes out; `spread` is its place in [0, 1)."""
        if not postponed:
            return max(Instant(situation.triggered_at + combo.delay), situation.now)
        start = self._first_quiet_due(cohort, combo.channel, situation)
        return self.after_quiet_hours(combo.channel, situation.zone, start, spread)

    def after_quiet_hours(
        self, channel: Channel, zone: str, at: Instant, spread: float
    ) -> Instant:
        """Return a moment after the quiet hours that hold at `at`, spread over half an hour."""
        quiet = self.rules.quiet_hours_of(channel)
        if quiet is None:
            return at
        end = quiet.ends_after(at, zone)
        later = Instant(end + int(spread * SPREAD))
        return end if quiet.holds(later, zone) else later

    def is_quiet(self, channel: Channel, zone: str, at: Instant) -> bool:
        """Say whether the channel rests at this instant in this zone."""
        quiet = self._quiet[channel]
        return quiet is not None and quiet.holds(at, zone)

    def may_contact(self, channel: Channel, user: User) -> Reason | None:
        """Return why the user must not be written to on this channel, or None."""
        if user.erased:
            return Reason.ERASED
        if channel in self._unconnected:
            return Reason.NOT_CONNECTED
        required = self.rules.channels[channel].consent == "required"
        if not required and not user.choices:
            return None
        if user.opted_out(channel):
            return Reason.OPTED_OUT
        return Reason.NO_CONSENT if required and not user.consented(channel) else None

    def within_caps(self, channel: Channel, user: User, at: Instant) -> bool:
        """Say whether the frequency caps allow one more message at this instant."""
        general = self.rules.frequency_cap
        own = self.rules.channels[channel].frequency_cap
        if not user.experiments:
            return True
        return (general is None or general.allows(at, user.places_taken(self.mode))) and (
            own is None or own.allows(at, user.places_taken(self.mode, channel))
        )

    def _channel_refusal(
        self, channel: Channel, user: User, situation: Situation
    ) -> Reason | None:
        refusal = self.may_contact(channel, user)
        if refusal is None and channel in self._addressed and channel not in situation.addresses:
            return Reason.NO_ADDRESS
        if refusal is None and channel in situation.failing:
            return Reason.CHANNEL_FAILING
        return refusal

    def _timing(self, cohort: Cohort, user: User, situation: Situation) -> Timing:
        refusals: list[Reason | None] = []
        for delay in cohort.space.delays:
            due = Instant(situation.triggered_at + delay)
            if due < situation.now - OVERDUE_GRACE:
                refusals += [Reason.OVERDUE] * len(cohort.space.channels)
                continue
            at = max(due, situation.now)
            if not user.experiments and not any(q.holds(at, situation.zone) for q in self._rests):
                refusals += [None] * len(cohort.space.channels)
                continue
            refusals += [
                self._due_refusal(channel, user, situation, at)
                for channel in cohort.space.channels
            ]
        return tuple(refusals)

    def _due_refusal(
        self, channel: Channel, user: User, situation: Situation, at: Instant
    ) -> Reason | None:
        if self.is_quiet(channel, situation.zone, at):
            return Reason.QUIET_HOURS
        if user.experiments and not self.within_caps(channel, user, at):
            return Reason.FREQUENCY_CAP
        return None

    def _timing_after_quiet_hours(
        self, cohort: Cohort, user: User, situation: Situation
    ) -> Timing:
        # The key keeps the shortest delay; every other one is refused for the quiet hours.
        refusals: list[Reason | None] = []
        for channel in cohort.space.channels:
            start = self._first_quiet_due(cohort, channel, situation)
            at = self.after_quiet_hours(channel, situation.zone, start, 0.0)
            fits = self.within_caps(channel, user, at)
            refusals.append(None if fits else Reason.FREQUENCY_CAP)
        others = (len(cohort.space.delays) - 1) * len(cohort.space.channels)
        return tuple(refusals) + (Reason.QUIET_HOURS,) * others

    def _first_quiet_due(self, cohort: Cohort, channel: Channel, situation: Situation) -> Instant:
        for delay in cohort.space.delays:
            at = max(Instant(situation.triggered_at + delay), situation.now)
            if self.is_quiet(channel, situation.zone, at):
                return at
        return max(Instant(situation.triggered_at + cohort.space.shortest), situation.now)

    def _worked_out(
        self,
        cohort: Cohort,
        situation: Situation,
        channels: tuple[Reason | None, ...],
        timing: Timing,
        *,
        postponed: bool,
    ) -> Eligibility:
        absent = self._placeholders.difference(situation.values)
        lacking = self._lacking(cohort, situation, postponed=postponed)
        key = (
            cohort.name,
            channels,
            timing,
            situation.chain,
            absent,
            situation.spent,
            situation.paused,
            lacking,
            postponed,
        )
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            found = self._memo[key] = self._work_out(
                cohort, situation, channels, timing, lacking, postponed=postponed
            )
        return found

    def _lacking(self, cohort: Cohort, situation: Situation, *, postponed: bool) -> Lacking:
        """Return which facts do not hold when each message is planned to go out."""
        if not self.rules.facts:
            return ()
        return tuple(
            frozenset(
                (name, refusal)
                for name, fact in self.rules.facts.items()
                if (refusal := fact.refusal(situation.facts.get(name), at)) is not None
            )
            for at in self._planned(cohort, situation, postponed=postponed)
        )

    def _planned(
        self, cohort: Cohort, situation: Situation, *, postponed: bool
    ) -> Iterator[Instant]:
        """Return the latest moment at which each delay's message on each channel is planned."""
        for delay, channel in product(cohort.space.delays, cohort.space.channels):
            at = max(Instant(situation.triggered_at + delay), situation.now)
            if postponed:
                start = self._first_quiet_due(cohort, channel, situation)
                at = self.after_quiet_hours(channel, situation.zone, start, 1.0)
            yield at

    def _work_out(
        self,
        cohort: Cohort,
        situation: Situation,
        channels: tuple[Reason | None, ...],
        timing: Timing,
        lacking: Lacking,
        *,
        postponed: bool,
    ) -> Eligibility:
        by_channel = dict(zip(cohort.space.channels, channels, strict=True))
        slots = list(product(cohort.space.delays, cohort.space.channels))
        by_slot = dict(zip(slots, timing, strict=True))
        facts = {slot: dict(lacks) for slot, lacks in zip(slots, lacking, strict=False)}
        eligible: list[int] = []
        refused: dict[Reason, list[int]] = {}
        for combo in cohort.space.combos:
            reason = (
                self._pause_refusal(cohort, combo, situation)
                or by_channel[combo.channel]
                or self._message_refusal(
                    cohort, combo, situation, facts.get((combo.delay, combo.channel), {})
                )
                or by_slot[combo.delay, combo.channel]
            )
            if reason is None:
                eligible.append(combo.index)
            else:
                refused.setdefault(reason, []).append(combo.index)
        reasons = {reason: tuple(places) for reason, places in refused.items()}
        return Eligibility(tuple(eligible), reasons, postponed)

    def _pause_refusal(self, cohort: Cohort, combo: Combo, situation: Situation) -> Reason | None:
        if situation.paused and not situation.paused.isdisjoint(scopes_of(cohort, combo)):
            return Reason.PAUSED
        return None

    def _message_refusal(
        self,
        cohort: Cohort,
        combo: Combo,
        situation: Situation,
        lacking: Mapping[str, Reason],
    ) -> Reason | None:
        if combo.offer in situation.spent:
            return Reason.OFFER_BUDGET
        catalogue = self.rules.catalogue
        text = catalogue.find(
            cohort.name, combo.channel, combo.angle, combo.offer, situation.chain
        )
        if text is None or catalogue.missing(text, situation.values):
            return Reason.MISSING_VALUE
        if lacking:
            for name in text.requires:
                if name in lacking:
                    return lacking[name]
        return None if self.can_be_addressed(combo, text.language) else Reason.NO_CAMPAIGN

    def can_be_addressed(self, combo: Combo, language: str) -> bool:
        """Say whether the provider has what the combo's text goes out through."""
        rules = self.rules.channels[combo.channel]
        lacks = rules.lacks_form(combo.channel, language, combo.angle, combo.offer)
        return self.mode is not Mode.LIVE or not lacks


def still_wanted(cohort: Cohort, experiment: Experiment, user: User) -> bool:
    """Say whether the user has not reached the goal in a way that forbids the message (R5)."""
    quiet_from = Instant(experiment.triggered_at - cohort.trigger.converted_quiet)
    return not user.reached(cohort.goal.event, quiet_from)
