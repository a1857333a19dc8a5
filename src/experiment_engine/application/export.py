"""What `export` gives away: the columns of experiments and events, and their rows page by page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from experiment_engine.domain.moments import Instant

Kind = Literal["text", "truth", "whole", "number", "time"]
What = Literal["experiments", "events"]
Row = Sequence[object]
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an exported table."""

    name: str
    kind: Kind
    personal: bool = False  # says who somebody is, or what somebody did


EXPERIMENTS = (
    Column("experiment_id", "text"),
    Column("user_id", "text", personal=True),
    Column("cohort", "text"),
    Column("combo_key", "text"),
    Column("channel", "text"),
    Column("mode", "text"),
    Column("held_out", "truth"),
    Column("manual", "truth"),
    Column("postponed", "truth"),
    Column("triggered_at", "time"),
    Column("decided_at", "time"),
    Column("scheduled_for", "time"),
    Column("window_ends_at", "time"),
    Column("status", "text"),
    Column("reason", "text"),
    Column("placed_at", "time"),  # when it was sent, or would have been
    Column("opened_at", "time"),
    Column("converted_at", "time"),
    Column("converted_by", "text"),
    Column("value_thousandths", "whole"),
    Column("attempts", "whole"),
    Column("propensity", "number"),
    Column("policy_state", "text"),
    Column("distribution", "text"),
    Column("seed", "whole"),
    Column("zone", "text"),
    Column("language", "text"),
    Column("title", "text", personal=True),
    Column("body", "text", personal=True),
    Column("context", "text", personal=True),  # JSON
)
EVENTS = (
    Column("user_id", "text", personal=True),
    Column("event_key", "text"),
    Column("source", "text"),
    Column("name", "text"),
    Column("happened_at", "time"),
    Column("received_at", "time"),
    Column("status", "text"),
    Column("reason", "text"),
    Column("experiment_id", "text"),
)
RAW = Column("raw", "text", personal=True)  # the event as it came

COLUMNS = {"experiments": EXPERIMENTS, "events": EVENTS}
_AT = {"experiments": "decided_at", "events": "received_at"}

AT_ONCE = 2_000  # rows of a page: each is read by itself, so that nobody waits for an export


class Ledger(Protocol):
    """Reads pages in the order of a key; each page is a view of its own."""

    def number(self, what: What) -> int | None:
        """Return about how many rows there are, if that is known at once."""

    def page(self, what: What, after: Key | None, limit: int, *, raw: bool) -> list[Row]:
        """Return the next rows after a key, with their columns in order."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are exported."""

    what: What
    since: Instant
    until: Instant  # not included
    cohort: str | None = None
    raw: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return what each row has."""
        return (*COLUMNS[self.what], *((RAW,) if self.raw else ()))


def rows_of(wanted: Wanted, ledger: Ledger, tell: Callable[[int], None]) -> Iterator[Row]:
    """Walk through the rows that are wanted, and tell how many were looked at."""
    names = [column.name for column in wanted.columns]
    at = names.index(_AT[wanted.what])
    cohort = names.index("cohort") if wanted.cohort is not None else None
    keys = (0, 1) if wanted.what == "events" else (0,)
    after: Key | None = None
    looked_at = 0
    while page := ledger.page(wanted.what, after, AT_ONCE, raw=wanted.raw):
        for row in page:
            moment = row[at]
            is_in_time = isinstance(moment, int) and wanted.since <= moment < wanted.until
            if is_in_time and (cohort is None or row[cohort] == wanted.cohort):
                yield row
        looked_at += len(page)
        tell(looked_at)
        after = tuple(str(page[-1][place]) for place in keys)
