"""The README's quick start, command for command, as its reader types it."""

import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.server import eventually, server_process

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICK_START = README.partition("## Quick start\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", QUICK_START, re.MULTILINE | re.DOTALL)
SET_UP, CURLS = BLOCKS[0], [block for block in BLOCKS[1:] if "curl" in block]


def curl(client: httpx2.Client, command: str) -> Any:
    """Ask what a curl command of the README asks, and return the JSON that comes back."""
    words = shlex.split(command)
    url = next(word for word in words if word.startswith("http://"))
    options = dict(pairwise(words))
    name, _, value = options.get(
        "-H", "Content-Type: application/x-www-form-urlencoded"
    ).partition(": ")
    data = options.get("-d")
    method = options.get("-X", "GET" if data is None else "POST")
    path = url.removeprefix("http://localhost:3001")
    answer = client.request(method, path, content=data, headers={name: value})
    return answer.raise_for_status().json()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the configuration that the first block makes, only faster."""
    commands = [line for line in SET_UP.splitlines() if "make run" not in line]
    script = "\n".join(commands).replace('["2s", "10s"]', '["0.1s", "0.2s"]')
    (tmp_path / "src").symlink_to(ROOT / "src")
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True)
    engine = tmp_path / "my-config" / "engine.toml"
    text = engine.read_text(encoding="utf-8")
    assert "share = 0.05" in text
    engine.write_text(text.replace("share = 0.05", "share = 0.0"), encoding="utf-8")
    return tmp_path


def test_the_readmes_quick_start(folder: Path) -> None:
    """Every command works as it stands there, and the numbers change as it says."""
    environ = {"ENGINE_CONFIG": "my-config", "LOG_FORMAT": "console"}
    answers: list[Any] = []
    with server_process(folder, environ) as server:
        for block in CURLS:
            for command in re.split(r"^(?=curl)", block, flags=re.MULTILINE):
                if command.startswith("curl"):
                    made = answers[0]["results"][0]["experiment_id"] if answers else ""
                    answers.append(curl(server.client, command.replace("$ID", made)))
            eventually(lambda: "[SENT]" in server.output)
    first, before, opened, converted, after, experiment, user, trigger = answers

    assert first["results"][0]["status"] == "scheduled"
    assert before["summary"]["total_sent"] == 1
    assert (opened["results"][0]["status"], converted["results"][0]["status"]) == ("recorded",) * 2
    assert after["summary"]["total_converted"] == 1
    assert experiment["status"] == "sent"
    assert experiment["message"]["language"] == "bho"
    assert user["timeline"][0]["name"] == "converted"
    assert trigger["message"]["language"] == "hi"
