"""The log lines that users rely on (CONTRACT 6): no secret, no message text, no user id."""

from collections.abc import Iterable, Iterator, Mapping

from experiment_engine.domain.delivery.experiment import Decided, Experiment, State
from experiment_engine.domain.identifiers import ExperimentId
from experiment_engine.domain.measurement.silence import Silence
from experiment_engine.domain.moments import iso

Line = Mapping[str, object]

_NEXT = {
    State.FAILED: "the message is not sent; the provider refused it for good",
    State.UNKNOWN: "shown as unknown and never sent again; only proof of delivery settles it",
}


def experiment_lines(
    decided: Mapping[ExperimentId, tuple[Experiment, Decided]],
) -> Iterator[Line]:
    """Tell each new experiment."""
    for experiment, fixed in decided.values():
        yield {
            "event": "[EXPERIMENT]",
            "level": "info",
            "experiment_id": experiment.id,
            "combo_key": experiment.combo_key,
            "cohort": experiment.cohort,
            "propensity": round(fixed.propensity, 6),
            "scheduled_for": iso(experiment.due_at),
            "held_out": experiment.held_out,
            "manual": experiment.manual,
        }


def move_lines(experiments: Iterable[Experiment], *, dry_run: bool) -> Iterator[Line]:
    """Tell what became of deliveries; what was only claimed is told with its answer."""
    for experiment in experiments:
        if experiment.state is not State.CLAIMED:
            yield _move_line(experiment, dry_run=dry_run)


def silence_lines(began: Iterable[Silence], ended: Iterable[Silence]) -> Iterator[Line]:
    """Tell which sources fell silent, and which are heard again."""
    for silence in began:
        yield {
            "event": "[ERROR]",
            "level": "error",
            "reason": "a source is silent",
            "source": silence.source,
            "told": silence.told,
            "since": iso(silence.since),
            "next": "trials whose conversions it tells are held, not failed; look at the source",
        }
    for silence in ended:
        yield {
            "event": "a source is heard again",
            "level": "info",
            "source": silence.source,
            "told": silence.told,
            "since": iso(silence.since),
            "until": iso(silence.until or silence.since),
            "next": "late events fill the gap; `experiment-engine reconcile` fetches them",
        }


def _move_line(experiment: Experiment, *, dry_run: bool) -> Line:
    known = {
        "experiment_id": experiment.id,
        "combo_key": experiment.combo_key,
        "cohort": experiment.cohort,
    }
    if experiment.replaced_by is not None:
        known |= {"sent_as": experiment.replaced_by, "because": experiment.replaced_for or ""}
    if experiment.state is State.SENT:
        attempts = {"channel": experiment.channel, "attempt": experiment.attempts}
        return {"event": "[SENT]", "level": "info", **known, **attempts, "dry_run": dry_run}
    if experiment.state in _NEXT:
        following = _NEXT[experiment.state]
        reason = {"reason": experiment.reason, "next": following}
        return {"event": "[ERROR]", "level": "error", **known, **reason}
    if experiment.state is State.SCHEDULED and not experiment.postponed:
        following = f"tried again at {iso(experiment.due_at)}"
        reason = {"reason": experiment.reason, "next": following}
        return {"event": "[ERROR]", "level": "error", **known, **reason}
    return {
        "event": "[DELIVERY]",
        "level": "info",
        **known,
        "state": experiment.state.value,
        "reason": experiment.reason,
    }
