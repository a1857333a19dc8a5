"""What reports read: SQLAlchemy Core on connections that cannot write."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine, Select, case, desc, func, select
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from experiment_engine.adapters.storage import rows, tables
from experiment_engine.adapters.storage.evidence import EvidenceReader
from experiment_engine.application.evidence import Frozen, Learned
from experiment_engine.application.report_records import (
    AttemptRecord,
    ChoiceRecord,
    ComboCounts,
    DistributionRecord,
    ExperimentRecord,
    KeptEvent,
    QuarantineRecord,
)
from experiment_engine.domain.bandit.reward import NOT_REACHED, Group
from experiment_engine.domain.delivery.experiment import WAITING, Mode, State
from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.domain.identifiers import CohortName, ExperimentId, SnapshotId, UserId
from experiment_engine.domain.measurement.silence import Silence
from experiment_engine.domain.moments import Instant
from experiment_engine.domain.reasons import Reason

_made = tables.experiment.c
_RECORD = [_made[name] for name in ExperimentRecord.__dataclass_fields__]
_kept = tables.event.c
KEPT = (
    _kept.user_id,
    _kept.dedup_key,
    _kept.source,
    _kept.name,
    _kept.happened_at,
    _kept.received_at,
    _kept.status,
    _kept.reason,
    _kept.experiment_id,
)


class StorageReader:
    """Answers the questions of reports; each from one consistent view of the database."""

    def __init__(self, readers: Engine) -> None:
        """Read through the engine's read-only connections."""
        self._readers = readers

    def is_reachable(self) -> bool:
        """Say whether the database answers."""
        return bool(self._rows(select(func.count()).select_from(tables.meta)))

    def experiment_counts(self, mode: Mode, cohort: CohortName | None) -> Mapping[bool, int]:
        """Return how many experiments were decided: held out (True) and messaged (False)."""
        count = tables.experiment_count.c
        query = (
            select(count.held_out, func.sum(count.experiments))
            .where(count.mode == mode.value)
            .group_by(count.held_out)
        )
        if cohort is not None:
            query = query.where(count.cohort == cohort)
        return {bool(held_out): int(number) for held_out, number in self._rows(query)}

    def combo_counts(self, mode: Mode, cohort: CohortName | None) -> Sequence[ComboCounts]:
        """Return the all-time sums of every combo and group."""
        count = tables.combo_count.c
        query = select(
            count.cohort,
            count.combo_key,
            count.counted_for,
            count.trials,
            count.successes,
            count.sent,
            count.opened,
            count.converted,
            count.value,
        ).where(count.mode == mode.value, count.hour == tables.ALL_HOURS)
        if cohort is not None:
            query = query.where(count.cohort == cohort)
        return [ComboCounts(*row) for row in self._rows(query)]

    def experiment_counts_since(
        self, mode: Mode, cohort: CohortName | None, since: Instant
    ) -> Mapping[bool, int]:
        """Return the same as `experiment_counts` for experiments decided at `since` or later."""
        query = (
            select(_made.held_out, func.count())
            .where(_made.mode == mode.value, _made.decided_at >= since)
            .group_by(_made.held_out)
        )
        if cohort is not None:
            query = query.where(_made.cohort == cohort)
        return {bool(held_out): int(number) for held_out, number in self._rows(query)}

    def combo_counts_since(
        self, mode: Mode, cohort: CohortName | None, since: Instant
    ) -> Sequence[ComboCounts]:
        """Return the same as `combo_counts` for experiments decided at `since` or later.

        Counts from the experiments themselves, by the rule of `domain.bandit.reward`.
        """
        sent = case((_made.state == State.SENT.value, 1), else_=0)
        arrived = _made.reason.is_distinct_from(NOT_REACHED)
        tried = case(((_made.state == State.SENT.value) & arrived, 1), else_=0)
        held = case((_made.state == State.HELD_OUT.value, 1), else_=0)
        converted = case((_made.converted_at.is_not(None), 1), else_=0)
        before = case(
            (
                (_made.state == State.CANCELLED.value)
                & (_made.reason == "converted")
                & _made.converted_at.is_not(None),
                1,
            ),
            else_=0,
        )
        waits = case((_made.state.in_([state.value for state in WAITING]), 1), else_=0)
        opened = case((_made.opened_at.is_not(None), 1), else_=0)
        group = case(
            (_made.held_out, Group.HOLDOUT.value),
            (_made.replaced_by.is_not(None), Group.REPLACED.value),
            (_made.postponed, Group.POSTPONED.value),
            else_=Group.COMBO.value,
        )
        combo = func.coalesce(_made.replaced_by, _made.combo_key)
        query = (
            select(
                _made.cohort,
                combo,
                group,
                func.sum(tried + held + before + waits),
                func.sum((tried + held) * converted + before),
                func.sum(sent),
                func.sum(sent * opened),
                func.sum((sent + held) * converted),
                func.sum(((tried + held) * converted + before) * func.coalesce(_made.value, 0)),
            )
            .where(_made.mode == mode.value, _made.decided_at >= since)
            .group_by(_made.cohort, combo, group)
        )
        if cohort is not None:
            query = query.where(_made.cohort == cohort)
        return [ComboCounts(*row) for row in self._rows(query)]

    def state_counts(self, mode: Mode, cohort: CohortName | None) -> Mapping[tuple[str, str], int]:
        """Return how many deliveries ended in each state and reason.

        What was dropped because it was scheduled in the other mode is told in this one.
        """
        ours = (_made.mode == mode.value) | (_made.reason == Reason.MODE_CHANGED.value)
        query = (
            select(_made.state, func.coalesce(_made.reason, ""), func.count())
            .where(ours)
            .group_by(_made.state, _made.reason)
        )
        if cohort is not None:
            query = query.where(_made.cohort == cohort)
        return {(state, reason): number for state, reason, number in self._rows(query)}

    def replaced_counts(self, mode: Mode, cohort: CohortName | None) -> Mapping[str, int]:
        """Return how many messages were replaced by another, by reason."""
        query = (
            select(_made.replaced_for, func.count())
            .where(_made.mode == mode.value, _made.replaced_by.is_not(None))
            .group_by(_made.replaced_for)
        )
        if cohort is not None:
            query = query.where(_made.cohort == cohort)
        return dict(tuple(row) for row in self._rows(query))

    def answer_counts(
        self, mode: Mode, cohort: CohortName | None
    ) -> Mapping[tuple[str, str], int]:
        """Return what events were answered: status and reason, how often."""
        kept = tables.answer_count.c
        query = (
            select(kept.status, kept.reason, func.sum(kept.answers))
            .where(kept.mode == mode.value)
            .group_by(kept.status, kept.reason)
        )
        if cohort is not None:
            query = query.where(kept.cohort == cohort)
        return {(status, reason): int(number) for status, reason, number in self._rows(query)}

    def experiment(self, experiment_id: ExperimentId) -> ExperimentRecord | None:
        """Return one experiment as it is kept."""
        found = self._rows(select(*_RECORD).where(_made.id == experiment_id))
        return ExperimentRecord(*found[0]) if found else None

    def attempts(self, experiment_id: ExperimentId) -> Sequence[AttemptRecord]:
        """Return every try at the provider, oldest first."""
        return self.attempts_of([experiment_id]).get(experiment_id, [])

    def attempts_of(self, experiment_ids: Sequence[str]) -> Mapping[str, Sequence[AttemptRecord]]:
        """Return every try at the provider of some experiments, oldest first."""
        tried = tables.attempt.c
        query = (
            select(
                tried.experiment_id,
                tried.number,
                tried.call_id,
                tried.started_at,
                tried.ended_at,
                tried.verdict,
                tried.reason,
                tried.status,
                tried.answer,
            )
            .where(tried.experiment_id.in_(experiment_ids))
            .order_by(tried.number)
        )
        found: dict[str, list[AttemptRecord]] = {}
        for experiment_id, *values in self._rows(query):
            found.setdefault(experiment_id, []).append(AttemptRecord(*values))
        return found

    def distribution(self, distribution_id: str) -> DistributionRecord | None:
        """Return the probabilities that an experiment was drawn from."""
        return self.distributions([distribution_id]).get(distribution_id)

    def distributions(self, ids: Sequence[str]) -> Mapping[str, DistributionRecord]:
        """Return the probabilities that some experiments were drawn from."""
        made, kept, space = tables.distribution.c, tables.snapshot.c, tables.combo_space.c
        among = tables.eligible_set.c
        query = (
            select(
                made.id,
                made.shares,
                among.eligible,
                among.refused,
                kept.id,
                kept.policy,
                kept.taken_at,
                space["keys"],
                among.postponed,
                made.context,
                made.eligible_id,
            )
            .join_from(tables.distribution, tables.snapshot, made.snapshot_id == kept.id)
            .join(tables.combo_space, space.digest == kept.combos)
            .join(tables.eligible_set, among.id == made.eligible_id)
            .where(made.id.in_(ids))
        )
        return {row[0]: _distribution(row) for row in self._rows(query)}

    def users_experiments(self, user_id: UserId, limit: int) -> Sequence[ExperimentRecord]:
        """Return a user's experiments, newest first."""
        query = (
            select(*_RECORD)
            .where(_made.user_id == user_id)
            .order_by(desc(_made.decided_at), desc(_made.id))
            .limit(limit)
        )
        return [ExperimentRecord(*row) for row in self._rows(query)]

    def users_events(self, user_id: UserId, limit: int) -> Sequence[KeptEvent]:
        """Return a user's events with what followed from each, newest first."""
        query = (
            select(*KEPT)
            .where(_kept.user_id == user_id)
            .order_by(desc(_kept.received_at), desc(_kept.happened_at))
            .limit(limit)
        )
        return [KeptEvent(*row) for row in self._rows(query)]

    def experiments_events(
        self, user_id: UserId, experiment_id: str, key: str
    ) -> Sequence[KeptEvent]:
        """Return the event of this key and those about the experiment, oldest first."""
        query = (
            select(*KEPT)
            .where(
                _kept.user_id == user_id,
                (_kept.experiment_id == experiment_id) | (_kept.dedup_key == key),
            )
            .order_by(_kept.received_at, _kept.happened_at, _kept.dedup_key)
        )
        return [KeptEvent(*row) for row in self._rows(query)]

    def users_choices(self, user_id: UserId) -> Sequence[ChoiceRecord]:
        """Return a user's consents and opt-outs, newest first."""
        said = tables.choice.c
        query = (
            select(*(said[name] for name in ChoiceRecord.__dataclass_fields__))
            .where(said.user_id == user_id)
            .order_by(desc(said.at))
        )
        return [ChoiceRecord(*row) for row in self._rows(query)]

    def quarantine(self, limit: int) -> Sequence[QuarantineRecord]:
        """Return what was not understood, newest first."""
        kept = tables.quarantine.c
        query = (
            select(kept.id, kept.source, kept.received_at, kept.reason, kept.raw)
            .order_by(desc(kept.id))
            .limit(limit)
        )
        return [QuarantineRecord(*row) for row in self._rows(query)]

    def quarantine_size(self) -> int:
        """Return how much was not understood."""
        return int(self._rows(select(func.count()).select_from(tables.quarantine))[0][0])

    def paused(self) -> Mapping[str, Instant]:
        """Return what is paused, and since when."""
        return {scope: Instant(since) for scope, since in self._rows(select(tables.pause))}

    def failing_channels(self) -> Mapping[str, int]:
        """Return the channels that are not eligible, and their refusals in a row."""
        health = tables.channel_health.c
        query = select(health.channel, health.failures_in_a_row).where(
            health.next_probe_at.is_not(None)
        )
        return dict(tuple(row) for row in self._rows(query))

    def measured(self, mode: Mode) -> Mapping[CohortName, Mapping[str, float]]:
        """Return each cohort's sums of measurement, over all days."""
        kept = tables.measurement_sum.c
        query = select(kept.cohort, kept.name, kept.value).where(
            kept.mode == mode.value, kept.day == tables.ALL_DAYS
        )
        sums: dict[CohortName, dict[str, float]] = {}
        for cohort, name, value in self._rows(query):
            sums.setdefault(CohortName(cohort), {})[name] = value
        return sums

    def frozen(self, mode: Mode) -> Mapping[CohortName, Frozen]:
        """Return the policies that stay where they are, and why."""
        with self._readers.connect() as connection:
            return EvidenceReader(connection).frozen(mode)

    def silences(self) -> Sequence[Silence]:
        """Return the silences of sources that hold trials, oldest first."""
        silent = tables.silence.c
        columns = [silent[name] for name in Silence._fields]
        query = select(*columns).where(silent.filled_at.is_(None)).order_by(silent.since)
        return [Silence(*row) for row in self._rows(query)]

    def learned(self, mode: Mode, cohort: CohortName) -> Learned | None:
        """Return what people want to know of a cohort's newest snapshot."""
        kept = tables.snapshot.c
        query = (
            select(kept.id, kept.taken_at, kept.details)
            .where(kept.mode == mode.value, kept.cohort == cohort)
            .order_by(kept.taken_at.desc(), kept.id.desc())
            .limit(1)
        )
        for id_, taken_at, details in self._rows(query):
            told = msgspec.json.decode(details)
            changes, limited = rows.changes_from(told), bool(told.get("limited"))
            return Learned(SnapshotId(id_), Instant(taken_at), changes, limited)
        return None

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        return ask(self._readers, query)


def ask(readers: Engine, query: Select[Any]) -> Sequence[Any]:
    """Return a question's rows; raise StorageUnavailable where the database does not answer."""
    try:
        with readers.connect() as connection:
            return connection.execute(query).all()
    except DataError:  # asked for what no text of the database can be, such as a NUL
        return ()
    except (OperationalError, PoolTimeout) as error:
        raise StorageUnavailable(
            "The database does not answer now. Nothing is lost; ask again in a moment."
        ) from error


def _distribution(row: Sequence[Any]) -> DistributionRecord:
    id_, shares, eligible, refused, snapshot_id, policy, taken_at, keys, *more = row
    postponed, context, eligible_id = more
    names = msgspec.json.decode(keys)
    return DistributionRecord(
        id=id_,
        snapshot_id=snapshot_id,
        policy=policy,
        snapshot_taken_at=Instant(taken_at),
        propensities={
            names[place]: share
            for place, share in rows.propensities_from(shares, eligible).items()
        },
        refused={
            reason: [names[place] for place in places]
            for reason, places in msgspec.json.decode(refused).items()
        },
        postponed=bool(postponed),
        context=context,
        eligible_id=eligible_id,
        space=names,
    )
