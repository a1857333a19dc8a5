"""The command line: parse, do one thing, say what to do when it cannot be done."""

import sys
from typing import NoReturn

import cyclopts

from experiment_engine import __version__
from experiment_engine.domain.errors import EngineError, WrongUse

app = cyclopts.App(
    name="experiment-engine",
    help="Brings users back: decides when, where, how and with which offer to write to them, "
    "sends once, and learns what works. Settings come from the environment and `.env`; "
    "see the README.",
    version=__version__,
    exit_on_error=False,
    print_error=True,
)
for _place in (  # named, and imported when it is called: a start must be quick
    "beginning:init",
    "configuring:config",
    "previewing:preview",
    "doctoring:doctor",
    "serving:serve",
    "serving:worker",
    "keeping:keep",
    "asking:health",
    "migrating:migrate",
    "backing_up:backup",
    "backing_up:restore",
    "demonstrating:demo",
    "simulating:simulate",
    "evaluating:evaluate",
    "exporting:export",
    "explaining:explain",
    "combos:cancel",
    "combos:reset",
    "rebuilding:rebuild",
    "replaying:replay",
    "reconciling:reconcile",
    "rebuilding:exclude_source",
):
    app.command(f"{__package__}.{_place}")

FAILED, WRONG_USE = 1, 2


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and end the process with 0, 1 (failed) or 2 (wrong use)."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] in ([], ["--help"], ["-h"]):
            app.resolved_commands()  # the list has a line from each
        app(words)
    except cyclopts.CycloptsError:
        sys.exit(WRONG_USE)
    except EngineError as error:
        print(f"experiment-engine: {error}", file=sys.stderr)  # noqa: T201 - for the person there
        sys.exit(WRONG_USE if isinstance(error, WrongUse) else FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
