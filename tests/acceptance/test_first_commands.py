"""`init`, `config check` and `config schema`, as a newcomer runs them."""

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from tests.support.server import Command, Ended, run_commands, server_process

from experiment_engine.settings import read_settings


def run(folder: Path, *arguments: str) -> Ended:
    (ended,) = run_commands([Command(arguments, folder)])
    return ended


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `init` has run."""
    folder = tmp_path_factory.mktemp("begun")
    ended = run(folder, "init", "here")
    assert ended.status == 0, ended.errors
    for step in ("1.", "2.", "3."):
        assert f"  {step} " in ended.output
    return folder / "here"


def test_secrets_are_fresh_and_private(begun: Path, tmp_path: Path) -> None:
    """`.env` is for its owner alone, and its three secrets are long, different and new."""
    assert stat.S_IMODE((begun / ".env").stat().st_mode) == 0o600
    assert run(tmp_path, "init").status == 0
    settings = [read_settings({}, folder / ".env") for folder in (begun, tmp_path)]
    tokens = {
        credential.token.get_secret_value()
        for one in settings
        for door in (one.api_token, one.amplitude_webhook_secret, one.clevertap_webhook_secret)
        for credential in door
    }
    assert len(tokens) == 6
    assert all(len(token) == 64 for token in tokens)


def test_nothing_is_overwritten(begun: Path) -> None:
    """A second `init` changes no byte, and says what it kept."""
    before = contents(begun)
    ended = run(begun, "init", "--json")
    assert ended.status == 0
    answer = json.loads(ended.output)
    assert answer["written"] == []
    assert {".env", "config/engine.toml", "config/copy/hi.toml"} <= set(answer["kept"])
    assert contents(begun) == before


def test_only_what_is_missing_is_written(begun: Path, tmp_path: Path) -> None:
    """A file of the user's own stays, what is missing comes beside it."""
    (tmp_path / ".env").write_text("PORT=3999\n")
    ended = run(tmp_path, "init")
    assert ended.status == 0
    assert "ENGINE_CONFIG=config" in ended.output
    assert (tmp_path / ".env").read_text() == "PORT=3999\n"
    assert (tmp_path / "config" / "engine.toml").is_file()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """Where a folder cannot be made, a line says so."""
    (tmp_path / "config").write_text("mine")
    ended = run(tmp_path, "init")
    assert ended.status == 1
    assert "config" in ended.errors
    assert (tmp_path / "config").read_text() == "mine"


def test_editors_find_the_schema(begun: Path) -> None:
    """Each file's first line names a schema that lies there and that the file fits."""
    files = sorted((begun / "config").rglob("*.toml"))
    assert len(files) == 9
    for path in files:
        line, _, _ = path.read_text().partition("\n")
        assert line.startswith(("#:schema ./", "#:schema ../"))
        schema = json.loads((path.parent / line.removeprefix("#:schema ")).read_text())
        errors = Draft7Validator(schema).iter_errors(tomllib.loads(path.read_text()))
        assert [error.message for error in errors] == []


def test_it_serves_at_once(begun: Path) -> None:
    """`serve` takes what `init` wrote, with its doors closed to who has no secret."""
    assert run(begun, "config", "check").output.startswith("config is right: ")
    with server_process(begun) as server:
        assert server.client.get("/api/stats").status_code == 401
        token = read_settings({}, begun / ".env").api_token[0].token.get_secret_value()
        bearer = {"Authorization": f"Bearer {token}"}
        assert server.client.get("/api/stats", headers=bearer).is_success
        shown = server.client.get("/health").json()["configuration"]
    checked = json.loads(run(begun, "config", "check", "--json").output)
    assert checked["valid"] is True
    assert checked["fingerprint"] == shown


def test_every_mistake_is_told(tmp_path: Path) -> None:
    """`config check` names file, key and mend of each mistake and ends with 1; --json too."""
    assert run(tmp_path, "init").status == 0
    engine = tmp_path / "config" / "engine.toml"
    engine.write_text(engine.read_text().replace("share = 0.05", "share = 5"))
    cohort = tmp_path / "config" / "cohorts" / "payment_failed.toml"
    cohort.write_text(cohort.read_text().replace("[goal]", "[gaol]"))

    people = run(tmp_path, "config", "check", "config")
    assert people.status == 1
    assert 'payment_failed.toml: gaol: there is no such key; did you mean "goal"?' in people.output
    assert "engine.toml: holdout.share: 5 does not fit" in people.output
    assert "2 mistakes" in people.errors

    programs = run(tmp_path, "config", "check", "config", "--json")
    assert programs.status == 1
    answer: dict[str, Any] = json.loads(programs.output)
    assert answer["valid"] is False
    assert [(one["file"], one["key"]) for one in answer["mistakes"]] == [
        ("cohorts/payment_failed.toml", "gaol"),
        ("engine.toml", "holdout.share"),
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["config", "check", "nowhere"], 1, "does not exist"),
        (["config", "schema", "combo"], 2, "engine"),
        (["config", "chekc"], 2, "check"),
    ],
)
def test_wrong_words(tmp_path: Path, arguments: list[str], status: int, says: str) -> None:
    """What is no folder, file or command is said with what there is."""
    ended = run(tmp_path, *arguments)
    assert ended.status == status
    assert says in ended.output + ended.errors


def test_the_schema_is_printed(begun: Path) -> None:
    """`config schema` prints what `init` wrote, one or all."""
    printed = json.loads(run(begun, "config", "schema", "cohort").output)
    assert printed == json.loads((begun / "config/schema/cohort.schema.json").read_text())
    assert set(json.loads(run(begun, "config", "schema").output)) == {"engine", "cohort", "copy"}
