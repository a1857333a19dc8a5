"""PostgreSQL: taking in with one and two processes, draining beside job queues, and size."""

from benchmarks.database.run import main

__all__ = ["main"]
