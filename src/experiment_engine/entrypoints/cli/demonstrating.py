"""`demo`: the engine with made-up users and a made-up provider, in fast time."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.progress import Progress

from experiment_engine.adapters.system.logs import configure_logs
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.entrypoints.cli.listening import listen
from experiment_engine.entrypoints.cli.serving import answer, around
from experiment_engine.entrypoints.http.door import Door
from experiment_engine.entrypoints.http.running import Running
from experiment_engine.entrypoints.simulator.city import Shape
from experiment_engine.entrypoints.simulator.setting import DATABASE, Setting, set_up
from experiment_engine.entrypoints.upkeep import Upkeep
from experiment_engine.entrypoints.worker import Worker
from experiment_engine.settings import Settings, read_settings

_LEARNS_EVERY = 4.0  # seconds; in fast time every look finds something new


def demo(
    *,
    weeks: Annotated[
        int,
        Parameter(
            help="Weeks of history to begin with.", validator=validators.Number(gte=1, lte=12)
        ),
    ] = 6,
    speed: Annotated[
        float,
        Parameter(
            help="How many times as fast as real time it goes on: 600 makes a day of 2.4 minutes.",
            validator=validators.Number(gte=1, lte=3600),
        ),
    ] = 600.0,
    leave_a_day: Annotated[
        float,
        Parameter(
            help="How many people leave a day.", validator=validators.Number(gte=10, lte=5000)
        ),
    ] = 420.0,
    seed: Annotated[
        int, Parameter(help="Another number is another city.", validator=validators.Number(gte=0))
    ] = 1,
    folder: Annotated[
        Path | None,
        Parameter(
            help="Keep the demo's database in this folder. Without it, everything is thrown away"
            " at the end."
        ),
    ] = None,
) -> None:
    """Watch the engine learn: made-up people of a made-up city, a provider that sends nothing.

    Everything but the people, the provider and the time is the production code. The demo has a
    database of its own, reads no settings but PORT, and calls nobody; it listens on 127.0.0.1. In
    its own eyes it is live, because dry run teaches nothing. /demo/truth reveals what is true.
    """
    began = time.monotonic()
    settings = read_settings(
        {name: os.environ[name] for name in ("PORT",) if name in os.environ}, env_file=None
    )
    configure_logs("console", sys.stderr)
    listener = listen(settings)
    with _place(folder) as place:
        shape = Shape(leave_a_day=leave_a_day)
        setting = set_up(place, seed=seed, days=7 * weeks, shape=shape, speed=speed)
        _pass_history(setting, weeks)
        decided = setting.decided()
        url = f"http://{settings.host}:{listener.getsockname()[1]}"
        print(  # noqa: T201 - for the person there
            f"{decided:,} experiments in {time.monotonic() - began:.1f} s (seed {seed})."
            f" Watch it learn: {url}\nWhat is true: {url}/demo/truth   Stop: Ctrl-C",
            flush=True,
        )
        app, running = _application(setting, settings)
        answer(app, listener, running)


def _application(setting: Setting, settings: Settings) -> tuple[Door, Running]:
    engine, life = setting.engine, setting.life
    worker = Worker(engine.traffic, life.provider, engine.rules.channels)
    upkeep = Upkeep(engine.duties, learns_every=_LEARNS_EVERY)
    return around(engine, worker, settings, upkeep, life)


def _pass_history(setting: Setting, weeks: int) -> None:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{weeks} weeks pass", total=1.0)
        setting.life.pass_history(
            setting.since, setting.until, lambda share: progress.update(task, completed=share)
        )


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """Return the folder of the demo's database: one to keep, or one that goes at the end."""
    if folder is None:
        with TemporaryDirectory(prefix="experiment-engine-demo-") as made:
            yield Path(made)
        return
    if (folder / DATABASE).exists():
        raise ConfigurationError(
            f"--folder: {folder} holds a demo already, whose people are gone with their process:"
            " name another folder. To look at it, set DATABASE_URL to it and run serve."
        )
    yield folder
