"""Starting and stopping: what is wrong is said in one line, and the exit status tells how."""

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.events import amplitude_event
from tests.support.server import (
    Command,
    Ended,
    eventually,
    free_port,
    run_command,
    run_commands,
    server_process,
)
from tests.support.start import live

from experiment_engine.entrypoints.cli.main import app

SETTINGS: dict[str, tuple[dict[str, str], list[str]]] = {
    "port": ({"PORT": "abc"}, ["PORT"]),
    "port too high": ({"PORT": "70000"}, ["PORT", "65535"]),
    "open host": (
        {"HOST": "0.0.0.0"},
        ["HOST", "API_TOKEN", "AMPLITUDE_WEBHOOK_SECRET", "CLEVERTAP_WEBHOOK_SECRET"],
    ),
    "open host, one secret missing": (
        {"HOST": "0.0.0.0", "API_TOKEN": "hunter2", "AMPLITUDE_WEBHOOK_SECRET": "hunter3"},
        ["HOST", "CLEVERTAP_WEBHOOK_SECRET"],
    ),
    "database": ({"DATABASE_URL": "mysql://user:hunter2@host/db"}, ["DATABASE_URL"]),
    "half an account": ({"CLEVERTAP_ACCOUNT_ID": "hunter2"}, ["CLEVERTAP_PASSCODE"]),
    "other half": ({"CLEVERTAP_PASSCODE": "hunter2"}, ["CLEVERTAP_ACCOUNT_ID"]),
    "region": ({"CLEVERTAP_REGION": "xx1"}, ["CLEVERTAP_REGION", "in1", "mec1"]),
    "base url": ({"CLEVERTAP_BASE_URL": "ftp://hunter2"}, ["CLEVERTAP_BASE_URL"]),
    "log format": ({"LOG_FORMAT": "xml"}, ["LOG_FORMAT", "console", "json"]),
    "scope": ({"API_TOKEN": "everything:hunter2"}, ["API_TOKEN", "stats"]),
    "empty secret": ({"AMPLITUDE_WEBHOOK_SECRET": "hunter2,,"}, ["AMPLITUDE_WEBHOOK_SECRET"]),
    "folder": ({"ENGINE_CONFIG": "nowhere"}, ["nowhere"]),
}


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return spoil


COHORT_FILE = f"cohorts/{COHORT}.toml"
MISTAKES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "unknown key": (
        replaced("engine.toml", "[", '[quite_hours]\nstart = "1"\n['),
        ["engine.toml", "quite_hours", "quiet_hours"],
    ),
    "not TOML": (replaced("engine.toml", "=", "=="), ["engine.toml", "line 1"]),
    "share": (replaced("engine.toml", "0.0", "2.0"), ["engine.toml", "share"]),
    "time zone": (replaced("engine.toml", "UTC", "Asia/Atlantis"), ["engine.toml", "timezone"]),
    "delay": (replaced(COHORT_FILE, "2min", "2 minutes"), [COHORT_FILE, "delay", "min"]),
    "channel": (replaced(COHORT_FILE, '"push"', '"fax"'), [COHORT_FILE, "fax", "push"]),
    "window": (replaced(COHORT_FILE, '"3d"', '"3min"'), [COHORT_FILE, "window"]),
    "policy": (
        replaced(COHORT_FILE, "[combos]", '[policy]\nname = "best"\n[combos]'),
        [COHORT_FILE, "best", "epsilon_greedy", "uniform"],
    ),
    "no copy": (replaced("copy/en.toml", "helpful", "helpfull"), ["copy/en.toml", "helpful"]),
    "placeholder": (replaced("copy/en.toml", "Your", "{who}"), ["copy/en.toml", "who"]),
    "no cohort": (lambda folder: (folder / COHORT_FILE).unlink(), ["cohorts"]),
}
WRONG_USE = [["serve", "--nope"], ["serve", "extra"], ["nope"], ["worker", "--no-worker"]]


HELP = [["--help"], *([name, "--help"] for name in app.resolved_commands() if name[0] != "-")]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Return how each of these commands ended, by name."""
    commands = {}
    for name, (environ, _) in SETTINGS.items():
        commands[name] = Command(["serve"], tmp_path_factory.mktemp("setting"), environ)
    for name, (spoil, _) in MISTAKES.items():
        folder = tmp_path_factory.mktemp("mistake")
        spoil(write_configuration(folder / "mine"))
        commands[name] = Command(["serve"], folder, {"ENGINE_CONFIG": "mine"})
    for arguments in WRONG_USE + HELP:
        commands[" ".join(arguments)] = Command(arguments, tmp_path_factory.mktemp("use"))
    return dict(zip(commands, run_commands(list(commands.values())), strict=True))


@pytest.mark.parametrize("name", [*SETTINGS, *MISTAKES])
def test_a_mistake_is_one_line(ended: dict[str, Ended], name: str) -> None:
    """A wrong setting or configuration ends with status 1 and one line that names the mend."""
    end, words = ended[name], {**SETTINGS, **MISTAKES}[name][1]
    assert end.status == 1
    assert end.output == ""
    assert len(end.errors.splitlines()) == 1, end.errors
    for word in words:
        assert word in end.errors
    assert "Traceback" not in end.errors
    assert "hunter" not in end.errors


@pytest.mark.parametrize("arguments", WRONG_USE, ids=" ".join)
def test_wrong_use(ended: dict[str, Ended], arguments: list[str]) -> None:
    """What the command does not know ends with status 2, and without a traceback."""
    end = ended[" ".join(arguments)]
    assert end.status == 2
    assert end.errors
    assert "Traceback" not in end.errors


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help(ended: dict[str, Ended], arguments: list[str]) -> None:
    """`--help` works everywhere, and succeeds."""
    end = ended[" ".join(arguments)]
    assert end.status == 0
    assert "Usage" in end.output


def test_env_file(tmp_path: Path) -> None:
    """`.env` in the working directory is read, and the environment wins over it."""
    port = free_port()
    (tmp_path / ".env").write_text("PORT=1\nLOG_FORMAT=console\nAPI_TOKEN=from-the-file\n")
    with server_process(tmp_path, port=port) as server:
        assert server.client.get("/api/stats").status_code == 401
        headers = {"Authorization": "Bearer from-the-file"}
        assert server.client.get("/api/stats", headers=headers).status_code == 200
        assert not server.output.startswith("{")


def test_a_port_in_use(tmp_path: Path) -> None:
    """A port that somebody else has ends with status 1, names the port and shows no traceback."""
    other = tmp_path / "other"
    other.mkdir()
    with server_process(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        end = run_command(Command(["serve"], other, {"PORT": port}))
    assert end.status == 1
    assert port in end.errors
    assert "Traceback" not in end.output + end.errors


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_end(tmp_path: Path, how: signal.Signals) -> None:
    """A signal to stop lets the call under way end and be recorded, and succeeds."""
    config = write_configuration(tmp_path / "mine", cohorts={COHORT: cohort(delay=["0.1s"])})
    with CleverTapDouble(tmp_path / "ledger", fsync=False, latency_ms=300) as double:
        environ = {**live(double), "ENGINE_CONFIG": str(config)}
        with server_process(tmp_path, environ) as server:
            event = amplitude_event("usr_1", "") | {"event_time": None}
            assert server.client.post("/webhook/amplitude", json=event).status_code == 200
            eventually(lambda: len(double.calls()) == 1)
            status = server.stop(how)
            assert "Traceback" not in server.output + server.errors
    with closing(sqlite3.connect(tmp_path / "data" / "experiment_engine.db")) as database:
        assert database.execute("SELECT state FROM experiment").fetchall() == [("sent",)]
    assert status == 0


def test_starting_paused(tmp_path: Path) -> None:
    """START_PAUSED=1 sends nothing until somebody resumes."""
    with server_process(tmp_path, {"START_PAUSED": "1"}) as server:
        event = amplitude_event("usr_1", "") | {"event_time": None}
        (result,) = server.client.post("/webhook/amplitude", json=event).json()["results"]
    assert result["reason"] == "paused"
