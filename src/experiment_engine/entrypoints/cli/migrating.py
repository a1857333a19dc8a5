"""`migrate`: bring the database to this version's schema."""

import os

from experiment_engine import bootstrap
from experiment_engine.settings import read_settings


def migrate() -> None:
    """Bring the database's schema to the one this version needs; safe to repeat."""
    settings = read_settings(os.environ)
    before, after = bootstrap.migrate(settings)
    if before == after:
        print(f"The schema is up to date ({after}).")  # noqa: T201 - the command's answer
    else:
        print(f"The schema went from {before or 'nothing'} to {after}.")  # noqa: T201
