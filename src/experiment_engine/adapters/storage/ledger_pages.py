"""The ledger page by page, for exports: each page is a short statement of its own."""

from typing import Any

from sqlalchemy import ColumnElement, Engine, func, select, tuple_

from experiment_engine.adapters.storage import tables
from experiment_engine.application.export import Key, Row, What

_made, _event = tables.experiment.c, tables.event.c
_EXPERIMENT = (
    _made.id,
    _made.user_id,
    _made.cohort,
    _made.combo_key,
    _made.channel,
    _made.mode,
    _made.held_out,
    _made.manual,
    _made.postponed,
    _made.triggered_at,
    _made.decided_at,
    _made.due_at,
    _made.window_ends_at,
    _made.state,
    _made.reason,
    _made.placed_at,
    _made.opened_at,
    _made.converted_at,
    _made.converted_by,
    _made.value,
    _made.attempts,
    _made.propensity,
    _made.snapshot_id,
    _made.distribution_id,
    _made.seed,
    _made.zone,
    _made.language,
    _made.title,
    _made.body,
    _made.context,
)
_EVENT = (
    _event.user_id,
    _event.dedup_key,
    _event.source,
    _event.name,
    _event.happened_at,
    _event.received_at,
    _event.status,
    _event.reason,
    _event.experiment_id,
)
_KEYS: dict[What, tuple[ColumnElement[Any], ...]] = {
    "experiments": (_made.id,),
    "events": (_event.user_id, _event.dedup_key),
}
_COLUMNS: dict[What, tuple[ColumnElement[Any], ...]] = {
    "experiments": _EXPERIMENT,
    "events": _EVENT,
}


class LedgerPages:
    """Reads on connections that cannot write."""

    def __init__(self, readers: Engine) -> None:
        self._readers = readers

    def number(self, what: What) -> int | None:
        """Return how many experiments were decided; events are not counted anywhere."""
        if what == "events":
            return None
        query = select(func.sum(tables.experiment_count.c.experiments))
        with self._readers.connect() as connection:
            return int(connection.execute(query).scalar_one() or 0)

    def page(self, what: What, after: Key | None, limit: int, *, raw: bool) -> list[Row]:
        """Return the next rows in the order of their key."""
        keys = _KEYS[what]
        query = select(*_COLUMNS[what], *((_event.raw,) if raw else ()))
        if after is not None:
            query = query.where(
                keys[0] > after[0] if len(keys) == 1 else tuple_(*keys) > tuple_(*after)
            )
        with self._readers.connect() as connection:
            found = connection.execute(query.order_by(*keys).limit(limit))
            return [tuple(map(_plain, row)) for row in found]


def _plain(value: object) -> object:
    """Return bytes as text; what is no UTF-8 in it is escaped."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
