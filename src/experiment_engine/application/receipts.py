"""Decision receipts: everything that explains a decision, and the decision made again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from experiment_engine.application.described import Answer
from experiment_engine.application.learn import restored
from experiment_engine.application.ports import Evidence
from experiment_engine.application.redraw import Redrawn, Sources, Start, redraw
from experiment_engine.application.report import Report
from experiment_engine.application.report_records import ExperimentRecord, KeptEvent
from experiment_engine.domain.bandit.snapshot import PolicyInForce
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.events import Fact, Happened
from experiment_engine.domain.identifiers import CohortName, SnapshotId, UserId

Reader = Callable[[str, bytes], Sequence[Fact]]  # of what a source sent


class RawReading(Protocol):
    """Where the bytes of events are kept."""

    def raw_event(self, user_id: str, key: str) -> tuple[KeptEvent, bytes] | None:
        """Return one event with the bytes in which it came."""


@dataclass(frozen=True)
class Receipts:
    """Shows decisions and makes them again; nothing here writes."""

    report: Report
    raw: RawReading
    evidence: Evidence
    read: Reader

    def explain(self, experiment_id: str) -> Answer:
        """Return what `/api/experiments/{id}` answers; raises UnknownExperiment."""
        return self.report.experiment(experiment_id)

    def redraw(self, experiment_id: str) -> Redrawn:
        """Make the decision again from what is stored; raises UnknownExperiment."""
        record = self.report.record(experiment_id)
        policy, why = self._policy(record)
        made = self.report.reading.distribution(record.distribution_id)
        return redraw(Sources(record, made, policy, why, self._start(record), self.report.rules))

    def _policy(self, record: ExperimentRecord) -> tuple[PolicyInForce | None, str]:
        cohort = self.report.rules.cohorts.get(CohortName(record.cohort))
        if cohort is None:
            return None, "the configuration has no such cohort any more"
        stored = self.evidence.snapshot(SnapshotId(record.snapshot_id), cohort)
        if stored is None:
            return None, "the model of its snapshot is not kept, or the cohort has changed since"
        return restored(stored, cohort), ""

    def _start(self, record: ExperimentRecord) -> Start | None:
        key = record.event_key or self._key_of_request(record)
        found = self.raw.raw_event(record.user_id, key) if key else None
        if found is None or not found[1]:
            return None
        event, raw = found
        if record.manual:
            attributes = msgspec.json.decode(raw).get("attributes") or {}
            told = attributes.get("user_properties")
            return Start(attributes, told if isinstance(told, dict) else {})
        told = [fact for fact in self._facts(event, raw) if isinstance(fact, Happened)]
        told.sort(key=lambda fact: fact.key != event.key)  # its own first, where it is known by it
        return Start(told[0].event_properties, told[0].user_properties) if told else None

    def _facts(self, event: KeptEvent, raw: bytes) -> Sequence[Fact]:
        try:
            return self.read(event.source, raw)
        except NotUnderstood:
            return ()

    def _key_of_request(self, record: ExperimentRecord) -> str | None:
        told = self.report.reading.experiments_events(UserId(record.user_id), record.id, "")
        return next((event.key for event in told if event.name == "trigger"), None)
