"""The guide for a new partner works as it stands: its code, one line, and a message goes out."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.recorder import recording_provider

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "new-partner.md").read_text(encoding="utf-8")
CODE, IMPORT, LINE = re.findall(r"```(?:python|text)\n(.*?)```", GUIDE, re.DOTALL)

# What a process with the new partner does: reads settings and configuration, and sends.
SCRIPT = """
import asyncio, dataclasses, json, os, sys
from experiment_engine.bootstrap import mode_of, open_sender, read_rules
from experiment_engine.domain.delivery.message import Call, Content
from experiment_engine.settings import read_settings

settings = read_settings(os.environ, None)
rules = read_rules(settings)
call = Call("call-1", Content("whatsapp", "title", "Come back.", ""), {"usr_1": "exp-1"},
            {"usr_1": "+919800000001"})

async def send():
    sender = open_sender(settings, rules)
    answer = await sender.send(call)
    await sender.close()
    return answer

answer = asyncio.run(send())
print(json.dumps({
    "mode": mode_of(settings, rules), "verdict": answer.verdict, "secret": repr(settings),
    "needs": dataclasses.astuple(rules.channels["whatsapp"].address),
}))
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sources of the engine with the guide's partner in them."""
    sources = tmp_path_factory.mktemp("sources")
    package = sources / "experiment_engine"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "experiment_engine", package, ignore=ignored)
    folder = package / "adapters" / "acme"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "provider.py").write_text(CODE)
    table = package / "adapters" / "providers.py"
    before = table.read_text()
    after = before.replace("\nfrom experiment", f"\n{IMPORT}from experiment", 1)
    after = after.replace("        CLEVERTAP,\n", f"        CLEVERTAP,\n{LINE}", 1)
    assert len(after.splitlines()) == len(before.splitlines()) + 2  # the import, and the line
    table.write_text(after)
    return sources


def run(engine: Path, config: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(engine),
        "ENGINE_CONFIG": str(config),
        **settings,
    }
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def configuration(folder: Path) -> Path:
    return write_configuration(
        folder,
        cohorts={COHORT: cohort(channel=["whatsapp"])},
        channels={"whatsapp": {"provider": "acme", "address": "user_properties.phone"}},
    )


def test_a_message_goes_out(engine: Path, tmp_path: Path) -> None:
    """With the folder and the line the new provider is live, and is handed the message."""
    config = configuration(tmp_path)
    with recording_provider() as acme:
        settings = {"ACME_TOKEN": "acme-secret", "ACME_BASE_URL": acme.base_url}
        done = run(engine, config, **settings)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["mode"], told["verdict"]) == ("live", "accepted")
    assert told["needs"] == [["user_properties", "phone"], "phone"]
    assert "acme-secret" not in told["secret"]
    (received,) = acme.received
    assert received.path == "/messages"
    assert received.headers["authorization"] == "Bearer acme-secret"
    assert received.body == {"to": "+919800000001", "text": "Come back.", "reference": "exp-1"}


def test_half_of_its_settings(engine: Path, tmp_path: Path) -> None:
    """What every provider's settings are held to holds for the new one."""
    done = run(engine, configuration(tmp_path), ACME_TOKEN="acme-secret")
    assert done.returncode != 0
    assert "ACME_BASE_URL: is missing while ACME_TOKEN is set" in done.stderr
