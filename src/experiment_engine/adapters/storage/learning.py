"""What learning and measurement write, and the leases under which they do: any database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, or_, select, tuple_, update

from experiment_engine.adapters.storage import rows, tables
from experiment_engine.adapters.storage.measuring import ProgressStatements
from experiment_engine.adapters.storage.sums import add_up, insert_or_leave
from experiment_engine.adapters.storage.watching import WatchingStatements
from experiment_engine.application.evidence import Frozen, Outcome
from experiment_engine.domain.bandit.snapshot import Snapshot
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.moments import HOUR, Duration, Instant

MODELS_KEPT = Duration(2 * HOUR)  # so that a policy can go back to a good one

_KEY = [column.name for column in tables.combo_count.primary_key.columns]
_SUMS = [column.name for column in tables.combo_count.columns if column.name not in _KEY]


@dataclass(frozen=True)
class LearningStatements(ProgressStatements, WatchingStatements):
    """Leases, frozen policies and the sums of measurement, in one transaction."""

    def take_lease(self, name: str, holder: str, now: Instant, span: Duration) -> bool:
        """Take or keep a lease until `now + span`; return whether it is the holder's.

        A lease is no lock: who writes under one does so in the transaction that took it.
        """
        lease = tables.lease
        free = (lease.c.until < now) | (lease.c.holder == holder)
        taken = self.core.execute(
            update(lease).where(lease.c.name == name, free).values(holder=holder, until=now + span)
        )
        if taken.rowcount:
            return True
        row = {"name": name, "holder": holder, "until": now + span}
        return insert_or_leave(self.core, lease, [row]) == 1

    def add_snapshot(self, mode: Mode, cohort: Cohort, snapshot: Snapshot) -> None:
        """Keep a snapshot with its model; models of much older ones are let go of.

        What was decided on them can still be explained and drawn again: that needs only their
        distributions.
        """
        digest = rows.combos_digest(cohort)
        keys = rows.to_json([combo.key for combo in cohort.space.combos])
        insert_or_leave(self.core, tables.combo_space, [{"digest": digest, "keys": keys}])
        kept = tables.snapshot
        self.core.execute(
            update(kept)
            .where(
                kept.c.mode == mode.value,
                kept.c.cohort == cohort.name,
                kept.c.taken_at < snapshot.taken_at - MODELS_KEPT,
                kept.c.model.is_not(None),
            )
            .values(model=None)
        )
        self.core.execute(
            kept.insert().values(
                id=snapshot.id,
                cohort=cohort.name,
                mode=mode.value,
                policy=cohort.policy.name,
                taken_at=snapshot.taken_at,
                combos=digest,
                statistics=rows.statistics_to_json(snapshot.statistics),
                model=rows.arrays_to_bytes(rows.snapshot_arrays(snapshot)),
                details=rows.details_to_json(snapshot),
            )
        )

    def freeze(self, mode: Mode, cohort: CohortName, frozen: Frozen) -> None:
        """Keep a cohort's policy at a snapshot; one that is frozen already stays as it is."""
        row = {
            "mode": mode.value,
            "cohort": cohort,
            "since": frozen.since,
            "snapshot_id": frozen.snapshot_id,
            "reason": frozen.reason,
        }
        insert_or_leave(self.core, tables.freeze, [row])

    def unfreeze(self, mode: Mode, cohort: CohortName) -> bool:
        """Let a cohort's policy learn again; return whether it was frozen."""
        freeze = tables.freeze
        gone = self.core.execute(
            delete(freeze).where(freeze.c.mode == mode.value, freeze.c.cohort == cohort)
        )
        return gone.rowcount > 0

    def set_progress(self, name: str, position: str) -> None:
        """Remember how far a piece of work has come."""
        progress = tables.progress
        self.core.execute(delete(progress).where(progress.c.name == name))
        self.core.execute(progress.insert().values(name=name, position=position))

    def add_outcomes(self, mode: Mode, cohort: CohortName, outcomes: Sequence[Outcome]) -> None:
        """Keep what came of users' first triggers."""
        insert_or_leave(
            self.core,
            tables.user_outcome,
            [{"mode": mode.value, "cohort": cohort, **outcome._asdict()} for outcome in outcomes],
        )

    def add_measured(
        self, mode: Mode, cohort: CohortName, sums: Mapping[tuple[int, str], float]
    ) -> None:
        """Add to the sums of measurement, by day and name, and to those of all days."""
        every: dict[tuple[int, str], float] = dict(sums)
        for (_, name), value in sums.items():
            every[tables.ALL_DAYS, name] = every.get((tables.ALL_DAYS, name), 0.0) + value
        add_up(
            self.core,
            tables.measurement_sum,
            [
                {"mode": mode.value, "cohort": cohort, "day": day, "name": name, "value": value}
                for (day, name), value in every.items()
            ],
        )

    def fold_counts(
        self, mode: Mode, cohort: CohortName, *, span: int, before: int, limit: int
    ) -> int:
        """Move at most `limit` rows older than hour `before` to the first hour of their span.

        Spans of `span` hours count from 1970. Returns how many rows were moved.
        """
        count = tables.combo_count.c
        mine = (
            count.mode == mode.value,
            count.cohort == cohort,
            # Into no span that a combo's learning begins in: it would go with what is forgotten.
            *(
                or_(count.combo_key != key, count.hour < begins, _start(count, span) >= begins)
                for key, begins in self.resets(mode, cohort).items()
            ),
        )
        name = f"fold:{span}:{mode.value}:{cohort}"
        done = int(self.progress(name) or 0)
        hour = self.core.execute(
            select(func.min(count.hour)).where(
                *mine, count.hour >= done, count.hour < before, count.hour % span != 0
            )
        ).scalar()
        if hour is None:
            return 0
        moved = self._take_rows((*mine, count.hour == hour), limit)
        add_up(self.core, tables.combo_count, _gathered(moved, hour - hour % span))
        self.set_progress(name, str(hour))
        return len(moved)

    def _take_rows(self, mine: Sequence[Any], limit: int) -> list[dict[str, Any]]:
        table = tables.combo_count
        key = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(*mine).limit(limit)
        taken = self.core.execute(delete(table).where(key.in_(some)).returning(*table.columns))
        return [dict(row) for row in taken.mappings()]


def _start(count: Any, span: int) -> Any:
    return count.hour - count.hour % span


def _gathered(rows: Sequence[Mapping[str, Any]], hour: int) -> list[Mapping[str, object]]:
    sums: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in rows:
        moved = {**row, "hour": hour}
        key = tuple(moved[name] for name in _KEY)
        known = sums.setdefault(key, {**moved, **dict.fromkeys(_SUMS, 0)})
        for name in _SUMS:
            known[name] += row[name]
    return list(sums.values())
