"""Run commands of the engine, each in a fork of this process: importing it costs most of a start.

Reads a list of commands from standard input and answers with how each ended, both as JSON.
"""

import json
import os
import sys
import tempfile
from typing import Any, NoReturn

from experiment_engine.entrypoints.cli.main import app, run


def ended(command: dict[str, Any]) -> dict[str, int | str]:
    """Run one command; return its exit status and what it wrote."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), sys.stdout.fileno())
            os.dup2(errors.fileno(), sys.stderr.fileno())
            os.chdir(command["folder"])
            os.environ.clear()
            os.environ.update(command["environ"])
            _run(command["arguments"])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        errors.seek(0)
        return {"status": status, "output": output.read(), "errors": errors.read()}


def _run(arguments: list[str]) -> NoReturn:
    try:
        run(arguments)
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)  # without taking all apart


if __name__ == "__main__":
    app.resolved_commands()  # imports what each command needs, once for all
    print(json.dumps([ended(command) for command in json.load(sys.stdin)]))
