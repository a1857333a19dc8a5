"""What the watch over sources reads and writes, on either database."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, delete, func, select, tuple_

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.sums import add_up
from experiment_engine.application.watch import FRESH, Heard, Span
from experiment_engine.domain.bandit.reward import Group
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.events import Source
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.measurement.silence import ENGINE, EVENTS, GOALS, Silence, Stream
from experiment_engine.domain.moments import HOUR, MINUTE, Instant

_kept = tables.event.c
_silent = tables.silence.c


@dataclass(frozen=True)
class WatchingReader:
    """Events by receipt, the rhythms of sources, and their silences."""

    core: Connection

    def first_received(self, since: Instant) -> Instant | None:
        """Return when the first event from then on was received."""
        found = self.core.execute(
            select(func.min(_kept.received_at)).where(_kept.received_at >= since)
        ).scalar()
        return None if found is None else Instant(found)

    def received_minutes(self, received: Span) -> Sequence[Instant]:
        """Return the beginnings of the minutes in which events were received, in order."""
        minute = _kept.received_at - _kept.received_at % MINUTE
        query = (
            select(minute.label("minute"))
            .distinct()
            .where(_kept.received_at >= received[0], _kept.received_at < received[1])
            .order_by("minute")
        )
        return [Instant(at) for (at,) in self.core.execute(query)]

    def heard(self, received: Span, goals: Collection[str]) -> Sequence[Heard]:
        """Return what each stream told in a span, by hour."""
        hour = _kept.received_at - _kept.received_at % HOUR
        minute = _kept.received_at - _kept.received_at % MINUTE
        at_goal = case((_kept.name.in_(goals), _kept.received_at))
        query = (
            select(
                _kept.source,
                hour,
                func.count(minute.distinct()),
                func.min(_kept.received_at),
                func.max(_kept.received_at),
                func.count(case((_kept.name.in_(goals), minute)).distinct()),
                func.min(at_goal),
                func.max(at_goal),
            )
            .where(
                _kept.received_at >= received[0],
                _kept.received_at < received[1],
                _kept.source != Source.API.value,  # people ask when they please
                _kept.happened_at > _kept.received_at - FRESH,  # not fetched afterwards
            )
            .group_by(_kept.source, hour)
        )
        return [one for row in self.core.execute(query) for one in _heard(tuple(row))]

    def told_late(
        self, silence: Silence, until: Instant, received: Span, goals: Collection[str]
    ) -> int:
        """Return of how many minutes of a silent span events were received in another."""
        since = max(received[0], silence.since)
        minute = _kept.happened_at - _kept.happened_at % MINUTE
        query = select(func.count(minute.distinct())).where(
            _kept.received_at >= since,
            _kept.received_at < received[1],
            _kept.happened_at >= silence.since,
            _kept.happened_at < until,
        )
        if silence.source != ENGINE:
            query = query.where(_kept.source == silence.source)
        if silence.told == GOALS:
            query = query.where(_kept.name.in_(goals))
        return int(self.core.execute(query).scalar_one())

    def rhythms(self, from_hour: int) -> Mapping[Stream, Mapping[int, int]]:
        """Return the kept counts of each stream by hour, from an hour on."""
        count = tables.source_hour.c
        found: dict[Stream, dict[int, int]] = {}
        for source, told, hour, minutes in self.core.execute(
            select(count.source, count.told, count.hour, count.minutes).where(
                count.hour >= from_hour
            )
        ):
            found.setdefault(Stream(source, told), {})[hour] = int(minutes)
        return found

    def silences(self, since: Instant) -> Sequence[Silence]:
        """Return the silences that began since, oldest first."""
        columns = [_silent[name] for name in Silence._fields]
        query = select(*columns).where(_silent.since >= since).order_by(_silent.since)
        return [Silence(*row) for row in self.core.execute(query)]

    def told_by(self, mode: Mode, cohort: CohortName, from_hour: int) -> Mapping[str, int]:
        """Return how many successes of messaged users each source told, of triggers since."""
        told = tables.conversion_count.c
        query = (
            select(told.source, func.sum(told.conversions))
            .where(
                told.mode == mode.value,
                told.cohort == cohort,
                told.hour >= from_hour,
                told.counted_for != Group.HOLDOUT.value,
            )
            .group_by(told.source)
        )
        return {source: int(number) for source, number in self.core.execute(query)}


@dataclass(frozen=True)
class WatchingStatements(WatchingReader):
    """What a step of the watch keeps, in one transaction."""

    def add_heard(self, heard: Sequence[Heard]) -> None:
        """Add to the counts by hour."""
        rows = [
            {"source": one.stream.source, "told": one.stream.told, "hour": one.hour}
            | {"minutes": one.minutes}
            for one in heard
        ]
        add_up(self.core, tables.source_hour, rows)

    def set_silences(self, silences: Sequence[Silence]) -> None:
        """Keep these silences as they stand now."""
        table = tables.silence
        keys = [(one.source, one.told, one.since) for one in silences]
        if keys:
            self.core.execute(delete(table).where(tuple_(*table.primary_key.columns).in_(keys)))
            self.core.execute(table.insert(), [one._asdict() for one in silences])

    def forget_rhythm(self, source: str, told: Sequence[str]) -> None:
        """Take the counts of a source away: nothing is usual for it any more."""
        count = tables.source_hour
        self.core.execute(delete(count).where(count.c.source == source, count.c.told.in_(told)))


def _heard(row: Sequence[Any]) -> Iterator[Heard]:
    source, started, minutes, first, last, goals, first_goal, last_goal = row
    yield Heard(Stream(source, EVENTS), started // HOUR, int(minutes), first, last)
    if goals:
        yield Heard(Stream(source, GOALS), started // HOUR, int(goals), first_goal, last_goal)
