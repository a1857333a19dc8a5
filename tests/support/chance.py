"""Chance that a test can foresee."""

import itertools

from experiment_engine.domain.identifiers import CallId, ExperimentId, SnapshotId
from experiment_engine.domain.moments import Instant


class FakeChance:
    """Counts: ids that sort by their making, seeds one after another.

    An engine that is started again on the same database needs the same one, or ids come twice.
    """

    def __init__(self, seed: int = 0) -> None:
        """Begin the seeds at `seed`."""
        self._seeds = itertools.count(seed)
        self._ids = itertools.count(1)

    def experiment_id(self, at: Instant) -> ExperimentId:
        """Return the next id, in the form of a UUIDv7 of that time."""
        time = f"{at:012x}"
        return ExperimentId(f"{time[:8]}-{time[8:]}-7000-8000-{next(self._ids):012x}")

    def call_id(self) -> CallId:
        """Return the next id."""
        return CallId(f"call-{next(self._ids):012}")

    def snapshot_id(self) -> SnapshotId:
        """Return the next id."""
        return SnapshotId(f"snapshot-{next(self._ids):012}")

    def seed(self) -> int:
        """Return the next number."""
        return next(self._seeds)
