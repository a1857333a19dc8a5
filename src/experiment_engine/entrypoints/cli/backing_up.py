"""`backup` and `restore`: copies of the database to keep; they open paused."""

import os
from pathlib import Path

from experiment_engine import bootstrap
from experiment_engine.settings import read_settings


def backup(file: Path) -> None:
    """Write a copy of the database to FILE, also while the engine runs.

    The copy is one consistent state with everything that was answered before the command began.
    """
    bootstrap.back_up(read_settings(os.environ), file)
    print(f"Kept in {file} ({file.stat().st_size:,} bytes). It opens paused.")  # noqa: T201


def restore(file: Path) -> None:
    """Make the database that DATABASE_URL names from a copy; there must be none yet.

    It opens paused: see what went out since the copy was made before you resume.
    """
    bootstrap.restore(read_settings(os.environ), file)
    print(  # noqa: T201
        "Restored and paused. What went out after the copy was made is not known to it: see"
        " docs/operations.md, then POST /api/resume."
    )
