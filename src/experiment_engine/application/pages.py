"""What the dashboard's pages say, from the same counters and records as the reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from experiment_engine.application.cohort_results import (
    CohortResults,
    Counted,
    cohort_results,
)
from experiment_engine.application.page_records import (
    AuditRecord,
    DayCount,
    ProcessRecord,
    Recent,
    Stopped,
    WaitingCount,
)
from experiment_engine.application.ports import Clock
from experiment_engine.application.report import Reading
from experiment_engine.application.report_records import KeptEvent, QuarantineRecord
from experiment_engine.application.standings import Standings
from experiment_engine.domain.bandit.delay_curve import DelayCurve
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.moments import DAY, HOUR, Duration, Instant
from experiment_engine.domain.pausing import EVERYTHING
from experiment_engine.domain.rules import Rules

SHOWN_DAYS = 90  # of which a page shows the course


class PageReading(Protocol):
    """What pages need of the database besides what reports need; nothing here writes."""

    def day_counts(self, mode: Mode, cohort: CohortName, from_day: int) -> Sequence[DayCount]:
        """Return the sums by day of the trigger, combo and group, from a day on."""

    def conversions_by_age(
        self, mode: Mode, cohort: CohortName, before_hour: int
    ) -> Mapping[int, int]:
        """Return conversions by age bucket, of triggers before an hour."""

    def latest_events(
        self,
        limit: int,
        *,
        source: str | None = None,
        name: str | None = None,
        status: str | None = None,
        since: Instant | None = None,
    ) -> Sequence[KeptEvent]:
        """Return the newest events; a filter looks through the newest few thousand only."""

    def raw_event(self, user_id: str, key: str) -> tuple[KeptEvent, bytes] | None:
        """Return one event with the bytes in which it came."""

    def newest_experiments(self, among: int, cohort: CohortName | None) -> Sequence[Recent]:
        """Return the cohort's experiments among the newest ones of all."""

    def experiments_named(self, ids: Sequence[str]) -> Mapping[str, Recent]:
        """Return some experiments by their ids."""

    def waiting(
        self, channels: Sequence[str], start: Instant, end: Instant, stretch: Duration
    ) -> Sequence[WaitingCount]:
        """Return how many messages are due in each stretch between two moments, by channel."""

    def waiting_up_to(self, limit: int) -> int:
        """Return how many messages wait, counting no further than the limit and one."""

    def stopped(self, since: Instant) -> Sequence[Stopped]:
        """Return what kept messages from going out, by reason, of what came since."""

    def quarantined(self, number: int) -> QuarantineRecord | None:
        """Return one body that was not understood."""

    def measured_by_day(
        self, mode: Mode, cohort: CohortName, from_day: int
    ) -> Mapping[int, Mapping[str, float]]:
        """Return a cohort's sums of measurement against an even split, by day."""

    def audit(self, limit: int) -> Sequence[AuditRecord]:
        """Return the newest changes that people made."""

    def was_noted(self, what: str, target: str, since: Instant) -> bool:
        """Say whether the audit has such an entry, made at a moment or later."""

    def processes(self, since: Instant) -> Sequence[ProcessRecord]:
        """Return the processes that were seen since."""

    def schema_revision(self) -> str:
        """Return the schema's version as the database notes it."""

    def database(self) -> str:
        """Return which database it is."""


@dataclass
class Pages:
    """Questions of the pages and their answers."""

    reading: PageReading
    records: Reading
    rules: Rules
    mode: Mode
    clock: Clock
    _standings: Standings = field(default_factory=Standings)

    def results(self, cohort: str) -> CohortResults:
        """Return what a cohort has achieved so far; raises UnknownCohort."""
        known, now = self.rules.require_cohort(cohort), self.clock.now()
        paused = self.records.paused()
        from_day = now // DAY - SHOWN_DAYS
        closed_before = (now - known.goal.window) // HOUR
        counted = Counted(
            totals=self.records.combo_counts(self.mode, known.name),
            days=self.reading.day_counts(self.mode, known.name, from_day),
            curve=DelayCurve(
                known.goal.window,
                self.reading.conversions_by_age(self.mode, known.name, closed_before),
            ),
            measured=self.records.measured(self.mode).get(known.name, {}),
            learned=self.records.learned(self.mode, known.name),
            measured_days=self.reading.measured_by_day(self.mode, known.name, from_day),
        )
        frozen = self.records.frozen(self.mode).get(known.name)
        return cohort_results(
            known,
            counted,
            now,
            self._standings,
            mode=self.mode.value,
            paused=EVERYTHING in paused or known.name in paused,
            frozen=None if frozen is None else frozen.reason,
        )
