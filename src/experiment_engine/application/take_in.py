"""Step 2 of the walk: a batch of facts is answered, decided and scheduled in one transaction.

The batch is worked through in its order of arrival against what is known of its users, and what
changes is stored at the end. So one batch gives exactly what its facts would give one at a time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from experiment_engine.application.changes import Changes, Quarantined, StoredChoice, StoredEvent
from experiment_engine.application.feedback import Conversion, FeedbackTaker
from experiment_engine.application.ports import Chance, Intake, Switches
from experiment_engine.application.results import Result, ignored, leaves, merged
from experiment_engine.application.switches import switched_off
from experiment_engine.application.triggers import TriggerTaker
from experiment_engine.domain.bandit.snapshot import PolicyInForce
from experiment_engine.domain.cohorts.user import Choice, User
from experiment_engine.domain.delivery.address import address_hash
from experiment_engine.domain.delivery.copy import clean
from experiment_engine.domain.delivery.experiment import Decided, Experiment, State
from experiment_engine.domain.events import (
    Anonymous,
    Chosen,
    Fact,
    Feedback,
    Happened,
    Ping,
    Reported,
    Requested,
    Source,
    Terms,
    Unreadable,
)
from experiment_engine.domain.guardrails import Guardrails
from experiment_engine.domain.identifiers import (
    EVERY_CHANNEL,
    Channel,
    CohortName,
    ExperimentId,
    UserId,
    is_erased_id,
)
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Deciding:
    """What stays the same from batch to batch, until the configuration or a snapshot changes."""

    guardrails: Guardrails
    chance: Chance
    salt: bytes  # of the holdout
    policies: Mapping[CohortName, PolicyInForce]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch led to: one result per fact, in order, and the experiments it decided."""

    results: Sequence[Result]
    decided: Mapping[ExperimentId, tuple[Experiment, Decided]]
    counts_moved: bool = False
    stopped: Sequence[Experiment] = ()  # by a conversion or an opt-out, or settled by a report
    unreached: Sequence[Experiment] = ()  # sent, and by a provider's report never delivered


def take_in(facts: Sequence[Fact], deciding: Deciding, intake: Intake, now: Instant) -> Taken:
    """Answer a batch of facts and store what follows from them.

    The caller opens and commits the transaction that `intake` writes to.
    """
    batch = _Batch.load(facts, deciding, intake, now)
    results = [batch.take(fact) for fact in facts]
    mode = deciding.guardrails.mode
    batch.changes.answers.update(
        (mode, one.cohort or "", one.status, one.reason or "") for one in leaves(results)
    )
    intake.store(batch.changes)
    moved = [e for e in batch.changes.changed.values() if e.state is State.CANCELLED]
    moved += batch.feedback.settled
    changes = batch.changes
    return Taken(results, changes.decided, bool(changes.counts), moved, changes.unreached)


@dataclass(slots=True)
class _Batch:
    """What is known of the batch's users, as the facts change it one after another."""

    deciding: Deciding
    switches: Switches
    now: Instant
    users: dict[UserId, User]
    owners: Mapping[ExperimentId, UserId]  # of the experiments that feedback names
    reached: Mapping[str, Sequence[UserId]]  # who is reached at the addresses that are named
    seen: dict[tuple[UserId, str], ExperimentId | None]
    changes: Changes = field(default_factory=Changes)
    triggers: TriggerTaker = field(init=False)
    feedback: FeedbackTaker = field(init=False)

    def __post_init__(self) -> None:
        """Prepare what works through triggers and feedback on this batch's changes."""
        deciding = self.deciding
        self.triggers = TriggerTaker(
            deciding.guardrails,
            deciding.chance,
            deciding.salt,
            deciding.policies,
            self.switches,
            self.changes,
            self.now,
        )
        self.feedback = FeedbackTaker(deciding.guardrails, self.changes)

    @classmethod
    def load(
        cls, facts: Sequence[Fact], deciding: Deciding, intake: Intake, now: Instant
    ) -> "_Batch":
        """Read everything the batch can depend on, in a fixed number of statements."""
        named = [
            fact.experiment_id
            for fact in facts
            if isinstance(fact, Feedback | Reported | Chosen) and fact.experiment_id is not None
        ]
        owners = intake.owners(named) if named else {}
        reached = _reached(facts, deciding, intake)
        reached_ids = [user_id for ids in reached.values() for user_id in ids]
        user_ids = dict.fromkeys([*_user_ids(facts), *owners.values(), *reached_ids])
        rules = deciding.guardrails.rules
        # What is told late may belong to an experiment that is as old as it (R6).
        told = [f.at for f in facts if isinstance(f, Happened | Feedback) and f.at is not None]
        since = Instant(min([now, *told]) - rules.memory())
        users = intake.users(list(user_ids), since, named)
        keys = [
            (_whose(fact, owners), fact.key)
            for fact in facts
            if isinstance(fact, Happened | Reported | Anonymous)
        ]
        switches = switched_off(intake, rules, deciding.guardrails.mode, now)
        return cls(deciding, switches, now, users, owners, reached, intake.seen(keys))

    def take(self, fact: Fact) -> Result:  # noqa: PLR0911 - one return a kind of fact
        """Answer one fact and collect what it changes."""
        match fact:
            case Happened():
                return self._happened(fact)
            case Requested():
                return self._requested(fact)
            case Feedback():
                return self._feedback(fact)
            case Reported():
                return self._reported(fact)
            case Chosen():
                return self._chosen_by(fact)
            case Anonymous():
                return self._anonymous(fact)
            case Unreadable():
                return self._unreadable(fact)
            case Ping():
                return ignored(Reason.TEST_PING)

    def _happened(self, fact: Happened) -> Result:
        duplicate = self._duplicate(fact.user_id, fact.key)
        if duplicate is not None:
            return duplicate
        user = self._user(fact.user_id)
        at = self._time(fact.at)
        if user.erased:  # not even that something came is kept
            return ignored(Reason.ERASED)
        result = self._follow(fact, user, at)
        self._keep(fact.user_id, fact.key, fact.source, fact.name, at, fact.raw, result)
        return result

    def _follow(self, fact: Happened, user: User, at: Instant) -> Result:
        rules = self.deciding.guardrails.rules
        results: list[Result] = []
        if fact.name in rules.opt_out_events:
            results += self._choose(user, self._told_by_event(fact, allowed=False), at)
        if fact.name in rules.opt_in_events:
            results += self._choose(user, self._told_by_event(fact, allowed=True), at)
        reached = [c for c in rules.cohorts.values() if c.goal.event == fact.name]
        if reached:
            told = Conversion(at, fact.source, fact.event_properties)
            results.append(self.feedback.reached(user, reached, told))
        for cohort in rules.cohorts.values():
            if cohort.trigger.event == fact.name and not fact.past:
                results.append(self.triggers.triggered(cohort, user, fact, at))
        return merged(results) if results else ignored(Reason.NO_COHORT)

    def _requested(self, fact: Requested) -> Result:
        user = self._user(fact.user_id)
        cohort = self.deciding.guardrails.rules.cohorts.get(fact.cohort)
        if cohort is None:  # it was there when the request was looked at, a moment ago
            return ignored(Reason.NO_COHORT)
        if user.erased:
            return ignored(Reason.ERASED, cohort=cohort.name)
        result = self.triggers.requested(cohort, user, fact)
        self._keep_once(fact.user_id, fact.source, "trigger", self.now, fact.raw, result)
        return result

    def _feedback(self, fact: Feedback) -> Result:
        at = self._time(fact.at)
        owner = self._owner(fact.experiment_id)
        user_id = fact.user_id or owner
        if user_id is None:
            result = ignored(Reason.UNKNOWN_EXPERIMENT)
            self._keep_once(NOBODY, fact.source, fact.kind, at, fact.raw, result)
            return result
        user = self._user(user_id)
        if user.erased or is_erased_id(user_id):
            return ignored(Reason.ERASED)
        result = self.feedback.take(fact, user, owner, at)
        self._keep_once(user_id, fact.source, fact.kind, at, fact.raw, result)
        return result

    def _reported(self, fact: Reported) -> Result:
        owner = self._owner(fact.experiment_id)
        if owner is None:  # of somebody whom we do not know nothing is kept
            return ignored(Reason.UNKNOWN_EXPERIMENT)
        duplicate = self._duplicate(owner, fact.key)
        if duplicate is not None:
            return duplicate
        result = self.feedback.reported(fact, self._user(owner), self.now)
        if not is_erased_id(owner):
            at = self._time(fact.at)
            self._keep(owner, fact.key, fact.source, fact.name, at, fact.raw, result)
        return result

    def _reached_at(self, address: str) -> Sequence[UserId]:
        """Return who is reached there, by what was stored and by earlier facts of this batch."""
        hashed = address_hash(address, self.deciding.salt)
        new = [user_id for known, user_id in self.changes.recipients if known == hashed]
        return list(dict.fromkeys([*self.reached.get(hashed, ()), *new]))

    def _chosen_by(self, fact: Chosen) -> Result:
        """Answer a choice, which is everybody's who is reached where it came from."""
        if fact.address is None:
            return self._chosen(fact)
        told = [replace(fact, user_id=one) for one in self._reached_at(fact.address)]
        results = [self._chosen(one) for one in told]
        return merged(results) if results else ignored(Reason.NO_USER)

    def _chosen(self, fact: Chosen) -> Result:
        at = self._time(fact.at)
        user_id = fact.user_id or self._owner(fact.experiment_id)
        if user_id is None:
            return ignored(Reason.UNKNOWN_EXPERIMENT)
        user = self._user(user_id)
        if is_erased_id(user_id):
            return ignored(Reason.ERASED)
        if user.erased_at is not None and not fact.allowed:
            return Result("recorded")
        if user.erased_at is not None and at < user.erased_at:
            return ignored(Reason.ERASED)  # agreed to before everything was to be forgotten
        if user.erased_at is not None:
            self.changes.pardoned.add(user.id)
            user.erased_at = None
        results = self._choose(user, fact, at)
        result = merged(results)
        name = "opted_in" if fact.allowed else "opted_out"
        self._keep_once(user_id, fact.source, name, at, fact.raw, result)
        return result

    def _owner(self, experiment_id: ExperimentId | None) -> UserId | None:
        if experiment_id is None:
            return None
        decided = self.changes.decided.get(experiment_id)  # by an earlier fact of this batch
        return self.owners.get(experiment_id) if decided is None else decided[0].user_id

    def _told_by_event(self, fact: Happened, *, allowed: bool) -> Chosen:
        """Return the choice in an event of the app: about one channel where it names one."""
        told = fact.event_properties
        named = told.get("channel")
        known = self.deciding.guardrails.rules.channels
        channel = Channel(named) if isinstance(named, str) and named in known else EVERY_CHANNEL
        terms = Terms(clean(told.get("text_version")), clean(told.get("purpose")))
        return Chosen(fact.user_id, allowed, fact.at, fact.raw, fact.source, channel, None, terms)

    def _choose(self, user: User, chosen: Chosen, at: Instant) -> list[Result]:
        choice = user.choices.setdefault(chosen.channel, Choice())
        if chosen.allowed:
            choice.yes_at = max(choice.yes_at, at)
        else:
            choice.no_at = max(choice.no_at, at)
        self.changes.choices.append(
            StoredChoice(user.id, chosen.channel, chosen.allowed, at, chosen.source, chosen.terms)
        )
        stopped = [e for e in user.waiting() if e.state is State.SCHEDULED]
        stopped = [e for e in stopped if user.opted_out(e.channel)]
        for experiment in stopped:
            self.changes.change(experiment, _cancel(Reason.OPTED_OUT))
        touched = tuple(experiment.id for experiment in stopped)
        return [
            Result(
                "recorded",
                experiment_id=touched[0] if touched else None,
                experiment_ids=touched if len(touched) > 1 else (),
            )
        ]

    def _anonymous(self, fact: Anonymous) -> Result:
        duplicate = self._duplicate(NOBODY, fact.key)
        if duplicate is not None:
            return duplicate
        result = ignored(Reason.NO_USER)
        at = self._time(fact.at)
        self._keep(NOBODY, fact.key, fact.source, fact.name, at, fact.raw, result)
        return result

    def _unreadable(self, fact: Unreadable) -> Result:
        kept = Quarantined(fact.source, self.now, fact.reason, fact.raw)
        self.changes.quarantined.append(kept)
        return Result("quarantined", reason=fact.reason)

    def _duplicate(self, user_id: UserId, key: str) -> Result | None:
        if (user_id, key) not in self.seen:
            return None
        return Result("duplicate", experiment_id=self.seen[user_id, key])

    def _keep(
        self,
        user_id: UserId,
        key: str,
        source: Source,
        name: str,
        at: Instant,
        raw: bytes,
        result: Result,
    ) -> None:
        self.seen[user_id, key] = result.experiment_id
        self.changes.events.append(
            StoredEvent(
                user_id,
                key,
                source,
                name,
                at,
                self.now,
                raw,
                result.status,
                result.reason,
                result.experiment_id,
            )
        )

    def _keep_once(
        self,
        user_id: UserId,
        source: Source,
        name: str,
        at: Instant,
        raw: bytes,
        result: Result,
    ) -> None:
        # Feedback has no event id; what it may count is settled by its experiment's state.
        key = f"{source}:{self.deciding.chance.experiment_id(self.now)}"
        self._keep(user_id, key, source, name, at, raw, result)

    def _user(self, user_id: UserId) -> User:
        user = self.users.get(user_id)
        if user is None:
            user = self.users[user_id] = User(user_id)
        return user

    def _time(self, at: Instant | None) -> Instant:
        # A sender's clock that runs ahead must not move anything into the future (R7).
        return self.now if at is None else min(at, self.now)


NOBODY = UserId("")  # whose events are those that name no user


def _whose(fact: Happened | Reported | Anonymous, owners: Mapping[ExperimentId, UserId]) -> UserId:
    if isinstance(fact, Reported):
        return owners.get(fact.experiment_id, NOBODY)
    return fact.user_id if isinstance(fact, Happened) else NOBODY


def _reached(
    facts: Sequence[Fact], deciding: Deciding, intake: Intake
) -> Mapping[str, Sequence[UserId]]:
    """Return who is reached at the addresses that facts name, by their hashes."""
    named = [f.address for f in facts if isinstance(f, Chosen) and f.address is not None]
    if not named:
        return {}
    return intake.users_reached_at([address_hash(one, deciding.salt) for one in named])


def _user_ids(facts: Iterable[Fact]) -> Iterable[UserId]:
    for fact in facts:
        if isinstance(fact, Happened | Requested | Chosen | Feedback) and fact.user_id is not None:
            yield fact.user_id


def _cancel(reason: Reason) -> Callable[[Experiment], None]:
    return lambda experiment: experiment.move(State.CANCELLED, reason)
