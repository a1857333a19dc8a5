"""A database that goes away in the middle of a piece of work, and comes back by itself."""

from dataclasses import dataclass
from typing import Any

from experiment_engine.domain.errors import StorageUnavailable
from experiment_engine.engine.engine import Engine


@dataclass
class FailingStorage:
    """The engine's own storage, but that one of its next writes, or its next view, fails."""

    storage: Any
    writes: int | None = None  # that succeed before the one that fails; None: a view fails
    failed: bool = False

    def run(self, work: Any) -> Any:
        """Write, or fail."""
        if self.writes is not None and not self.failed:
            self._fail_if(self.writes == 0)
            self.writes -= 1
        return self.storage.run(work)

    def evidence(self) -> Any:
        """Open a view, or fail."""
        self._fail_if(self.writes is None and not self.failed)
        return self.storage.evidence()

    def __getattr__(self, name: str) -> Any:
        """Be the storage in everything else."""
        return getattr(self.storage, name)

    def _fail_if(self, is_away: bool) -> None:  # noqa: FBT001
        if is_away:
            self.failed = True
            raise StorageUnavailable("away")


def fail_once(engine: Engine, writes: int | None = None) -> FailingStorage:
    """Put it under an engine: the write after so many fails, or without a number the next view."""
    failing = FailingStorage(engine.storage, writes)
    engine.ground.storage = failing  # type: ignore[assignment]  # it is one in all but its class
    return failing
