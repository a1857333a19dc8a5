"""R14: SQLite has one writing process, and who else comes is told what to do."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.server import (
    Command,
    Ended,
    ServerProcess,
    free_port,
    run_commands,
    server_process,
)

MEND = "use database_url=postgresql://"
COMMANDS = [["serve"], ["worker"], ["serve", "--no-worker"], ["migrate"]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    """Return a process that holds the database, and its working directory."""
    folder = tmp_path_factory.mktemp("one-writer")
    with server_process(folder) as server:
        yield server, folder


@pytest.fixture(scope="module")
def ended(served: tuple[ServerProcess, Path]) -> dict[str, Ended]:
    """Return how each command ended beside the one that serves."""
    folder, environ = served[1], {"PORT": str(free_port())}
    runs = run_commands([Command(arguments, folder, environ) for arguments in COMMANDS])
    return {" ".join(arguments): run for arguments, run in zip(COMMANDS, runs, strict=True)}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_r14_another_process_stops(
    served: tuple[ServerProcess, Path], ended: dict[str, Ended], arguments: list[str]
) -> None:
    """Whatever else would write stops with status 1 and says which database allows it."""
    end = ended[" ".join(arguments)]
    assert end.status == 1
    assert MEND in end.errors.lower()
    assert len(end.errors.splitlines()) == 1
    assert served[0].client.get("/ready").status_code == 200


def test_r14_the_lock_is_the_operating_systems(tmp_path: Path) -> None:
    """After `kill -9` the next one starts at once: nothing has to be cleaned up."""
    with server_process(tmp_path) as server:
        server.stop(signal.SIGKILL)
    with server_process(tmp_path) as server:
        assert server.client.get("/ready").status_code == 200


def test_r14_without_another_process(tmp_path: Path) -> None:
    """A separate worker makes no sense on SQLite, also when nothing serves."""
    alone = [Command(["worker"], tmp_path), Command(["serve", "--no-worker"], tmp_path)]
    for end in run_commands(alone):
        assert end.status == 1
        assert MEND in end.errors.lower()
