"""Everything about one user, with what explains it: the view behind the user's page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from experiment_engine.application.report_records import (
    AttemptRecord,
    ChoiceRecord,
    DistributionRecord,
    ExperimentRecord,
    KeptEvent,
)
from experiment_engine.domain.delivery.experiment import TAKES_A_PLACE, Mode, State
from experiment_engine.domain.delivery.limits import FrequencyCap
from experiment_engine.domain.identifiers import EVERY_CHANNEL
from experiment_engine.domain.moments import Instant

_LISTED = 3  # combos whose chances are told one by one


@dataclass(frozen=True, slots=True)
class Chance:
    """How likely one combo was when the engine chose."""

    combo_key: str
    probability: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class Why:
    """What a decision was made from."""

    policy: str
    snapshot: str
    snapshot_taken_at: Instant
    allowed: int
    combos: int
    chances: Sequence[Chance]  # the likeliest, and the one chosen
    others: int  # allowed besides
    others_probability: float
    refused: Mapping[str, int]  # reason -> combos


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a user's timeline."""

    at: Instant
    kind: str  # decided, sent, held_out, failed, unknown, cancelled, expired, opened, ...
    experiment: ExperimentRecord | None = None
    event: KeptEvent | None = None
    why: Why | None = None
    attempts: Sequence[AttemptRecord] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """One user's story, newest first."""

    user_id: str
    entries: Sequence[Entry]
    choices: Sequence[Mapping[str, Any]]
    held_out: bool | None  # None: not known before the first experiment
    zone: str | None
    language: str | None
    context: Mapping[str, Any] = field(default_factory=dict)
    messages_counted: int = 0  # that count towards the frequency cap now

    @property
    def is_known(self) -> bool:
        """Say whether there is anything about this user."""
        return bool(self.entries or self.choices)

    @property
    def opted_out(self) -> bool:
        """Say whether a no to all channels stands: the last one is not older than the last yes."""
        said = {True: -1, False: -1}
        for choice in self.choices:
            if choice["channel"] == EVERY_CHANNEL:
                said[choice["allowed"]] = max(said[choice["allowed"]], choice["at"])
        return said[False] >= max(0, said[True])


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one user."""

    experiments: Sequence[ExperimentRecord]
    events: Sequence[KeptEvent]
    choices: Sequence[ChoiceRecord]
    distributions: Mapping[str, DistributionRecord]
    attempts: Mapping[str, Sequence[AttemptRecord]]


def timeline(
    user_id: str, kept: Kept, now: Instant, mode: Mode, cap: FrequencyCap | None
) -> Timeline:
    """Put a user's story together."""
    entries = [entry for made in kept.experiments for entry in _of_experiment(made, kept)]
    shown = {made.id for made in kept.experiments}
    entries += [
        Entry(event.received_at, "event", event=event)
        for event in kept.events
        if not _is_told_already(event, shown)
    ]
    entries.sort(key=lambda entry: (-entry.at, _PLACE.get(entry.kind, 0)))
    newest = next(iter(kept.experiments), None)
    return Timeline(
        user_id=user_id,
        entries=entries,
        choices=[{**asdict(choice), "allowed": bool(choice.allowed)} for choice in kept.choices],
        held_out=None if newest is None else any(made.held_out for made in kept.experiments),
        zone=None if newest is None else newest.zone,
        language=None if newest is None else newest.language,
        context={} if newest is None else msgspec.json.decode(newest.context),
        messages_counted=0 if cap is None else _counted(kept.experiments, now, mode, cap),
    )


_PLACE = {"converted": 0, "opened": 1, "sent": 2, "decided": 8, "event": 9}  # of one moment


def _is_told_already(event: KeptEvent, shown: set[str]) -> bool:
    """Say whether the event only repeats what an experiment's own entries tell."""
    return event.status == "recorded" and event.experiment_id in shown


def _of_experiment(made: ExperimentRecord, kept: Kept) -> list[Entry]:
    found = kept.distributions.get(made.distribution_id)
    attempts = kept.attempts.get(made.id, [])
    entries = [Entry(made.decided_at, "decided", made, why=_why(made, found))]
    ended_at = made.placed_at or _last_try(attempts)
    if made.state != State.SCHEDULED:
        entries.append(
            Entry(ended_at or _ended_by(made), str(made.state), made, attempts=attempts)
        )
    if made.opened_at is not None:
        entries.append(Entry(made.opened_at, "opened", made))
    if made.converted_at is not None:
        entries.append(Entry(made.converted_at, "converted", made))
    return entries


def _last_try(attempts: Sequence[AttemptRecord]) -> Instant | None:
    return attempts[-1].ended_at or attempts[-1].started_at if attempts else None


def _ended_by(made: ExperimentRecord) -> Instant:
    """Return about when an experiment ended that was never placed: what is kept says no more."""
    if made.converted_at is not None:
        return made.converted_at
    return made.expires_at if made.state == State.EXPIRED else made.decided_at


def _why(made: ExperimentRecord, found: DistributionRecord | None) -> Why | None:
    if found is None:
        return None
    ordered = sorted(found.propensities.items(), key=lambda item: (-item[1], item[0]))
    told = dict(ordered[:_LISTED])
    told.setdefault(made.combo_key, made.propensity)
    others = len(found.propensities) - len(told)
    return Why(
        policy=found.policy,
        snapshot=found.snapshot_id,
        snapshot_taken_at=found.snapshot_taken_at,
        allowed=len(found.propensities),
        combos=len(found.propensities) + sum(len(keys) for keys in found.refused.values()),
        chances=[
            Chance(key, probability, key == made.combo_key)
            for key, probability in sorted(told.items(), key=lambda item: -item[1])
        ],
        others=others,
        others_probability=max(0.0, 1.0 - sum(told.values())) if others else 0.0,
        refused={reason: len(keys) for reason, keys in found.refused.items()},
    )


def _counted(
    experiments: Sequence[ExperimentRecord], now: Instant, mode: Mode, cap: FrequencyCap
) -> int:
    places = {state.value for state in TAKES_A_PLACE}
    return sum(
        made.placed_at is not None
        and made.placed_at > now - cap.per
        and made.state in places
        and made.mode == mode.value
        for made in experiments
    )
