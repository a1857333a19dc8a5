"""What happened just now: decisions, messages and feedback in one list, newest first."""

from collections.abc import Mapping
from dataclasses import dataclass

from experiment_engine.application.page_records import Recent
from experiment_engine.application.report_records import KeptEvent
from experiment_engine.domain.identifiers import CohortName
from experiment_engine.domain.moments import Instant
from experiment_engine.entrypoints.dashboard.pages import Asked

_AMONG = 200  # newest experiments, and events, that are looked through

_KINDS = {"opened": "opened", "converted": "converted"}


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to one experiment."""

    at: Instant
    kind: str
    user_id: str
    combo_key: str
    due_at: Instant | None = None
    title: str = ""
    language: str = ""


def latest(asked: Asked, cohort: str, limit: int) -> list[Happening]:
    """Return the newest things that happened in a cohort."""
    reading = asked.engine.pages.reading
    newest = reading.newest_experiments(_AMONG, CohortName(cohort))
    told = [e for e in reading.latest_events(_AMONG, status="recorded") if e.experiment_id]
    known = reading.experiments_named([e.experiment_id for e in told if e.experiment_id])
    found = [_of_experiment(made) for made in newest]
    found += [_of_feedback(event, known) for event in told if _belongs(event, known, cohort)]
    return sorted(found, key=lambda happening: -happening.at)[:limit]


def _belongs(event: KeptEvent, known: Mapping[str, Recent], cohort: str) -> bool:
    made = known.get(event.experiment_id or "")
    return made is not None and made.cohort == cohort


def _of_experiment(made: Recent) -> Happening:
    if made.held_out:
        return Happening(made.decided_at, "held out", made.user_id, made.combo_key)
    if made.state == "sent" and made.placed_at is not None:
        return Happening(
            made.placed_at,
            "sent",
            made.user_id,
            made.combo_key,
            title=made.title,
            language=made.language,
        )
    if made.state == "scheduled":
        return Happening(
            made.decided_at, "scheduled", made.user_id, made.combo_key, due_at=made.due_at
        )
    return Happening(made.decided_at, made.state, made.user_id, made.combo_key)


def _of_feedback(event: KeptEvent, known: Mapping[str, Recent]) -> Happening:
    made = known[event.experiment_id or ""]
    kind = _KINDS.get(event.name, "converted")
    return Happening(event.received_at, kind, made.user_id, made.combo_key)
