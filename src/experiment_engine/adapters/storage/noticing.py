"""What telling analytics reads: experiments by their decision, and by when they were taken."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, or_, select

from experiment_engine.adapters.storage import rows, statements, tables
from experiment_engine.adapters.storage.measuring import ProgressStatements
from experiment_engine.application.evidence import Noticed
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.identifiers import ExperimentId
from experiment_engine.domain.moments import Instant

_made, _tried = tables.experiment.c, tables.attempt.c
_COLUMNS = [_made[name.strip()] for name in statements.EXPERIMENT_COLUMNS.split(",")]
_TOLD = [_made.propensity, _made.language]


class NoticingStatements(ProgressStatements):
    """Experiments in the order in which they were decided, and in which providers took them."""

    def begin_at(self, at: Instant) -> str:
        """Return the smallest id that an experiment of this moment can have."""
        return rows.first_id_at(at)

    def decided(
        self, mode: Mode, after: ExperimentId, until: Instant, limit: int
    ) -> Sequence[Noticed]:
        """Return the next experiments that were decided before `until`, by their ids."""
        query = (
            select(*_COLUMNS, *_TOLD, _made.decided_at.label("at"))
            .where(_made.id > after, _made.id < rows.first_id_at(until), _made.mode == mode.value)
            .order_by(_made.id)
            .limit(limit)
        )
        return [_noticed(row) for row in self.core.execute(query)]

    def accepted(
        self, mode: Mode, after: tuple[Instant, ExperimentId], until: Instant, limit: int
    ) -> Sequence[Noticed]:
        """Return the next ones that a provider took before `until`, by when it did, and id."""
        since, last = after
        beyond = and_(_tried.ended_at == since, _tried.experiment_id > last)
        query = (
            select(*_COLUMNS, *_TOLD, _tried.ended_at.label("at"))
            .join_from(
                tables.attempt,
                tables.experiment,
                (_made.id == _tried.experiment_id) & (_made.user_id == _tried.user_id),
            )
            .where(
                _tried.ended_at >= since,
                _tried.ended_at < until,
                or_(_tried.ended_at > since, beyond),
                _tried.verdict == Verdict.ACCEPTED.value,
                _made.mode == mode.value,
            )
            .order_by(_tried.ended_at, _tried.experiment_id)
            .limit(limit)
        )
        return [_noticed(row) for row in self.core.execute(query)]


def _noticed(row: Sequence[Any]) -> Noticed:
    made = rows.experiment_from(row[: len(_COLUMNS)])
    propensity, language, at = row[len(_COLUMNS) :]
    return Noticed(made, propensity, language, Instant(at))
