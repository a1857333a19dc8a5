"""The command line: parse, do one thing, say what to do when it cannot be done."""

import sys
from typing import NoReturn

import cyclopts

from experiment_engine import __version__
from experiment_engine.domain.errors import EngineError
from experiment_engine.entrypoints.cli.backing_up import backup, restore
from experiment_engine.entrypoints.cli.beginning import init
from experiment_engine.entrypoints.cli.configuring import config
from experiment_engine.entrypoints.cli.demonstrating import demo
from experiment_engine.entrypoints.cli.evaluating import evaluate
from experiment_engine.entrypoints.cli.explaining import explain
from experiment_engine.entrypoints.cli.migrating import migrate
from experiment_engine.entrypoints.cli.rebuilding import exclude_source, rebuild
from experiment_engine.entrypoints.cli.replaying import replay
from experiment_engine.entrypoints.cli.serving import serve, worker
from experiment_engine.entrypoints.cli.simulating import simulate

app = cyclopts.App(
    name="experiment-engine",
    help="Brings users back: decides when, where, how and with which offer to write to them, "
    "sends once, and learns what works. Settings come from the environment and `.env`; "
    "see the README.",
    version=__version__,
    exit_on_error=False,
    print_error=True,
)
app.command(init)
app.command(config)
app.command(serve)
app.command(worker)
app.command(migrate)
app.command(backup)
app.command(restore)
app.command(demo)
app.command(simulate)
app.command(evaluate)
app.command(explain)
app.command(rebuild)
app.command(replay)
app.command(exclude_source)

FAILED, WRONG_USE = 1, 2


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and end the process with 0, 1 (failed) or 2 (wrong use)."""
    try:
        app(sys.argv[1:] if arguments is None else arguments)
    except cyclopts.CycloptsError:
        sys.exit(WRONG_USE)
    except EngineError as error:
        print(f"experiment-engine: {error}", file=sys.stderr)  # noqa: T201 - for the person there
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
