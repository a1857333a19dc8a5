"""Of which spans a cohort's conversions were not told, for learning and measurement alike."""

from experiment_engine.application.ports import Evidence
from experiment_engine.application.watch import REMEMBERED
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.measurement.silence import Held
from experiment_engine.domain.moments import DAY, Instant, hour_of

_LOOKS_BACK = 28 * DAY  # of triggers: who tells a cohort's conversions


def held_of(cohort: Cohort, mode: Mode, evidence: Evidence, now: Instant) -> Held:
    """Return of which spans the cohort's conversions were not told."""
    silences = evidence.silences(Instant(now - REMEMBERED))
    if all(silence.filled_at is not None for silence in silences):
        return Held()
    told_by = evidence.told_by(mode, cohort.name, hour_of(Instant(now - _LOOKS_BACK)))
    return Held.by(silences, told_by, now)
