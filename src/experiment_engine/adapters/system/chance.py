"""Randomness of the operating system: ids and seeds."""

import secrets

import uuid_utils

from experiment_engine.domain.identifiers import CallId, ExperimentId, SnapshotId
from experiment_engine.domain.moments import Instant


class SystemChance:
    """Ids that sort by time and seeds that nobody can foresee."""

    def experiment_id(self, at: Instant) -> ExperimentId:
        """Return a new UUIDv7 of the machine's time; `at` is for clocks that tests turn."""
        del at
        return ExperimentId(str(uuid_utils.uuid7()))

    def call_id(self) -> CallId:
        """Return a new id for a call at a provider."""
        return CallId(str(uuid_utils.uuid7()))

    def snapshot_id(self) -> SnapshotId:
        """Return a new id for a snapshot."""
        return SnapshotId(str(uuid_utils.uuid7()))

    def seed(self) -> int:
        """Return a number from 0 to 2**63 - 1."""
        return secrets.randbits(63)
