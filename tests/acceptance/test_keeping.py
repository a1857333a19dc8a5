"""The keeper, the port that is passed on, and the question whether a server is up."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.configuration import write_configuration
from tests.support.crash import HOST
from tests.support.keeper import keeper
from tests.support.server import COMMAND, Command, Ended, eventually, free_port, run_command

PATIENCE = 60.0  # seconds; only a failing test waits that long

# What systemd does: put the socket where it is expected, say so, and become the program.
PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": sys.argv[2], "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[3], sys.argv[3:])
"""


def serve_on(passed_on: socket.socket, folder: Path, number: str = "1") -> subprocess.Popen[str]:
    """Start `serve` with a socket passed on."""
    descriptor = passed_on.fileno()
    return subprocess.Popen(
        [sys.executable, "-c", PASS_ON, str(descriptor), number, COMMAND, "serve"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PORT": "1"},
        pass_fds=[descriptor],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def asked(port: int) -> int:
    """Ask for the health once; return the answer's status."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/health")
        return connection.getresponse().status


def test_a_port_is_inherited(tmp_path: Path) -> None:
    """Who called before the process was there is answered, on the port that systemd passed on."""
    with closing(socket.create_server((HOST, 0))) as listener:
        port = listener.getsockname()[1]
        early = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        early.request("GET", "/health")
        process = serve_on(listener, tmp_path)
        assert early.getresponse().status == 200
        early.close()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert f":{port}" in output
        late = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        late.connect()  # nobody serves, and nobody is refused
        late.close()


@pytest.mark.parametrize(("number", "how"), [("2", "listens"), ("1", "bound")])
def test_what_cannot_be_inherited(tmp_path: Path, number: str, how: str) -> None:
    """Two sockets, or one that does not listen, stop the start with one line."""
    with closing(socket.socket()) as listener:
        listener.bind((HOST, 0))
        if how == "listens":
            listener.listen()
        process = serve_on(listener, tmp_path, number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert "LISTEN_FDS" in errors


def test_a_port_for_everybody_needs_secrets(tmp_path: Path) -> None:
    """A socket that others can reach is refused without the three secrets, as HOST is."""
    with closing(socket.create_server(("0.0.0.0", 0))) as listener:
        process = serve_on(listener, tmp_path)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "API_TOKEN" in errors


def test_a_mistake_changes_nothing(tmp_path: Path) -> None:
    """A restart into a wrong configuration ends the newcomer, and who served serves on."""
    config = write_configuration(tmp_path / "mine")
    with keeper(tmp_path, {"ENGINE_CONFIG": str(config)}) as kept:
        before = kept.serving()
        right = (config / "engine.toml").read_text(encoding="utf-8")
        (config / "engine.toml").write_text("[quite_hours]\n" + right, encoding="utf-8")
        kept.process.send_signal(signal.SIGHUP)
        eventually(lambda: "successor_ended" in kept.log, PATIENCE)
        assert "quite_hours" in kept.log
        assert kept.serving() == before
        assert kept.is_ready()

        (config / "engine.toml").write_text(right, encoding="utf-8")
        kept.hand_over()
        assert kept.serving() != before
        assert kept.is_ready()
        assert kept.end() == 0
    assert "Traceback" not in kept.log


def test_a_crash_is_followed_by_another_start(tmp_path: Path) -> None:
    """A serving process that is killed is replaced; callers wait for the next one."""
    with keeper(tmp_path, {}) as kept:
        kept.wait_until_old()
        os.kill(kept.serving(), signal.SIGKILL)
        assert asked(int(kept.environ["PORT"])) == 200
        assert kept.end() == 0
    assert "serving_process_ended" in kept.log


def test_a_keeper_does_not_insist(tmp_path: Path) -> None:
    """What fails at its start ends the keeper with the same status, and with one line."""
    ended = run_command(Command(["keep"], tmp_path, {"ENGINE_CONFIG": "nowhere"}))
    assert ended.status == 1
    assert len(ended.errors.splitlines()) == 1
    assert "nowhere" in ended.errors


def health(folder: Path, port: int, *options: str) -> Ended:
    """Ask by the command."""
    return run_command(Command(["health", *options], folder, {"PORT": str(port)}))


def test_health_by_command(tmp_path: Path) -> None:
    """`health` ends with 0 where a server answers, else with 1, and says what it saw."""
    with keeper(tmp_path, {}) as kept:
        port = int(kept.environ["PORT"])
        up, ready = health(tmp_path, port, "--json"), health(tmp_path, port, "--ready")
        assert kept.end() == 0
    down = health(tmp_path, free_port(), "--json")
    assert (up.status, ready.status, down.status) == (0, 0, 1)
    assert json.loads(up.output)["answer"]["status"] == "ok"
    assert "database ok" in ready.output
    assert json.loads(down.output)["up"] is False
