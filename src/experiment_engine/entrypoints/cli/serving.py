"""`serve` and `worker`: the processes that do the work."""

import asyncio
import os
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Annotated, NoReturn

import structlog
import uvicorn
from cyclopts import Parameter

from experiment_engine.adapters.system.logs import configure_logs
from experiment_engine.bootstrap import (
    configuration_folder,
    mode_of,
    open_analytics,
    open_engine,
    open_sender,
    read_rules,
)
from experiment_engine.domain.errors import ConfigurationError, StorageInUse
from experiment_engine.domain.rules import Rules
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.cli.listening import BACKLOG, listen, tell_service_manager
from experiment_engine.entrypoints.cli.succeeding import PATIENCE, Predecessor, rehearse
from experiment_engine.entrypoints.dashboard.app import Dashboard
from experiment_engine.entrypoints.group_commit import GroupCommit
from experiment_engine.entrypoints.http.access import Gate
from experiment_engine.entrypoints.http.app import build_app, webhooks
from experiment_engine.entrypoints.http.connections import BoundedProtocol
from experiment_engine.entrypoints.http.door import Door
from experiment_engine.entrypoints.http.running import MadeUpWorld, Running
from experiment_engine.entrypoints.telling import Telling
from experiment_engine.entrypoints.upkeep import BEAT_EVERY, Duty, Upkeep
from experiment_engine.entrypoints.watching import LOOKS_EVERY, ConfigurationWatch
from experiment_engine.entrypoints.worker import Worker
from experiment_engine.settings import Settings, misspelt, read_settings

log = structlog.get_logger()

_LOOK_AGAIN = 1.0  # seconds between looks whether the worker still runs
_HEARS_OUT = 0.05  # seconds in which a connection that was just taken sends its request
_COMPARES_EVERY = 5.0  # seconds

_ONE_WRITER = (
    "SQLite has one writing process, and its worker runs inside `serve`. "
    "Use DATABASE_URL=postgresql://... for separate workers."
)


def serve(
    *,
    worker: Annotated[
        bool, Parameter(help="Deliver from this process; --no-worker takes in only.")
    ] = True,
) -> None:
    """Serve the webhooks and the API, and deliver what is due."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as process 1 it would not be heard
    settings = read_settings(os.environ)
    if settings.is_sqlite and not worker:
        raise StorageInUse(_ONE_WRITER)
    listener = listen(settings)
    app, running = _succeed(settings, delivers=worker)
    log.info(
        "serving",
        url=f"http://{settings.host}:{listener.getsockname()[1]}",
        mode=running.engine.mode.value,
        cohorts=len(running.engine.rules.cohorts),
        configuration=running.engine.rules.fingerprint[:12],
    )
    for name, meant in misspelt().items():
        log.warning("no such setting", name=name, file=".env", perhaps=meant)
    _hurry_on_signal(running.watch)
    answer(app, listener, running)


def _succeed(settings: Settings, *, delivers: bool) -> tuple[Door, Running]:
    """Open the engine; where another process serves still, let it end at the right moment."""
    predecessor = Predecessor.of(os.environ)
    if predecessor is None:
        return open_application(settings, delivers=delivers)
    configure_logs(settings.log_format)
    rehearse(settings)
    if settings.is_sqlite:  # it has the database, and lets go of it last
        predecessor.send_away()
        return open_application(settings, delivers=delivers, patience=PATIENCE)
    opened = open_application(settings, delivers=delivers)
    predecessor.send_away()
    return opened


def answer(app: Door, listener: socket.socket, running: Running) -> None:
    """Serve until the process is told to stop, which lasting answers are told first."""
    # uvicorn stops gracefully, then raises the signal once more: that is a success, not a death.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _allow_many_connections()
    with suppress(KeyboardInterrupt):  # likewise
        _Server(server_configuration(app), running).run(sockets=[listener])


def _allow_many_connections() -> None:
    """Raise the soft limit of open files, which often stands at 1,024, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * BoundedProtocol.connections_at_most
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def server_configuration(
    app: Door, protocol: type[BoundedProtocol] = BoundedProtocol
) -> uvicorn.Config:
    """Return how the application is served."""
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        proxy_headers=False,  # who asks is decided by secrets, never by a header
        server_header=False,
        access_log=False,
        log_config=None,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,  # and 15 for the last call: the end comes within 20 s
    )


class _Server(uvicorn.Server):
    """Answers webhooks until the last call under way has ended, and only then lets go."""

    def __init__(self, configuration: uvicorn.Config, running: Running) -> None:
        super().__init__(configuration)
        self._running = running
        self._told = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        tell_service_manager("READY=1")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; told once more, end at once."""
        if self._told:
            super().handle_exit(sig, frame)
            return
        self._told = True
        threading.Thread(target=self._let_go, args=(sig, frame), daemon=True).start()

    def _let_go(self, sig: int, frame: FrameType | None) -> None:
        self._running.deliver_no_more()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End gracefully: who has just come in is heard out, whom an answer holds is let go."""
        self._running.stopping.set()
        for server in self.servers:
            server.close()
        await asyncio.sleep(_HEARS_OUT)
        await super().shutdown(sockets)


def worker() -> None:
    """Deliver what is due, beside `serve` processes (needs PostgreSQL)."""
    settings = read_settings(os.environ)
    if settings.is_sqlite:
        raise StorageInUse(_ONE_WRITER)
    deliver(open_engine(settings, configure_logs(settings.log_format)), settings)


def deliver(engine: Engine, settings: Settings) -> NoReturn:
    """Run a worker until the process is told to stop, then end it."""
    engine.open(paused=settings.start_paused)
    worker = _open_worker(engine, settings)
    watch = _watch(engine, settings, "worker", worker)
    _hurry_on_signal(watch)
    stopping = threading.Event()
    for how in (signal.SIGTERM, signal.SIGINT):
        signal.signal(how, lambda *_: stopping.set())
    worker.start()
    log.info("delivering", mode=engine.mode.value, configuration=engine.rules.fingerprint[:12])
    duties = (Duty("beat", partial(engine.duties.beat, "worker"), BEAT_EVERY), *_duties_of(watch))
    while worker.is_alive and not stopping.wait(_LOOK_AGAIN):
        for duty in duties:
            duty.do(time.monotonic())
    worker.stop()
    engine.close()
    sys.exit(0 if stopping.is_set() else 1)


def open_application(
    settings: Settings, *, delivers: bool = True, patience: float = 0.0
) -> tuple[Door, Running]:
    """Open the engine and everything around it; nothing runs before the server starts it."""
    engine = open_engine(settings, configure_logs(settings.log_format), patience=patience)
    engine.open(paused=settings.start_paused)
    worker = _open_worker(engine, settings) if delivers else None
    kind = "serve" if delivers else "serve --no-worker"
    watch = _watch(engine, settings, kind, worker)
    upkeep = Upkeep(engine.duties, kind, more=_duties_of(watch))
    analytics = open_analytics(settings)
    telling = None if analytics is None else Telling(engine.duties, analytics)
    return around(engine, worker, settings, upkeep, watch=watch, telling=telling)


def _watch(
    engine: Engine, settings: Settings, kind: str, worker: Worker | None
) -> ConfigurationWatch:
    """Return what follows the configuration folder."""

    def follow(rules: Rules) -> None:
        if worker is not None:
            worker.follow(rules.channels, open_sender(settings, rules))

    def read() -> Rules:
        rules = read_rules(settings)
        if mode_of(settings, rules) is not engine.mode:
            raise ConfigurationError(
                "engine.toml: channels: with these providers sending would be switched on or off:"
                " start the engine again for that"
            )
        return rules

    return ConfigurationWatch(engine, configuration_folder(settings), kind, follow, read=read)


def _hurry_on_signal(watch: ConfigurationWatch | None) -> None:
    if watch is not None:
        signal.signal(signal.SIGHUP, lambda *_: watch.hurry())


def _duties_of(watch: ConfigurationWatch) -> tuple[Duty, Duty]:
    return (
        Duty("configuration", watch.step, LOOKS_EVERY),
        Duty("agreement", watch.compare, _COMPARES_EVERY),
    )


def _open_worker(engine: Engine, settings: Settings) -> Worker:
    return Worker(engine.traffic, open_sender(settings, engine.rules), engine.rules.channels)


def around(
    engine: Engine,
    worker: Worker | None,
    settings: Settings,
    upkeep: Upkeep | None = None,
    demo: MadeUpWorld | None = None,
    watch: ConfigurationWatch | None = None,
    telling: Telling | None = None,
) -> tuple[Door, Running]:
    """Put the lane of the webhooks, the API and its secrets around an engine."""
    running = Running(
        engine=engine,
        lane=GroupCommit(engine.traffic.take),
        worker=worker,
        api_gate=Gate(settings.api_token, "API_TOKEN"),
        upkeep=upkeep,
        webhook_asks_for_secret=bool(settings.amplitude_webhook_secret),
        demo=demo,
        watch=watch,
        telling=telling,
    )
    doors = webhooks(settings, engine.clock)
    return build_app(running, doors, partial(Dashboard, running)), running
