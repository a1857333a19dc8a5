"""The time of the database's server: one time for all hosts."""

import time

from sqlalchemy import Connection, text

from experiment_engine.domain.moments import Instant

_ASK_AGAIN = 10_000_000_000  # nanoseconds
_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


class DatabaseClock:
    """Asks the server now and then, and goes on by this machine's clock that is never set."""

    def __init__(self) -> None:
        """Know no time before the first `ask`."""
        self._ahead = 0  # nanoseconds that the server's time is ahead of that clock
        self._asked_at = -_ASK_AGAIN

    @property
    def is_stale(self) -> bool:
        """Say whether the server should be asked again."""
        return time.monotonic_ns() - self._asked_at >= _ASK_AGAIN

    def ask(self, connection: Connection) -> None:
        """Learn the server's time; it is right to half of what the question took."""
        before = time.monotonic_ns()
        server = int(connection.execute(_NOW).scalar_one()) * 1_000
        self._asked_at = time.monotonic_ns()
        self._ahead = server - (before + self._asked_at) // 2

    def now(self) -> Instant:
        """Return the present, UTC."""
        return Instant((time.monotonic_ns() + self._ahead) // 1_000_000)
