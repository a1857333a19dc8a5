"""What the engine says while it works (CONTRACT 6, console form), and what it never says."""

import json
from pathlib import Path

import pytest
from tests.support.clevertap_double import ACCOUNT_ID, PASSCODE, CleverTapDouble
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.events import amplitude_event
from tests.support.server import ServerProcess, eventually, server_process
from tests.support.start import live

USERS = {
    "person_fine": "ok",
    "person_refused": "400",
    "person_uncertain": "processed_then_reset",
    "person_later": "429",
}
TEXT = {"title": "Zanzibar {name}", "body": "Quetzalcoatl waits for you"}
SECRETS = {
    "API_TOKEN": "token-of-the-api",
    "AMPLITUDE_WEBHOOK_SECRET": "secret-of-amplitude",
    "CLEVERTAP_WEBHOOK_SECRET": "secret-of-clevertap",
}
NEVER = [
    *USERS,
    *SECRETS.values(),
    PASSCODE,
    ACCOUNT_ID,
    "Zanzibar",
    "Quetzalcoatl",
    "Zenobia",
    "guessed-secret",
    "not-json-of-somebody",
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the lines of a process that met one of everything."""
    folder = tmp_path_factory.mktemp("said")
    write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["0.2s"])},
        copy={"push": {"helpful": {"*": TEXT}}},
        placeholders={"name": {"from": "event_properties.name", "default": "you"}},
    )
    with CleverTapDouble(folder / "ledger", fsync=False, user_behaviours=USERS) as double:
        environ = {
            **live(double),
            **SECRETS,
            "ENGINE_CONFIG": "configuration",
            "LOG_FORMAT": "console",
        }
        with server_process(folder, environ) as server:
            walk(server, double)
            server.stop()
            return (server.output + server.errors).splitlines()


def walk(server: ServerProcess, double: CleverTapDouble) -> None:
    """Send one of everything, and wait until every message has its outcome."""
    amplitude = {"X-Webhook-Secret": SECRETS["AMPLITUDE_WEBHOOK_SECRET"]}
    clevertap = {"X-Webhook-Secret": SECRETS["CLEVERTAP_WEBHOOK_SECRET"]}
    api = {"Authorization": f"Bearer {SECRETS['API_TOKEN']}"}
    events = [
        amplitude_event(user, "", event_properties={"name": "Zenobia"}, event_time=None)
        for user in USERS
    ]
    client = server.client
    assert client.post("/webhook/amplitude", json=events, headers=amplitude).status_code == 200
    client.post("/webhook/amplitude", content=b"not-json-of-somebody", headers=amplitude)
    client.post("/webhook/amplitude", json=events, headers={"X-Webhook-Secret": "guessed-secret"})
    eventually(lambda: len(double.calls()) >= len(USERS))
    eventually(lambda: server.output.count("[ERROR]") >= 3 and "[SENT]" in server.output)
    client.post("/webhook/opened", json={"user_id": "person_fine"}, headers=clevertap)
    client.get("/api/users/person_fine", headers=api)
    client.delete("/api/users/person_fine", headers=api)


def lines(said: list[str], head: str) -> list[str]:
    return [line for line in said if line.startswith(head)]


def test_a_new_experiment(said: list[str]) -> None:
    """Every new experiment has one line with its id and combo."""
    assert len(lines(said, "[EXPERIMENT]")) == len(USERS)
    for line in lines(said, "[EXPERIMENT]"):
        assert "experiment_id=" in line
        assert "combo_key=0.2s|push|helpful|none" in line


def test_a_sent_message(said: list[str]) -> None:
    """A message that the provider accepted has one line, live without `dry_run=true`."""
    (line,) = lines(said, "[SENT]")
    assert "experiment_id=" in line
    assert "combo_key=0.2s|push|helpful|none" in line
    assert "dry_run=true" not in line


def test_failures(said: list[str]) -> None:
    """A failure has one line with what failed and what will happen next."""
    errors = lines(said, "[ERROR]")
    assert len(errors) >= 3
    for line in errors:
        assert "experiment_id=" in line
        assert "combo_key=0.2s|push|helpful|none" in line
        assert "next=" in line
    assert sum("tried again at" in line for line in errors) >= 1


@pytest.mark.parametrize("word", NEVER)
def test_what_is_never_said(said: list[str], word: str) -> None:
    """No secret, no user id and no message text stands in any line."""
    assert [line for line in said if word in line] == []


def test_json_where_nobody_looks(tmp_path: Path) -> None:
    """Without a terminal and without LOG_FORMAT every line is one JSON object."""
    config = write_configuration(tmp_path / "c", cohorts={COHORT: cohort(delay=["0.1s"])})
    with server_process(tmp_path, {"ENGINE_CONFIG": str(config)}) as server:
        event = amplitude_event("usr_1", "") | {"event_time": None}
        server.client.post("/webhook/amplitude", json=event)
        eventually(lambda: "[SENT]" in server.output)
        server.stop()
        written = [json.loads(line) for line in server.output.splitlines()]
    assert {"[EXPERIMENT]", "[SENT]"} <= {line["event"] for line in written}
    (sent,) = [line for line in written if line["event"] == "[SENT]"]
    assert sent["dry_run"] is True
