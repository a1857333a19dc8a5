"""What is answered for one event (CONTRACT 5)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from experiment_engine.domain.identifiers import CohortName, ExperimentId
from experiment_engine.domain.moments import Instant, iso
from experiment_engine.domain.reasons import Reason

Status = Literal[
    "scheduled",
    "holdout",
    "recorded",
    "cancelled",
    "duplicate",
    "ignored",
    "quarantined",
]

_PRECEDENCE: dict[str, int] = {
    status: place
    for place, status in enumerate(
        (
            "scheduled",
            "holdout",
            "recorded",
            "cancelled",
            "duplicate",
            "ignored",
            "quarantined",
        )
    )
}


class Result(msgspec.Struct, omit_defaults=True):
    """The answer for one event; what does not apply is left out."""

    status: Status
    reason: str | None = None
    experiment_id: ExperimentId | None = None
    scheduled_for: str | None = None
    cohort: CohortName | None = None
    experiment_ids: Sequence[ExperimentId] = ()  # every experiment touched, if more than one
    results: Sequence["Result"] = ()  # one per cohort, if the event concerned more than one


def leaves(results: Iterable[Result]) -> Iterator[Result]:
    """Go through the answers one by one: of an event about several cohorts, each cohort's."""
    for result in results:
        yield from result.results or (result,)


def ignored(
    reason: Reason,
    *,
    cohort: CohortName | None = None,
    experiment_id: ExperimentId | None = None,
) -> Result:
    """Answer that nothing follows, and why."""
    return Result("ignored", reason=reason, cohort=cohort, experiment_id=experiment_id)


def scheduled(
    cohort: CohortName, experiment_id: ExperimentId, due: Instant, *, held_out: bool
) -> Result:
    """Answer that an experiment was decided."""
    if held_out:
        return Result("holdout", experiment_id=experiment_id, cohort=cohort)
    return Result("scheduled", experiment_id=experiment_id, scheduled_for=iso(due), cohort=cohort)


def merged(results: Sequence[Result]) -> Result:
    """Return one answer for an event that concerned several cohorts: the weightiest leads."""
    if len(results) == 1:
        return results[0]
    first = min(results, key=lambda result: _PRECEDENCE[result.status])
    touched = dict.fromkeys(
        touched_id
        for result in results
        for touched_id in (*result.experiment_ids, result.experiment_id)
        if touched_id is not None and result.status != "ignored"
    )
    return msgspec.structs.replace(
        first,
        experiment_ids=tuple(touched) if len(touched) > 1 else first.experiment_ids,
        results=tuple(results),
    )
