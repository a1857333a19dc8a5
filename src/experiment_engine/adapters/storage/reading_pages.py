"""What the dashboard's pages read: counters, and the newest few of each kind by an index.

No question here reads more than a bounded part of a table that grows with every user.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Select, desc, func, literal, or_, select

from experiment_engine.adapters.storage import rows, tables
from experiment_engine.adapters.storage.reading import KEPT, ask
from experiment_engine.adapters.storage.remembered import Remembered
from experiment_engine.application.measure import EVEN
from experiment_engine.application.page_records import (
    AuditRecord,
    DayCount,
    ProcessRecord,
    Recent,
    Stopped,
    WaitingCount,
)
from experiment_engine.application.report_records import KeptEvent, QuarantineRecord
from experiment_engine.domain.bandit.reward import TEACHING, Group
from experiment_engine.domain.delivery.experiment import Mode, State
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.moments import DAY, Duration, Instant

_HOURS_A_DAY = 24
_AMONG = 5_000  # newest events that a filter looks through

_count = tables.combo_count.c
_made = tables.experiment.c
_kept = tables.event.c
_RECENT = [_made[name] for name in Recent.__dataclass_fields__]


class PageReader:
    """Answers the questions of the pages, on connections that cannot write."""

    def __init__(self, readers: Engine) -> None:
        """Read through the engine's read-only connections."""
        self._readers = readers
        self._remembered = Remembered()

    def day_counts(self, mode: Mode, cohort: CohortName, from_day: int) -> Sequence[DayCount]:
        """Return the sums by day of the trigger, combo and group, from a day on.

        Where there are very many counters, they may be half a minute old.
        """
        return self._remembered.answer(
            ("days", mode, cohort, from_day),
            lambda: self._day_counts(mode, cohort, from_day),
            lambda counts: sum(count.rows for count in counts),
        )

    def _day_counts(self, mode: Mode, cohort: CohortName, from_day: int) -> Sequence[DayCount]:
        day = _count.hour - _count.hour % _HOURS_A_DAY
        query = (
            select(
                day,
                _count.combo_key,
                _count.counted_for,
                func.sum(_count.trials),
                func.sum(_count.successes),
                func.sum(_count.sent),
                func.count(),
            )
            .where(
                _count.mode == mode.value,
                _count.cohort == cohort,
                _count.hour >= max(0, from_day * _HOURS_A_DAY),
                _count.counted_for != Group.HISTORY.value,
            )
            .group_by(day, _count.combo_key, _count.counted_for)
            .order_by(day, _count.combo_key)
        )
        return [
            DayCount(hour // _HOURS_A_DAY, key, group, *(int(number) for number in numbers))
            for hour, key, group, *numbers in self._rows(query)
        ]

    def conversions_by_age(
        self, mode: Mode, cohort: CohortName, before_hour: int
    ) -> Mapping[int, int]:
        """Return conversions of messaged users by age bucket, of triggers before an hour."""
        return self._remembered.answer(
            ("ages", mode, cohort),
            lambda: self._conversions_by_age(mode, cohort, before_hour),
            lambda found: sum(found.values()),
        )

    def _conversions_by_age(
        self, mode: Mode, cohort: CohortName, before_hour: int
    ) -> Mapping[int, int]:
        told = tables.conversion_count.c
        query = (
            select(told.age_bucket, func.sum(told.conversions))
            .where(
                told.mode == mode.value,
                told.cohort == cohort,
                told.hour < before_hour,
                told.counted_for.in_([group.value for group in TEACHING]),
            )
            .group_by(told.age_bucket)
        )
        return {bucket: int(number) for bucket, number in self._rows(query)}

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
        among = select(*KEPT).order_by(desc(_kept.received_at)).limit(_AMONG)
        if since is not None:
            among = among.where(_kept.received_at > since)
        newest = among.subquery()
        query = select(newest).order_by(desc(newest.c.received_at)).limit(limit)
        for column, wanted in (("source", source), ("name", name), ("status", status)):
            if wanted:
                query = query.where(newest.c[column] == wanted)
        return [KeptEvent(*row) for row in self._rows(query)]

    def raw_event(self, user_id: str, key: str) -> tuple[KeptEvent, bytes] | None:
        """Return one event with the bytes in which it came."""
        query = select(*KEPT, _kept.raw).where(_kept.user_id == user_id, _kept.dedup_key == key)
        found = self._rows(query)
        return (KeptEvent(*found[0][:-1]), bytes(found[0][-1])) if found else None

    def newest_experiments(self, among: int, cohort: CohortName | None) -> Sequence[Recent]:
        """Return the cohort's experiments among the newest ones of all."""
        newest = (
            select(*_RECENT).order_by(desc(_made.id), desc(_made.user_id)).limit(among).subquery()
        )
        query = select(newest).order_by(desc(newest.c.id))
        if cohort is not None:
            query = query.where(newest.c.cohort == cohort)
        return [Recent(*row) for row in self._rows(query)]

    def experiments_named(self, ids: Sequence[str]) -> Mapping[str, Recent]:
        """Return some experiments by their ids."""
        query = select(*_RECENT).where(_made.id.in_(ids))
        return {row[0]: Recent(*row) for row in self._rows(query)} if ids else {}

    def waiting(
        self, channels: Sequence[str], start: Instant, end: Instant, stretch: Duration
    ) -> Sequence[WaitingCount]:
        """Return how many messages are due in each stretch between two moments, by channel."""
        place = (_made.due_at - start) - (_made.due_at - start) % stretch
        query = (
            select(place, _made.channel, func.count())
            .where(
                _made.state == State.SCHEDULED.value,
                _made.channel.in_(channels),
                _made.held_out.is_(False),
                _made.due_at >= start,
                _made.due_at < end,
            )
            .group_by(place, _made.channel)
        )
        return [
            WaitingCount(Instant(start + offset), channel, int(messages))
            for offset, channel, messages in self._rows(query)
        ]

    def waiting_up_to(self, limit: int) -> int:
        """Return how many messages wait, counting no further than the limit and one."""
        some = (
            select(_made.due_at)
            .where(_made.state == State.SCHEDULED.value, _made.held_out.is_(False))
            .limit(limit + 1)
            .subquery()
        )
        return int(self._rows(select(func.count()).select_from(some))[0][0])

    def stopped(self, since: Instant) -> Sequence[Stopped]:
        """Return what kept messages from going out, by reason, of what came since.

        Where there is very much of it, the numbers may be half a minute old.
        """
        return self._remembered.answer(
            "stopped",
            lambda: self._stopped(since),
            lambda counts: sum(count.times for count in counts),
        )

    def _stopped(self, since: Instant) -> Sequence[Stopped]:
        events = (
            select(_kept.reason, func.count())
            .where(
                _kept.received_at >= since, _kept.status == "ignored", _kept.reason.is_not(None)
            )
            .group_by(_kept.reason)
        )
        deliveries = (
            select(func.coalesce(_made.reason, _made.state), func.count())
            .where(
                _made.id >= rows.first_id_at(since),
                or_(
                    _made.state.in_([State.CANCELLED.value, State.EXPIRED.value]),
                    (_made.state == State.SCHEDULED.value) & _made.reason.is_not(None),
                ),
            )
            .group_by(func.coalesce(_made.reason, _made.state))
        )
        moved = select(literal("quiet_hours"), func.count()).where(
            _made.id >= rows.first_id_at(since),
            _made.postponed,
            func.coalesce(_made.reason, "") != "quiet_hours",  # counted as a delivery's reason
        )
        steps: Any = (("event", events), ("delivery", deliveries), ("decision", moved))
        return [
            Stopped(step, reason, int(times))
            for step, query in steps
            for reason, times in self._rows(query)
            if times
        ]

    def quarantined(self, number: int) -> QuarantineRecord | None:
        """Return one body that was not understood."""
        kept = tables.quarantine.c
        query = select(kept.id, kept.source, kept.received_at, kept.reason, kept.raw).where(
            kept.id == number
        )
        found = self._rows(query)
        return QuarantineRecord(*found[0]) if found else None

    def measured_by_day(
        self, mode: Mode, cohort: CohortName, from_day: int
    ) -> Mapping[int, Mapping[str, float]]:
        """Return a cohort's sums of measurement against an even split, by day."""
        kept = tables.measurement_sum.c
        query = select(kept.day, kept.name, kept.value).where(
            kept.mode == mode.value,
            kept.cohort == cohort,
            kept.day >= max(0, from_day),
            kept.name.startswith(f"{EVEN}."),
        )
        days: dict[int, dict[str, float]] = {}
        for day, name, value in self._rows(query):
            days.setdefault(day, {})[name] = value
        return days

    def audit(self, limit: int) -> Sequence[AuditRecord]:
        """Return the newest changes that people made."""
        noted = tables.audit.c
        query = (
            select(noted.at, noted.who, noted.what, noted.target, noted.before, noted.after)
            .order_by(desc(noted.id))
            .limit(limit)
        )
        return [AuditRecord(*row) for row in self._rows(query)]

    def was_noted(self, what: str, target: str, since: Instant) -> bool:
        """Say whether the audit has such an entry, made at a moment or later."""
        noted = tables.audit.c
        first = rows.first_id_at(Instant(since - DAY))  # ids hold the time of a host's own clock
        query = select(noted.id).where(
            noted.id >= first, noted.at >= since, noted.what == what, noted.target == target
        )
        return bool(self._rows(query.limit(1)))

    def processes(self, since: Instant) -> Sequence[ProcessRecord]:
        """Return the processes that were seen since."""
        seen = tables.process.c
        query = (
            select(
                seen.kind,
                seen.host,
                seen.version,
                seen.configuration,
                seen.started_at,
                seen.seen_at,
            )
            .where(seen.seen_at >= since)
            .order_by(desc(seen.seen_at))
        )
        return [ProcessRecord(*row) for row in self._rows(query)]

    def schema_revision(self) -> str:
        """Return the schema's version as the database notes it."""
        with self._readers.connect() as connection:
            row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
        return "" if row is None else str(row[0])

    def database(self) -> str:
        """Return which database it is."""
        return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[self._readers.dialect.name]

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        return ask(self._readers, query)
