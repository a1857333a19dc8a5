"""Live events: what comes in, as it came, and what was not understood."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

import msgspec
from starlette.concurrency import run_in_threadpool

from experiment_engine.application.report_records import KeptEvent
from experiment_engine.domain.events import Source
from experiment_engine.domain.moments import SECOND, Instant
from experiment_engine.entrypoints.dashboard import labels
from experiment_engine.entrypoints.dashboard.pages import Asked, NoSuchPage, Page, View
from experiment_engine.entrypoints.http.access import Scope
from experiment_engine.entrypoints.http.partners import PARTNERS

_LISTED = 60
_QUARANTINED = 50
_LOOK_EVERY = 1.0  # seconds
_LOOKS = 600  # after which the browser has to come again, with a session that still holds
_OVERLAP = 3 * SECOND  # events of one moment may become visible a little later than others

_FILTERS = ("source", "name", "status")
_TRY_AS: Mapping[str, Sequence[str]] = {
    source: [partner.name for partner in PARTNERS if partner.source == source] for source in Source
} | {"clevertap": ("opened", "converted", "opted-out")}


def view(asked: Asked) -> View:
    """Return the newest events that fit the filter, one of them whole, or the quarantine."""
    engine = asked.engine
    quarantine = asked.query("show") == "quarantine"
    if quarantine and not asked.visitor.may(Scope.ADMIN):  # as at /api/quarantine
        raise NoSuchPage("The quarantine is shown to tokens that may change things.")
    chosen = _chosen(asked)
    return {
        "show": "quarantine" if quarantine else "events",
        "chosen": chosen,
        "events": [] if quarantine else _newest(asked),
        "raw": _raw(asked) if asked.query("key") else None,
        "quarantine": engine.report.quarantine(_QUARANTINED) if quarantine else None,
        "quarantined": engine.report.reading.quarantine_size(),
    }


def drawn(_made: View, asked: Asked) -> View:
    """Return what the template needs besides."""
    rules = asked.engine.rules
    names: set[str] = {"opened", "converted", "opted_out", "opted_in", *rules.opt_out_events}
    names |= {cohort.trigger.event for cohort in rules.cohorts.values()}
    names |= {cohort.goal.event for cohort in rules.cohorts.values()}
    return {
        "names": sorted(names),
        "statuses": labels.STATUSES,
        "sources": list(Source),
        "try_as": _TRY_AS,
        "still": asked.query("still"),
        "released": asked.query("released"),
        "stream": str(asked.request.url.query),
    }


def zone(asked: Asked) -> str:
    """Return the zone in which the list tells the time."""
    return asked.engine.rules.timezone


async def tail(asked: Asked, row: Callable[[KeptEvent], str]) -> AsyncIterator[str]:
    """Send each new event as a row, until the browser goes away."""
    since = Instant(asked.engine.clock.now() - _OVERLAP)
    newest = await run_in_threadpool(partial(_newest, asked, since))
    told: deque[tuple[str, str]] = deque(((e.user_id, e.key) for e in newest), 10 * _LISTED)
    yield "retry: 2000\n\n"
    for _ in range(_LOOKS):
        await asyncio.sleep(_LOOK_EVERY)
        if asked.running.stopping.is_set() or await asked.request.is_disconnected():
            return
        for event in reversed(await run_in_threadpool(partial(_newest, asked, since))):
            if (event.user_id, event.key) not in told:
                told.append((event.user_id, event.key))
                since = max(since, Instant(event.received_at - _OVERLAP))
                yield _message(row(event))
        yield ": here\n\n"


def _chosen(asked: Asked) -> Mapping[str, str]:
    return {name: asked.query(name) for name in _FILTERS if asked.query(name)}


def _newest(asked: Asked, since: Instant | None = None) -> Sequence[KeptEvent]:
    chosen = _chosen(asked)
    return asked.engine.pages.reading.latest_events(
        _LISTED,
        source=chosen.get("source"),
        name=chosen.get("name"),
        status=chosen.get("status"),
        since=since,
    )


def _message(text: str) -> str:
    return "".join(f"data: {line}\n" for line in text.splitlines() if line) + "\n"


def _raw(asked: Asked) -> View:
    found = asked.engine.pages.reading.raw_event(asked.query("user"), asked.query("key"))
    if found is None:
        raise NoSuchPage("This event is not kept any more.")
    event, raw = found
    return {"event": event, "text": _pretty(raw)}


def _pretty(raw: bytes) -> str:
    try:
        return msgspec.json.format(raw, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw.decode(errors="replace")


PAGE = Page("/events", "/events.json", "Live events", "events.html", view, drawn)
