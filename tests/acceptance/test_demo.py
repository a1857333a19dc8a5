"""`experiment-engine demo`, as a process: it has a history, learns, and keeps to itself."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.server import COMMAND, Command, eventually, free_port, run_command

PATIENCE = 120.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx2.Client, Path]]:
    """Run a small demo in a folder where a user has settings that it must not follow."""
    folder, port = tmp_path_factory.mktemp("demo"), free_port()
    (folder / ".env").write_text("DATABASE_URL=sqlite:///mine.db\nCLEVERTAP_ACCOUNT_ID=mine\n")
    options = ["--weeks", "2", "--leave-a-day", "150", "--speed", "3600", "--folder", "kept"]
    environ = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "DATABASE_URL": "sqlite:///mine.db",
        "CLEVERTAP_ACCOUNT_ID": "mine",
        "CLEVERTAP_PASSCODE": "mine",
        "OPENBLAS_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [COMMAND, "demo", *options], cwd=folder, env=environ, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        told = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in told, told
        eventually(lambda: _is_up(client), PATIENCE)
        yield client, folder
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.stdout.close()


def _is_up(client: httpx2.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx2.TransportError:
        return False


def _summary(client: httpx2.Client) -> dict[str, Any]:
    summary: dict[str, Any] = client.get("/api/stats").json()["summary"]
    return summary


def test_it_opens_with_history_and_goes_on(demo: tuple[httpx2.Client, Path]) -> None:
    """Two weeks are there at once, were sent as live messages, and more come by themselves."""
    client, _ = demo
    before = _summary(client)
    assert before["total_experiments"] > 1_000
    assert before["total_converted"] > 50
    assert before["total_opened"] > 100
    eventually(
        lambda: (
            _summary(client)["total_sent"] > before["total_sent"]
            and _summary(client)["total_converted"] > before["total_converted"]
        ),
        PATIENCE,
    )


def test_it_reveals_the_truth_and_how_far_it_is(demo: tuple[httpx2.Client, Path]) -> None:
    """The policy has left the even split towards the best, and every page says what this is."""
    client, _ = demo
    truth = client.get("/demo/truth.json").json()["truth"]
    assert set(truth) == {"checkout_abandoners", "payment_failed", "paywall_bouncers"}
    for told in truth.values():
        assert told["come_back_alone"] < told["even_split"] < told["best_possible"]
        rates = [combo["true_rate"] for combo in told["combos"]]
        assert rates == sorted(rates, reverse=True)
        assert abs(sum(combo["traffic_now"] for combo in told["combos"]) - 1) < 0.02
    assert truth["checkout_abandoners"]["way_to_the_best"] > 0.1
    page = client.get("/demo/truth", headers={"accept": "text/html"})
    assert page.status_code == 200
    for path in ("/", "/demo/truth", "/results/checkout_abandoners"):
        assert "made-up people" in client.get(path).text


def test_it_touches_only_its_own_folder(demo: tuple[httpx2.Client, Path]) -> None:
    """The settings of whoever starts it, and the folder it is started in, stay as they are."""
    _, folder = demo
    assert sorted(path.name for path in folder.iterdir()) == [".env", "kept"]
    assert {path.name.partition("-")[0] for path in (folder / "kept").iterdir()} <= {
        "demo.db",
        "demo.db.lock",
    }


def test_a_kept_demo_is_not_overwritten(tmp_path: Path) -> None:
    """It says what to do instead, and ends with 1; a wrong option ends with 2."""
    (tmp_path / "demo.db").touch()
    environ = {"PORT": "0"}
    refused = run_command(Command(["demo", "--folder", "."], tmp_path, environ))
    assert refused.status == 1
    assert "another folder" in refused.errors
    wrong = run_command(Command(["demo", "--weeks", "99"], tmp_path, environ))
    assert wrong.status == 2
