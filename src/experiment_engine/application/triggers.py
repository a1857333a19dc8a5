"""A trigger's way from the event to a scheduled experiment, or to the reason why there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from experiment_engine.application.changes import Changes
from experiment_engine.application.ports import Chance, Switches
from experiment_engine.application.results import Result, ignored, scheduled
from experiment_engine.domain.bandit.decision import SPREAD, Distribution, stream
from experiment_engine.domain.bandit.snapshot import PolicyInForce
from experiment_engine.domain.bandit.stand_in import StandIn, stand_ins_for
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.cohorts.counting import Counted, events_that_start
from experiment_engine.domain.cohorts.holdout import is_held_out
from experiment_engine.domain.cohorts.user import User
from experiment_engine.domain.delivery.address import address_hash
from experiment_engine.domain.delivery.copy import Text, clean, placeholder_values
from experiment_engine.domain.delivery.experiment import Decided, Experiment, Mode
from experiment_engine.domain.delivery.facts import FactValue, known_facts
from experiment_engine.domain.delivery.quiet_hours import is_zone
from experiment_engine.domain.delivery.retry import FAILING_FOR
from experiment_engine.domain.events import Happened, Properties, Requested
from experiment_engine.domain.guardrails import Eligibility, Guardrails, Situation
from experiment_engine.domain.identifiers import Channel, CohortName
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.reasons import Reason

# The features a contextual policy may use, and where an event carries them.
CONTEXT = {
    "region": "region",
    "language": "language",
    "plan": "plan_viewed",
    "show": "show_name",
}
_CONTEXT_LENGTH = 64


class _Start(msgspec.Struct, frozen=True):
    """What starts an experiment."""

    event_key: str
    at: Instant
    event_properties: Properties
    user_properties: Properties
    manual: bool


@dataclass(frozen=True, slots=True)
class TriggerTaker:
    """Decides about triggers, one after another."""

    guardrails: Guardrails
    chance: Chance
    salt: bytes
    policies: Mapping[CohortName, PolicyInForce]
    switches: Switches
    changes: Changes
    now: Instant

    def triggered(self, cohort: Cohort, user: User, fact: Happened, at: Instant) -> Result:
        """Answer an event that may start an experiment of the cohort."""
        counted_at = self._count(cohort, user, Counted(fact.key, at))
        if at < self.now - cohort.trigger.max_age:
            return ignored(Reason.TOO_OLD, cohort=cohort.name)
        if counted_at is None:
            return ignored(Reason.COUNT_NOT_REACHED, cohort=cohort.name)
        start = _Start(
            fact.key,
            counted_at,
            fact.event_properties,
            fact.user_properties,
            manual=False,
        )
        return self._start(cohort, user, start)

    def requested(self, cohort: Cohort, user: User, fact: Requested) -> Result:
        """Answer a request through the API: every guardrail holds, and nobody is held out."""
        user_properties = fact.attributes.get("user_properties")
        start = _Start(
            "",
            self.now,
            fact.attributes,
            user_properties if isinstance(user_properties, dict) else {},
            manual=True,
        )
        return self._start(cohort, user, start)

    def foresee(
        self, cohort: Cohort, user: User, event_properties: Properties
    ) -> Distribution | Reason:
        """Return what would be drawn from if the trigger came now, or why nothing would be."""
        start = _Start("", self.now, event_properties, {}, manual=False)
        refusal = self._refusal(cohort, user, start)
        if refusal is not None:
            return refusal
        situation = self._situation(start)
        # What a trigger would tell of where the user is reached is not known: let it be there.
        anywhere = dict.fromkeys(self.guardrails.rules.channels, "")
        situation = msgspec.structs.replace(situation, addresses=anywhere)
        eligibility = self.guardrails.eligibility(cohort, user, situation)
        if not eligibility.eligible:
            return eligibility.why_none
        policy = self.policies[cohort.name]
        context, _ = policy.levels_of(features_of(event_properties))
        return policy.distribution(eligibility, context)

    def _count(self, cohort: Cohort, user: User, event: Counted) -> Instant | None:
        """Return the time of the event that completes the count, or None."""
        if cohort.trigger.count == 1:
            return event.at
        waiting = user.counted.setdefault(cohort.name, [])
        waiting.append(event)
        self.changes.counted.append((user.id, cohort.name, event))
        starting = events_that_start(cohort.trigger, waiting)
        return starting[-1].at if starting else None

    def _start(self, cohort: Cohort, user: User, start: _Start) -> Result:
        refusal = self._refusal(cohort, user, start)
        if refusal is not None:
            waiting = next(user.waiting(cohort.name), None)
            active = refusal is Reason.ALREADY_ACTIVE and waiting is not None
            waiting_id = waiting.id if active and waiting is not None else None
            return ignored(refusal, cohort=cohort.name, experiment_id=waiting_id)
        situation = self._situation(start)
        eligibility = self.guardrails.eligibility(cohort, user, situation)
        if not eligibility.eligible:
            return ignored(eligibility.why_none, cohort=cohort.name)
        if cohort.trigger.count > 1 and not start.manual:
            used = user.counted.pop(cohort.name, [])
            self.changes.used_up += [(user.id, cohort.name, event.key) for event in used]
        experiment = self._decide(cohort, user, start, situation, eligibility)
        return scheduled(
            cohort.name, experiment.id, experiment.due_at, held_out=experiment.held_out
        )

    def _refusal(self, cohort: Cohort, user: User, start: _Start) -> Reason | None:
        if self.switches.is_paused(cohort.name):
            return Reason.PAUSED
        if not user.experiments and not user.goals:
            return None
        if next(user.waiting(cohort.name), None) is not None:
            return Reason.ALREADY_ACTIVE
        quiet_from = Instant(start.at - cohort.trigger.converted_quiet)
        if user.reached(cohort.goal.event, quiet_from):
            return Reason.CONVERTED
        last = user.last_decided(cohort.name, self.guardrails.mode)
        if last is not None and self.now - last < cohort.trigger.again_after:
            return Reason.COOLDOWN
        return None

    def _situation(self, start: _Start) -> Situation:
        rules = self.guardrails.rules
        told = (start.event_properties.get("timezone"), start.user_properties.get("timezone"))
        known = (zone for zone in told if isinstance(zone, str) and is_zone(zone))
        return Situation(
            now=self.now,
            triggered_at=start.at,
            zone=next(known, rules.timezone),
            chain=rules.languages.chain(start.event_properties.get("language")),
            values=placeholder_values(
                tuple(rules.catalogue.placeholders.values()),
                start.event_properties,
                start.user_properties,
            ),
            addresses=self._addresses(start),
            failing=self.switches.failing.union(self.changes.probed),
            spent=self.switches.spent,
            paused=self.switches.paused,
            facts=known_facts(rules.facts.values(), start.event_properties, start.user_properties),
        )

    def _addresses(self, start: _Start) -> dict[Channel, str]:
        found = {}
        for channel, rules in self.guardrails.rules.channels.items():
            if rules.address is not None:
                address = rules.address.read(start.event_properties, start.user_properties)
                if address is not None:
                    found[channel] = address
        return found

    def _decide(
        self,
        cohort: Cohort,
        user: User,
        start: _Start,
        situation: Situation,
        eligibility: Eligibility,
    ) -> Experiment:
        rules = self.guardrails.rules
        seed = self.chance.seed()
        policy = self.policies[cohort.name]
        features = features_of(start.event_properties)
        context, levels = policy.levels_of(features)
        distribution = policy.distribution(eligibility, context)
        place, propensity = distribution.draw(seed)
        combo = cohort.space[place]
        due_at = self.guardrails.send_time(
            cohort,
            combo,
            situation,
            postponed=eligibility.postponed,
            spread=stream(seed, SPREAD) if eligibility.postponed else 0.0,
        )
        experiment = Experiment(
            id=self.chance.experiment_id(self.now),
            user_id=user.id,
            cohort=cohort.name,
            combo_key=combo.key,
            channel=combo.channel,
            mode=self.guardrails.mode,
            held_out=not start.manual and is_held_out(user.id, self.salt, rules.holdout_share),
            manual=start.manual,
            postponed=eligibility.postponed,
            triggered_at=start.at,
            decided_at=self.now,
            due_at=due_at,
            expires_at=Instant(due_at + rules.expires_after),
            window_ends_at=Instant(start.at + cohort.goal.window),
            levels=levels,
        )
        text = self._text(cohort, combo, situation)
        waits_for_call = experiment.mode is Mode.LIVE and not experiment.held_out
        decided = Decided(
            event_key=start.event_key,
            zone=situation.zone,
            propensity=propensity,
            distribution_id=distribution.id,
            snapshot_id=distribution.snapshot_id,
            seed=seed,
            context=msgspec.json.encode(features).decode(),
            address=situation.addresses.get(combo.channel) if waits_for_call else None,
            facts=_json({name: situation.facts[name] for name in text.requires}),
            stand_ins=self._stand_ins(cohort, combo, situation, distribution),
            **self._message(text, situation),
        )
        if combo.channel in self.switches.probing and not experiment.held_out:
            self.changes.probed[combo.channel] = Instant(self.now + FAILING_FOR)
        if decided.address is not None:
            hashed = address_hash(decided.address, self.salt)
            self.changes.recipients.append((hashed, user.id))
        user.experiments.append(experiment)
        self.changes.decide(experiment, decided, distribution)
        return experiment

    def _stand_ins(
        self, cohort: Cohort, drawn: Combo, situation: Situation, distribution: Distribution
    ) -> str:
        """Return what may go out instead, where the drawn combo may fail at the claim."""
        rules = self.guardrails.rules
        if not rules.offers and not rules.facts:
            return ""
        if drawn.offer not in rules.offers and not self._text(cohort, drawn, situation).requires:
            return ""
        found = stand_ins_for(
            drawn,
            cohort,
            distribution,
            lambda combo: not self._text(cohort, combo, situation).requires,
        )
        return _json(
            [
                StandIn(
                    combo.key, **self._message(self._text(cohort, combo, situation), situation)
                )
                for combo in found
            ]
        )

    def _text(self, cohort: Cohort, combo: Combo, situation: Situation) -> Text:
        catalogue = self.guardrails.rules.catalogue
        text = catalogue.find(
            cohort.name, combo.channel, combo.angle, combo.offer, situation.chain
        )
        if text is None:  # the guardrails let no combo through without its text
            raise AssertionError(f"{combo.key} is eligible and has no text")
        return text

    def _message(self, text: Text, situation: Situation) -> dict[str, str]:
        title, body = self.guardrails.rules.catalogue.render(text, situation.values)
        return {"language": text.language, "title": title, "body": body}


def _json(value: Mapping[str, FactValue] | Sequence[StandIn]) -> str:
    return msgspec.json.encode(value).decode() if value else ""


def features_of(event_properties: Properties) -> dict[str, str]:
    """Return what an event tells of the context, as it is stored with the decision."""
    features = {}
    for feature, name in CONTEXT.items():
        value = clean(event_properties.get(name))
        if value is not None:
            features[feature] = value[:_CONTEXT_LENGTH]
    return features
