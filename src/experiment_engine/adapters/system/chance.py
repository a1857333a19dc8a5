"""Randomness of the operating system: ids and seeds."""

import random
import secrets

import uuid_utils

from experiment_engine.domain.identifiers import CallId, ExperimentId, SnapshotId
from experiment_engine.domain.moments import Instant


class SystemChance:
    """Ids that sort by time, and seeds from one generator that the system's randomness starts.

    A system call for every seed costs more than the draw it is for; a seed is kept beside its
    decision and hides nothing.
    """

    def __init__(self) -> None:
        """Start the generator anew: no two processes share its numbers."""
        self._generator = random.Random(secrets.randbits(256))  # noqa: S311 - not for secrets

    def experiment_id(self, at: Instant) -> ExperimentId:
        """Return a new UUIDv7 of the machine's time; `at` is for clocks that tests turn."""
        del at
        return ExperimentId(str(uuid_utils.uuid7()))

    def call_id(self) -> CallId:
        """Return a new id for a call at a provider."""
        return CallId(str(uuid_utils.uuid7()))

    def note_id(self, at: Instant) -> str:
        """Return a new UUIDv7 of the machine's time; `at` is for clocks that tests turn."""
        del at
        return str(uuid_utils.uuid7())

    def snapshot_id(self) -> SnapshotId:
        """Return a new id for a snapshot."""
        return SnapshotId(str(uuid_utils.uuid7()))

    def seed(self) -> int:
        """Return a number from 0 to 2**63 - 1."""
        return self._generator.getrandbits(63)


class ChanceOfThePast(SystemChance):
    """For a history that is lived through again: ids sort by the time that is replayed."""

    def experiment_id(self, at: Instant) -> ExperimentId:
        """Return a new UUIDv7 of this moment (RFC 9562, section 5.7)."""
        stamp, chance = max(at, 0).to_bytes(6).hex(), self._generator.getrandbits
        tail = f"7{chance(12):03x}-{0x8000 | chance(14):04x}-{chance(48):012x}"
        return ExperimentId(f"{stamp[:8]}-{stamp[8:]}-{tail}")
