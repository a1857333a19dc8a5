"""What measurement reads: experiments whose window has closed, and what their users did."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, select

from experiment_engine.adapters.storage import rows, statements, tables
from experiment_engine.adapters.storage.watching import WatchingReader
from experiment_engine.application.evidence import Drawn, Logged, Matured, reset_name
from experiment_engine.domain.bandit.reward import Group, contribution, group_of
from experiment_engine.domain.cohorts.combo import DIMENSIONS
from experiment_engine.domain.delivery.experiment import Experiment, Mode
from experiment_engine.domain.identifiers import (
    CohortName,
    ComboKey,
    DistributionId,
    EventName,
    ExperimentId,
    UserId,
)
from experiment_engine.domain.moments import Instant

_made = tables.experiment.c
_EXPERIMENT = [_made[name.strip()] for name in statements.EXPERIMENT_COLUMNS.split(",")]


@dataclass(frozen=True)
class ProgressStatements:
    """How far work has come that goes through a table in steps."""

    core: Connection

    def progress(self, name: str) -> str:
        """Return how far a piece of work has come; '' at its beginning."""
        progress = tables.progress.c
        found = self.core.execute(select(progress.position).where(progress.name == name)).scalar()
        return found or ""

    def resets(self, mode: Mode, cohort: CohortName) -> Mapping[ComboKey, int]:
        """Return the combos that learn anew, each with the hour of the trigger from which on."""
        progress, prefix = tables.progress.c, reset_name(mode, cohort, "")
        query = select(progress.name, progress.position).where(
            progress.name.startswith(prefix, autoescape=True)
        )
        return {
            ComboKey(name.removeprefix(prefix)): int(hour)
            for name, hour in self.core.execute(query)
        }


@dataclass(frozen=True)
class MeasuringStatements(ProgressStatements, WatchingReader):
    """Experiments whose window has closed, what they were drawn from, and their users."""

    def matured(
        self, mode: Mode, cohort: CohortName, after: ExperimentId, until: Instant, limit: int
    ) -> Sequence[Matured]:
        """Return the next experiments that were decided before `until`, by their ids."""
        query = _decided_before(until, mode, cohort).where(_made.id > after).limit(limit)
        return [
            Matured(_experiment(row), row.propensity, DistributionId(row.distribution_id))
            for row in self.core.execute(query)
        ]

    def drawn_from(self, ids: Collection[DistributionId]) -> Mapping[DistributionId, Drawn]:
        """Return the probabilities of these distributions."""
        made, kept, space = tables.distribution.c, tables.snapshot.c, tables.combo_space.c
        among = tables.eligible_set.c
        query = (
            select(made.id, made.shares, among.eligible, space["keys"])
            .join_from(tables.distribution, tables.snapshot, made.snapshot_id == kept.id)
            .join(tables.combo_space, space.digest == kept.combos)
            .join(tables.eligible_set, among.id == made.eligible_id)
            .where(made.id.in_(ids))
        )
        spaces: dict[str, list[list[str]]] = {}
        found: dict[DistributionId, Drawn] = {}
        for id_, shares, eligible, keys in self.core.execute(query):
            if keys not in spaces:
                spaces[keys] = [key.split("|") for key in msgspec.json.decode(keys)]
            found[DistributionId(id_)] = _drawn(
                rows.propensities_from(shares, eligible), spaces[keys]
            )
        return found

    def logged(
        self, mode: Mode, cohort: CohortName, after: ExperimentId, until: Instant, limit: int
    ) -> Sequence[Logged]:
        """Return the next experiments that were decided before `until`, by their ids."""
        query = _decided_before(until, mode, cohort).where(_made.id > after).limit(limit)
        found = self.core.execute(query).all()
        eligible = self._eligible({row.distribution_id for row in found})
        return [_logged(row, eligible[row.distribution_id]) for row in found]

    def _eligible(self, ids: Collection[str]) -> Mapping[str, tuple[ComboKey, ...]]:
        made, kept, space = tables.distribution.c, tables.snapshot.c, tables.combo_space.c
        among = tables.eligible_set.c
        query = (
            select(made.id, among.eligible, space["keys"])
            .join_from(tables.distribution, tables.snapshot, made.snapshot_id == kept.id)
            .join(tables.combo_space, space.digest == kept.combos)
            .join(tables.eligible_set, among.id == made.eligible_id)
            .where(made.id.in_(ids))
        )
        named: dict[tuple[str, str], tuple[ComboKey, ...]] = {}
        found: dict[str, tuple[ComboKey, ...]] = {}
        for id_, eligible, keys in self.core.execute(query):
            if (eligible, keys) not in named:
                names = msgspec.json.decode(keys)
                places = msgspec.json.decode(eligible)
                named[eligible, keys] = tuple(ComboKey(names[place]) for place in places)
            found[id_] = named[eligible, keys]
        return found

    def entered(
        self, mode: Mode, cohort: CohortName, user_ids: Collection[UserId]
    ) -> frozenset[UserId]:
        """Return the users among these whose outcome in the cohort is known already."""
        known = tables.user_outcome.c
        found = self.core.execute(
            select(known.user_id).where(
                known.mode == mode.value, known.cohort == cohort, known.user_id.in_(user_ids)
            )
        )
        return frozenset(UserId(user_id) for (user_id,) in found)

    def reached(
        self, goal: EventName, user_ids: Collection[UserId]
    ) -> Mapping[UserId, Sequence[tuple[Instant, int]]]:
        """Return when each of these users reached the goal, and what it was worth."""
        kept = tables.goal_reached.c
        found = self.core.execute(
            select(kept.user_id, kept.at, kept.value)
            .where(kept.goal == goal, kept.user_id.in_(user_ids))
            .order_by(kept.user_id, kept.at)
        )
        moments: dict[UserId, list[tuple[Instant, int]]] = {}
        for user_id, at, value in found:
            moments.setdefault(UserId(user_id), []).append((Instant(at), int(value or 0)))
        return moments


def _decided_before(until: Instant, mode: Mode, cohort: CohortName) -> Select[Any]:
    return (
        select(*_EXPERIMENT, _made.propensity, _made.distribution_id, _made.context)
        .where(
            _made.id < rows.first_id_at(until),  # ids sort by the time of the decision
            _made.mode == mode.value,
            _made.cohort == cohort,
        )
        .order_by(_made.id)
    )


def _experiment(row: Row[Any]) -> Experiment:
    return rows.experiment_from(tuple(row)[: len(_EXPERIMENT)])


def _logged(row: Row[Any], eligible: Sequence[ComboKey]) -> Logged:
    made = _experiment(row)
    counts = contribution(made)
    return Logged(
        made.id,
        made.triggered_at,
        made.combo_key,
        row.propensity,
        eligible,
        msgspec.json.decode(row.context),
        made.converted_at if counts.successes else None,
        counts.trials == 1 and group_of(made) is Group.COMBO,
    )


def _drawn(propensities: Mapping[int, float], space: Sequence[Sequence[str]]) -> Drawn:
    shares: dict[str, dict[str, float]] = {dimension: {} for dimension in DIMENSIONS}
    for place, share in propensities.items():
        for dimension, level in zip(DIMENSIONS, space[place], strict=True):
            of_dimension = shares[dimension]
            of_dimension[level] = of_dimension.get(level, 0.0) + share
    return Drawn(len(propensities), shares)
