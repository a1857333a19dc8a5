"""The time of the machine."""

import time

from experiment_engine.domain.moments import Instant


class SystemClock:
    """Tells the time of the machine, in whole milliseconds."""

    def now(self) -> Instant:
        """Return the present, UTC."""
        return Instant(time.time_ns() // 1_000_000)
