"""The first page: three steps to the first message, and afterwards a card for every cohort."""

from dataclasses import dataclass

import msgspec

from experiment_engine.application.cohort_results import CohortResults
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.entrypoints.dashboard import charts
from experiment_engine.entrypoints.dashboard.needs import needs
from experiment_engine.entrypoints.dashboard.pages import Asked, Page, View
from experiment_engine.entrypoints.dashboard.sentence import Piece, summary


@dataclass(frozen=True, slots=True)
class Card:
    """One cohort, briefly."""

    cohort: str
    results: CohortResults
    summary: list[Piece]


def view(asked: Asked) -> View:
    """Return the state of everything, briefly."""
    engine = asked.engine
    newest = engine.pages.reading.latest_events(1)
    found = [engine.pages.results(name) for name in engine.rules.cohorts]
    started = bool(newest) or any(results.messaged for results in found)
    return {
        "started": started,
        "heard_at": newest[0].received_at if newest else None,
        "cards": [Card(results.cohort, results, summary(results)) for results in found],
        "needs": needs(asked, newest[0].received_at if newest else None) if started else [],
        "live": engine.mode is Mode.LIVE,
        "combos": sum(len(cohort.space) for cohort in engine.rules.cohorts.values()),
        "schema": engine.pages.reading.schema_revision(),
        "checks": asked.running.readiness()["checks"],
    }


def drawn(made: View, asked: Asked) -> View:
    """Return the small lines, and the command to try."""
    first = min(asked.engine.rules.cohorts.values(), key=lambda c: c.trigger.count)
    return {
        "sparks": {card.cohort: _spark(card.results) for card in made["cards"]},
        "address": _address(asked),
        "needs_secret": asked.running.webhook_asks_for_secret,
        "curl": _curl(first, asked),
    }


def listening(asked: Asked) -> View:
    """Return whether an event has come, for the line that waits for it."""
    newest = asked.engine.pages.reading.latest_events(1)
    return {"event": newest[0] if newest else None}


def _spark(results: CohortResults) -> str | None:
    converted = [day.converted for day in results.days]
    return charts.spark(
        charts.smoothed([b - a for a, b in zip([0, *converted], converted, strict=False)])
    )


def _address(asked: Asked) -> str:
    host = asked.request.headers.get("host", "localhost:3001")
    return f"{asked.request.url.scheme}://{host}"


def _curl(cohort: Cohort, asked: Asked) -> str:
    """Return a command that sends an event which starts the cohort."""
    secret = asked.running.webhook_asks_for_secret
    header = '  -H "Authorization: Bearer $AMPLITUDE_WEBHOOK_SECRET" \\\n' if secret else ""
    event = {"user_id": "usr_123", "event_type": cohort.trigger.event, "insert_id": "first-1"}
    body = msgspec.json.encode(
        [event | {"insert_id": f"first-{n + 1}"} for n in range(cohort.trigger.count)]
    )
    return (
        f"curl -X POST {_address(asked)}/webhook/amplitude \\\n{header}"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d '{body.decode()}'"
    )


PAGE = Page("/", "/overview.json", "Overview", "overview.html", view, drawn)
FRAGMENTS = (Page("/overview/listening", "", "Overview", "_listening.html", listening),)
