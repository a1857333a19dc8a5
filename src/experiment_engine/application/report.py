"""Step 7 of the walk: the answers that the API, the dashboard and the command line share."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import msgspec
import numpy as np

from experiment_engine.application import described
from experiment_engine.application.described import Answer
from experiment_engine.application.evidence import Frozen, Learned
from experiment_engine.application.ports import Clock
from experiment_engine.application.report_measurement import measurement
from experiment_engine.application.report_records import (
    AttemptRecord,
    ChoiceRecord,
    ComboCounts,
    DistributionRecord,
    ExperimentRecord,
    KeptEvent,
    QuarantineRecord,
)
from experiment_engine.domain.bandit.reward import Group
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.errors import UnknownExperiment
from experiment_engine.domain.identifiers import CohortName, ComboKey, ExperimentId, UserId
from experiment_engine.domain.measurement.interval import wilson_interval
from experiment_engine.domain.measurement.silence import Silence
from experiment_engine.domain.measurement.standing import standing
from experiment_engine.domain.moments import Instant, iso
from experiment_engine.domain.rules import Rules

LISTED = 10  # combos in each list of the statistics
_TIMELINE = 200
_MOST_REMEMBERED = 64  # cohorts and counts whose chances are remembered


class Reading(Protocol):
    """What reports need of the database; nothing here writes."""

    def is_reachable(self) -> bool:
        """Say whether the database answers."""

    def experiment_counts(self, mode: Mode, cohort: CohortName | None) -> Mapping[bool, int]:
        """Return how many experiments were decided: held out (True) and messaged (False)."""

    def experiment_counts_since(
        self, mode: Mode, cohort: CohortName | None, since: Instant
    ) -> Mapping[bool, int]:
        """Return the same for experiments decided at `since` or later."""

    def combo_counts(self, mode: Mode, cohort: CohortName | None) -> Sequence[ComboCounts]:
        """Return the all-time sums of every combo and group."""

    def combo_counts_since(
        self, mode: Mode, cohort: CohortName | None, since: Instant
    ) -> Sequence[ComboCounts]:
        """Return the same for experiments decided at `since` or later."""

    def state_counts(self, mode: Mode, cohort: CohortName | None) -> Mapping[tuple[str, str], int]:
        """Return how many deliveries ended in each state and reason."""

    def replaced_counts(self, mode: Mode, cohort: CohortName | None) -> Mapping[str, int]:
        """Return how many messages were replaced by another, by reason."""

    def answer_counts(
        self, mode: Mode, cohort: CohortName | None
    ) -> Mapping[tuple[str, str], int]:
        """Return what events were answered: status and reason, how often."""

    def experiment(self, experiment_id: ExperimentId) -> ExperimentRecord | None:
        """Return one experiment as it is kept."""

    def attempts(self, experiment_id: ExperimentId) -> Sequence[AttemptRecord]:
        """Return every try at the provider, oldest first."""

    def distribution(self, distribution_id: str) -> DistributionRecord | None:
        """Return the probabilities that an experiment was drawn from."""

    def attempts_of(self, experiment_ids: Sequence[str]) -> Mapping[str, Sequence[AttemptRecord]]:
        """Return every try at the provider of some experiments, oldest first."""

    def distributions(self, ids: Sequence[str]) -> Mapping[str, DistributionRecord]:
        """Return the probabilities that some experiments were drawn from."""

    def users_experiments(self, user_id: UserId, limit: int) -> Sequence[ExperimentRecord]:
        """Return a user's experiments, newest first."""

    def users_events(self, user_id: UserId, limit: int) -> Sequence[KeptEvent]:
        """Return a user's events with what followed from each, newest first."""

    def experiments_events(
        self, user_id: UserId, experiment_id: str, key: str
    ) -> Sequence[KeptEvent]:
        """Return the event of this key and those about the experiment, oldest first."""

    def users_choices(self, user_id: UserId) -> Sequence[ChoiceRecord]:
        """Return a user's consents and opt-outs, newest first."""

    def quarantine(self, limit: int) -> Sequence[QuarantineRecord]:
        """Return what was not understood, newest first."""

    def quarantine_size(self) -> int:
        """Return how much was not understood."""

    def paused(self) -> Mapping[str, Instant]:
        """Return what is paused, and since when."""

    def failing_channels(self) -> Mapping[str, int]:
        """Return the channels that are not eligible, and their refusals in a row."""

    def measured(self, mode: Mode) -> Mapping[CohortName, Mapping[str, float]]:
        """Return each cohort's sums of measurement, over all days."""

    def frozen(self, mode: Mode) -> Mapping[CohortName, Frozen]:
        """Return the policies that stay where they are, and why."""

    def silences(self) -> Sequence[Silence]:
        """Return the silences of sources that hold trials, oldest first."""

    def learned(self, mode: Mode, cohort: CohortName) -> Learned | None:
        """Return what people want to know of a cohort's newest snapshot."""


@dataclass
class Report:
    """Questions and their answers."""

    reading: Reading
    rules: Rules
    mode: Mode
    clock: Clock
    _best: dict[tuple[CohortName, object], Mapping[str, float]] = field(default_factory=dict)

    def statistics(self, cohort: str | None = None, since: Instant | None = None) -> Answer:
        """Answer `/api/stats` (CONTRACT 6); raises UnknownCohort."""
        name = self._known(cohort)
        if since is None:
            experiments = self.reading.experiment_counts(self.mode, name)
            counts = self.reading.combo_counts(self.mode, name)
        else:
            experiments = self.reading.experiment_counts_since(self.mode, name, since)
            counts = self.reading.combo_counts_since(self.mode, name, since)
        messaged = [c for c in counts if c.counted_for != Group.HOLDOUT]
        held_out = [c for c in counts if c.counted_for == Group.HOLDOUT]
        before = [c for c in counts if c.counted_for == Group.HISTORY]
        total, converted = experiments.get(False, 0), sum(c.converted for c in messaged)
        top, worst = self._leagues([c for c in messaged if c.counted_for == Group.COMBO])
        return {
            "summary": {
                "total_experiments": total,
                "total_opened": sum(c.opened for c in messaged),
                "total_converted": converted,
                "overall_cvr": f"{100 * converted / total if total else 0:.2f}%",
                "total_sent": sum(c.sent for c in messaged),
            },
            "top_combinations": top,
            "worst_combinations": worst,
            "measurement": self._measurement(name),
            "holdout": {
                "experiments": experiments.get(True, 0),
                "trials": sum(c.trials for c in held_out),
                "converted": sum(c.successes for c in held_out),
            },
            "history": {
                "trials": sum(c.trials for c in before),
                "successes": sum(c.successes for c in before),
            },
            "mode": self.mode.value,
            "paused": sorted(self.reading.paused()),
            "quarantined": self.reading.quarantine_size(),
            "generated_at": iso(self.clock.now()),
        }

    def _measurement(self, cohort: CohortName | None) -> Answer:
        """Return what has matured, for every cohort or one; `since` does not narrow it."""
        sums, frozen = self.reading.measured(self.mode), self.reading.frozen(self.mode)
        return {
            name: measurement(
                self.rules.cohorts[name],
                sums.get(name, {}),
                self._leader(name),
                frozen.get(name),
                self.reading.learned(self.mode, name),
            )
            for name in ([cohort] if cohort is not None else self.rules.cohorts)
        }

    def _leader(self, cohort: CohortName) -> tuple[str, float] | None:
        counts = self.reading.combo_counts(self.mode, cohort)
        chances = self._cohort_chances(cohort, [c for c in counts if c.counted_for == Group.COMBO])
        return max(chances.items(), key=lambda item: item[1], default=None)

    def outcomes(self, cohort: str | None = None) -> Answer:
        """Answer how deliveries ended, what was replaced, and what events were answered."""
        name = self._known(cohort)
        counts = self.reading.state_counts(self.mode, name)
        replaced = self.reading.replaced_counts(self.mode, name)
        answers = self.reading.answer_counts(self.mode, name)
        return {
            "outcomes": [
                {"state": state, "reason": reason or None, "experiments": number}
                for (state, reason), number in sorted(counts.items())
            ],
            "replaced": [
                {"reason": reason, "experiments": number}
                for reason, number in sorted(replaced.items())
            ],
            "answers": [
                {"status": status, "reason": reason or None, "answers": number}
                for (status, reason), number in sorted(answers.items())
            ],
        }

    def experiment(self, experiment_id: str) -> Answer:
        """Answer `/api/experiments/{id}`; raises UnknownExperiment."""
        record = self.record(experiment_id)
        made = self.reading.distribution(record.distribution_id)
        told = self.reading.experiments_events(UserId(record.user_id), record.id, record.event_key)
        return {
            **described.experiment(record),
            "event_key": record.event_key or None,
            "context": msgspec.json.decode(record.context),
            "facts": msgspec.json.decode(record.facts) if record.facts else {},
            "stand_ins": msgspec.json.decode(record.stand_ins) if record.stand_ins else [],
            "zone": record.zone,
            "seed": str(record.seed),  # beyond what a JSON number holds exactly elsewhere
            "decision": None if made is None else described.decision(made),
            "credit": described.credit(record),
            "attempts": [
                described.attempt(attempt)
                for attempt in self.reading.attempts(ExperimentId(record.id))
            ],
            "events": [
                {"received_at": iso(event.received_at), **described.event(event)} for event in told
            ],
        }

    def record(self, experiment_id: str) -> ExperimentRecord:
        """Return one experiment as it is kept; raises UnknownExperiment."""
        record = self.reading.experiment(ExperimentId(experiment_id))
        if record is None:
            raise UnknownExperiment(f'There is no experiment "{experiment_id}".')
        return record

    def sources(self) -> Answer:
        """Answer which sources are silent, and what their silences hold."""
        return {"silences": [described.silence(one) for one in self.reading.silences()]}

    def user(self, user_id: str) -> Answer:
        """Answer `/api/users/{id}`: what came, what was sent, and what was not and why."""
        known = UserId(user_id)
        experiments = self.reading.users_experiments(known, _TIMELINE)
        events = self.reading.users_events(known, _TIMELINE)
        dated = [
            (e.decided_at, {"type": "experiment", **described.experiment(e)}) for e in experiments
        ]
        dated += [(event.received_at, described.event(event)) for event in events]
        dated.sort(key=lambda entry: entry[0], reverse=True)
        entries = [{"at": iso(at), **entry} for at, entry in dated]
        return {
            "user_id": user_id,
            "choices": [
                {**asdict(choice), "allowed": bool(choice.allowed), "at": iso(choice.at)}
                for choice in self.reading.users_choices(known)
            ],
            "timeline": entries[:_TIMELINE],
        }

    def quarantine(self, limit: int = 100) -> Answer:
        """Answer what was not understood, byte for byte."""
        return {
            "total": self.reading.quarantine_size(),
            "quarantine": [
                {
                    "id": kept.id,
                    "source": kept.source,
                    "received_at": iso(kept.received_at),
                    "reason": kept.reason,
                    "text": kept.raw.decode(errors="replace"),
                    "base64": base64.b64encode(kept.raw).decode(),
                }
                for kept in self.reading.quarantine(limit)
            ],
        }

    def _known(self, cohort: str | None) -> CohortName | None:
        return None if cohort is None else self.rules.require_cohort(cohort).name

    def _leagues(self, counts: Sequence[ComboCounts]) -> tuple[list[Answer], list[Answer]]:
        """Return the best by the lower end of their interval, and the worst by the upper."""
        sent = [self._ranked(c) for c in counts if c.sent > 0]
        best = self._chances(counts)
        for entry in sent:
            entry["probability_best"] = best.get(f"{entry['cohort']}/{entry['combo_key']}", 0.0)
        sent.sort(key=lambda entry: (-entry["interval"][0], entry["combo_key"]))
        top, rest = sent[:LISTED], sent[LISTED:]
        rest.sort(key=lambda entry: (entry["interval"][1], entry["combo_key"]))
        return top, rest[:LISTED]

    def _ranked(self, counts: ComboCounts) -> Answer:
        interval = wilson_interval(counts.converted, counts.sent)
        return {
            "combo_key": counts.combo_key,
            "sent_count": counts.sent,
            "converted_count": counts.converted,
            "cvr": round(100 * counts.converted / counts.sent, 2),
            "interval": [round(100 * interval.low, 2), round(100 * interval.high, 2)],
            "cohort": counts.cohort,
            "opened_count": counts.opened,
        }

    def _chances(self, counts: Sequence[ComboCounts]) -> Mapping[str, float]:
        """Return each combo's probability to be its cohort's best, by cohort and combo."""
        return {
            f"{cohort}/{key}": chance
            for cohort in self.rules.cohorts
            for key, chance in self._cohort_chances(cohort, counts).items()
        }

    def _cohort_chances(
        self, name: CohortName, counts: Sequence[ComboCounts]
    ) -> Mapping[str, float]:
        """Return the same of one cohort by combo; worked out once for the same counts."""
        mine = tuple((c.combo_key, c.trials, c.successes) for c in counts if c.cohort == name)
        known = self._best.get((name, mine))
        if known is None:
            if len(self._best) >= _MOST_REMEMBERED:
                self._best.clear()
            known = self._best[name, mine] = self._worked_out(self.rules.cohorts[name], mine)
        return known

    def _worked_out(
        self, cohort: Cohort, counts: Sequence[tuple[str, int, int]]
    ) -> Mapping[str, float]:
        trials, successes = np.zeros(len(cohort.space)), np.zeros(len(cohort.space))
        for key, tried, won in counts:
            combo = cohort.space.by_key.get(ComboKey(key))
            if combo is not None:
                trials[combo.index], successes[combo.index] = tried, won
        if not trials.any():
            return {}
        chances = standing(
            successes, trials, prior_rate=cohort.prior.rate, prior_weight=cohort.prior.weight
        ).best
        return {combo.key: round(float(chances[combo.index]), 4) for combo in cohort.space.combos}
