"""`serve` on SQLite, whose writer is told the pragmas that the arguments name.

`python -m tests.support.tuned_serve "synchronous = NORMAL"` makes an engine that loses what it
answered when the power goes, which a test of lost power must find.
"""

import os
import sys

from experiment_engine.adapters.storage.sqlite import SqliteStorage
from experiment_engine.entrypoints.cli.listening import listen
from experiment_engine.entrypoints.cli.serving import answer, open_application
from experiment_engine.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(os.environ)
    listener = listen(settings)
    app, running = open_application(settings)
    storage = running.engine.storage
    assert isinstance(storage, SqliteStorage)
    for pragma in sys.argv[1:]:
        storage._writer.execute(f"PRAGMA {pragma}")
    answer(app, listener, running)
