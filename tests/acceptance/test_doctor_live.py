"""`doctor --live`: one push, one upload and one webhook for one user who asked for it."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.support.clevertap_double import PASSCODE, PUSH, UPLOAD, CleverTapDouble
from tests.support.configuration import write_configuration
from tests.support.server import Command, Ended, run_commands, server_process
from tests.support.start import live

USER = "usr_mine"
SECRETS = {
    "API_TOKEN": "token-0123456789abcdef",
    "AMPLITUDE_WEBHOOK_SECRET": "amplitude-0123456789abcdef",
    "CLEVERTAP_WEBHOOK_SECRET": "clevertap-0123456789abcdef",
}


@pytest.fixture
def live_to(tmp_path: Path, double: CleverTapDouble) -> dict[str, str]:
    """Return settings that send to a double."""
    config = write_configuration(tmp_path / "configuration")
    return {**live(double), **SECRETS, "ENGINE_CONFIG": str(config)}


def run(folder: Path, environ: dict[str, str], *words: str) -> Ended:
    (ended,) = run_commands([Command(["doctor", "--live", *words], folder, environ)])
    return ended


def answers(kept: Any) -> dict[str, dict[str, str]]:
    """Return the questions by their first words."""
    return {" ".join(one["question"].split()[:4]): one for one in kept["questions"]}


def test_what_it_settles(tmp_path: Path, double: CleverTapDouble, live_to: dict[str, str]) -> None:
    """The user gets one push and one upload, the webhook is tried, the answers are in a file."""
    file = tmp_path / "answers.json"
    with server_process(tmp_path, live_to) as server:
        words = ["--user", USER, "--yes", "--json", "--file", str(file)]
        ended = run(tmp_path, live_to, *words, "--public-url", server.url)
    assert ended.status == 0, ended.errors
    sent = [(call.path, call.users) for call in double.ledger()]
    assert sent == [(PUSH, (USER,)), (UPLOAD, (USER,))]
    kept = json.loads(file.read_text())
    assert kept == {
        name: v for name, v in json.loads(ended.output)["live"].items() if name != "file"
    }
    assert {call.experiment_ids for call in double.ledger()} == {(kept["test_id"],)}
    found = answers(kept)
    assert found["What does CleverTap answer"]["answer"].startswith("200 {")
    assert found["Does the answer carry"]["answer"].startswith("no:")
    assert found["Is a key of"]["answer"] == "yes"
    assert '"processed": 1' in found["Is an event of"]["answer"]
    assert found["May this account export"]["answer"] == "yes"
    assert found["Is CleverTap's test call,"]["answer"].startswith("yes: 200 in 0.")
    assert sum(one["state"] == "open" for one in kept["questions"]) == 8
    assert all(one["read_by"] for one in kept["questions"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for secret in (PASSCODE, *SECRETS.values()):
        assert secret not in file.read_text() + ended.output + ended.errors


def test_a_key_that_is_refused(
    tmp_path: Path, double: CleverTapDouble, live_to: dict[str, str]
) -> None:
    """A push that is refused with it goes out without it, once; what failed stays open or no."""
    double.configure(script=["ok", "400", "ok", "fail_200", "400", "503"])
    file = tmp_path / "answers.json"
    ended = run(tmp_path, live_to, "--user", USER, "--yes", "--file", str(file))
    assert ended.status == 0, ended.errors
    found = answers(json.loads(file.read_text()))
    assert found["Is a key of"]["answer"].startswith("no: 400")
    assert found["Is an event of"]["state"] == "settled"
    assert found["May this account export"]["state"] == "open"
    assert found["Is CleverTap's test call,"]["answer"] == "not tried: name --public-url"
    assert [call.path for call in double.ledger()] == [PUSH]
    assert "not tried" in ended.output


def test_an_answer_that_says_nothing(
    tmp_path: Path, double: CleverTapDouble, live_to: dict[str, str]
) -> None:
    """A push that may have gone out is never sent again."""
    double.configure(script=["ok", "processed_then_reset"])
    file = tmp_path / "answers.json"
    assert run(tmp_path, live_to, "--user", USER, "--yes", "--file", str(file)).status == 0
    assert [call.path for call in double.ledger()] == [PUSH, UPLOAD]
    found = answers(json.loads(file.read_text()))
    assert found["What does CleverTap answer"]["state"] == "open"
    assert "Is a key of" not in found


def test_nothing_is_sent_unasked(
    tmp_path: Path, double: CleverTapDouble, live_to: dict[str, str]
) -> None:
    """Without a yes, to whom wants nothing, without a new file, or where all is not well."""
    with server_process(tmp_path, live_to) as server:
        bearer = {"Authorization": f"Bearer {SECRETS['API_TOKEN']}"}
        assert server.client.post("/api/users/no/opt-out", json={}, headers=bearer).is_success
    unasked = run(tmp_path, live_to, "--user", USER)
    assert unasked.status == 1
    assert f'Send "{USER}" one push' in unasked.errors
    refused = run(tmp_path, live_to, "--user", "no", "--yes")
    assert (refused.status, "wants no messages" in refused.errors) == (1, True)
    (tmp_path / "mine").write_text("kept")
    there = run(tmp_path, live_to, "--user", USER, "--yes", "--file", "mine")
    assert (there.status, (tmp_path / "mine").read_text()) == (1, "kept")
    wrong = run(tmp_path, {**live_to, "PORT": "seven"}, "--user", USER, "--yes", "--json")
    assert (wrong.status, json.loads(wrong.output)["well"]) == (1, False)
    dry = run(tmp_path, {}, "--user", USER, "--yes")
    assert (dry.status, "CLEVERTAP_ACCOUNT_ID" in dry.errors) == (1, True)
    assert run(tmp_path, live_to).status == 2
    assert double.ledger() == []
    assert not list(tmp_path.glob("doctor-live-*"))
