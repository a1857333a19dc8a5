"""`doctor`: what it sees, how it says to mend it, and that it changes and sends nothing."""

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.postgres import a_database
from tests.support.server import Command, Ended, free_port, run_commands, server_process
from tests.support.start import live

from experiment_engine.entrypoints.checkup.partners import of_providers
from experiment_engine.settings import read_settings

Checks = dict[str, dict[str, str]]

HOUR = 3_600.0
SECRETS = {
    "API_TOKEN": "token-0123456789abcdef",
    "AMPLITUDE_WEBHOOK_SECRET": "amplitude-0123456789abcdef",
    "CLEVERTAP_WEBHOOK_SECRET": "clevertap-0123456789abcdef",
}


def run(folder: Path, *words: str, **environ: str) -> Ended:
    (ended,) = run_commands([Command(["doctor", *words], folder, environ)])
    return ended


def checks(folder: Path, *words: str, **environ: str) -> Checks:
    """Ask, and return the findings by name; the exit status says whether one is wrong."""
    ended = run(folder, "--json", *words, **environ)
    answer: Any = json.loads(ended.output)
    assert ended.status == (0 if answer["well"] else 1), ended.errors
    states = {one["state"] for one in answer["checks"]}
    assert answer["well"] is ("wrong" not in states)
    assert all(one["mend"] for one in answer["checks"] if one["state"] == "wrong")
    return {one["check"]: one for one in answer["checks"]}


@pytest.fixture
def live_to(tmp_path: Path, double: CleverTapDouble) -> dict[str, str]:
    """Return settings that send to a double."""
    config = write_configuration(tmp_path / "configuration")
    return {**live(double), **SECRETS, "ENGINE_CONFIG": str(config)}


@pytest.fixture
def doubles(tmp_path: Path) -> Iterator[dict[str, CleverTapDouble]]:
    """Return two regions; the account is at home in sg1."""
    with (
        CleverTapDouble(tmp_path / "in1", account=("another", "x"), fsync=False) as in1,
        CleverTapDouble(tmp_path / "sg1", fsync=False) as sg1,
    ):
        yield {"in1": in1, "sg1": sg1}


def test_all_is_well_beside_a_running_server(
    tmp_path: Path, double: CleverTapDouble, live_to: dict[str, str]
) -> None:
    """Every check is passed, and neither database nor provider has anything afterwards."""
    with server_process(tmp_path, live_to) as server:
        found = checks(tmp_path, "--public-url", server.url, **live_to)
        bearer = {"Authorization": f"Bearer {SECRETS['API_TOKEN']}"}
        kept = server.client.get("/api/quarantine", headers=bearer).json()
    assert "cursor" not in found["clevertap"]["saw"]
    for name in (
        *("settings", ".env", "configuration", "copy en", "channel push", *SECRETS),
        *("database", "disk", "migrations", "clock of the database", "clock of clevertap"),
        *("clevertap", "public address", "/webhook/amplitude", "/webhook/converted"),
    ):
        assert found[name]["state"] == "ok", found[name]
    assert found["consent push"]["state"] == "note"
    assert "assumed" in found["consent push"]["saw"]
    assert double.ledger() == []
    assert {call.path for call in double.calls()} == {"/1/events.json"}
    assert kept["quarantine"] == []
    with sqlite3.connect(tmp_path / "data" / "experiment_engine.db") as reader:
        assert reader.execute("SELECT count(*) FROM event").fetchone() == (0,)


def test_a_newcomer_is_told_what_is_next(tmp_path: Path) -> None:
    """With nothing set up nothing is wrong, nothing is made, and people can read it."""
    ended = run(tmp_path)
    assert ended.status == 0, ended.errors
    assert re.search(r"\d+ ok, \d+ note, 0 wrong", ended.output)
    assert "runs dry" in ended.output
    assert list(tmp_path.iterdir()) == []


def test_credentials_that_nobody_knows(tmp_path: Path, live_to: dict[str, str]) -> None:
    """A wrong passcode is told as such, and never repeated."""
    live_to["CLEVERTAP_PASSCODE"] = "canary-passcode"
    found = checks(tmp_path, **live_to)
    assert found["clevertap"]["state"] == "wrong"
    assert "401" in found["clevertap"]["saw"]
    assert "canary" not in json.dumps(found)


def test_a_region_mistake_looks_like_bad_credentials(
    doubles: dict[str, CleverTapDouble],
) -> None:
    """Only where the own region refuses are the others asked, and the right one is named."""
    regions = {name: double.base_url for name, double in doubles.items()}
    given = live(doubles["in1"])
    del given["CLEVERTAP_BASE_URL"]
    settings = read_settings({**given, "CLEVERTAP_REGION": "in1"}, None)
    found = {one.check: one for one in of_providers(settings, regions)}
    assert found["clevertap"].state == "wrong"
    assert found["region"].mend == "set CLEVERTAP_REGION=sg1"

    before = len(doubles["in1"].calls())
    settings = read_settings({**given, "CLEVERTAP_REGION": "sg1"}, None)
    found = {one.check: one for one in of_providers(settings, regions)}
    assert found["clevertap"].state == "ok"
    assert "region" not in found
    assert len(doubles["in1"].calls()) == before

    strangers = {"CLEVERTAP_PASSCODE": "unknown", "CLEVERTAP_REGION": "in1"}
    settings = read_settings({**given, **strangers}, None)
    (_, region) = of_providers(settings, regions)
    assert region.saw == "no other region knows the account either: sg1 unknown"


@pytest.mark.parametrize(
    ("behaviour", "state"),
    [("403", "wrong"), ("429", "note"), ("503", "wrong"), ("html_200", "wrong"), ("400", "ok")],
)
def test_how_clevertap_may_answer(double: CleverTapDouble, behaviour: str, state: str) -> None:
    """Only what proves that the account is known counts so."""
    double.behaviour = behaviour
    found = {one.check: one for one in of_providers(read_settings(live(double), None))}
    assert found["clevertap"].state == state


@pytest.mark.parametrize("behaviour", ["401", "403"])
def test_both_refusals_speak_of_the_credentials(
    doubles: dict[str, CleverTapDouble], behaviour: str
) -> None:
    """Whichever refusal CleverTap chooses, the other regions are asked."""
    doubles["in1"].behaviour = doubles["sg1"].behaviour = behaviour
    given = live(doubles["in1"]) | {"CLEVERTAP_REGION": "sg1"}
    del given["CLEVERTAP_BASE_URL"]
    regions = {name: double.base_url for name, double in doubles.items()}
    found = {one.check: one for one in of_providers(read_settings(given, None), regions)}
    assert found["clevertap"].mend.startswith("copy account id and passcode")
    assert found["region"].state == "note"


def test_clevertap_is_away() -> None:
    """Where nobody answers, the way out of this machine is named."""
    away = f"http://127.0.0.1:{free_port()}"
    given = {"CLEVERTAP_ACCOUNT_ID": "a", "CLEVERTAP_PASSCODE": "b", "CLEVERTAP_BASE_URL": away}
    (found,) = of_providers(read_settings(given, None))
    assert (found.state, "connection_refused" in found.saw) == ("wrong", True)


def test_clocks_that_disagree(tmp_path: Path) -> None:
    """A provider's clock an hour away is told; whose it is cannot be."""
    with CleverTapDouble(
        tmp_path / "ledger", fsync=False, clock=lambda: time.time() + HOUR
    ) as double:
        found = {one.check: one for one in of_providers(read_settings(live(double), None))}
    assert found["clock of clevertap"].state == "wrong"
    assert re.match(r"(3599|3600)\.\d s ahead of this machine's", found["clock of clevertap"].saw)


def test_secrets_that_can_be_guessed_or_read(tmp_path: Path) -> None:
    """Short, dull and shared secrets are told by the door's name, with nothing of them."""
    env = tmp_path / ".env"
    env.write_text(
        "API_TOKEN=stats:hunter2\nAMPLITUDE_WEBHOOK_SECRET=" + "ab" * 20 + "\n"
        "CLEVERTAP_WEBHOOK_SECRET=0123456789abcdefghijkl\n"
        "SEGMENT_WEBHOOK_SECRET=0123456789abcdefghijkl\n"
    )
    env.chmod(0o644)
    found = checks(tmp_path)
    assert found[".env"]["state"] == "wrong"
    assert found["API_TOKEN"]["saw"] == "entry 1 has 7 characters: can be guessed"
    assert found["AMPLITUDE_WEBHOOK_SECRET"]["saw"] == "entry 1 has 2 different characters"
    assert found["SEGMENT_WEBHOOK_SECRET"]["saw"] == "the same secret as CLEVERTAP_WEBHOOK_SECRET"
    assert "hunter2" not in json.dumps(found)
    env.chmod(0o600)
    assert checks(tmp_path)[".env"]["state"] == "ok"


def test_a_setting_that_cannot_be_read(tmp_path: Path) -> None:
    """The mistake is told as `serve` tells it."""
    found = checks(tmp_path, PORT="seven")
    assert found["settings"]["saw"].startswith('PORT: "seven" is no port')


def test_a_setting_that_is_misspelt(tmp_path: Path) -> None:
    """A name in `.env` that is nearly a setting is told, with that one; others are not."""
    (tmp_path / ".env").write_text("ENGINE_CONFG=config\nOTHER_PROGRAM=1\nPORT=0\n")
    found = checks(tmp_path)
    assert found["ENGINE_CONFG"]["mend"] == "ENGINE_CONFIG?"
    assert "OTHER_PROGRAM" not in found


def test_a_configuration_that_is_wrong(tmp_path: Path) -> None:
    """Every mistake is told, by file and key."""
    config = write_configuration(tmp_path / "configuration", holdout={"share": 5})
    found = checks(tmp_path, ENGINE_CONFIG=str(config))
    assert "engine.toml: holdout.share" in found["configuration"]["saw"]


def test_languages_without_their_texts(tmp_path: Path) -> None:
    """A language with some of its texts says how many, an example, and what stands in."""
    both = {COHORT: cohort(angle=["helpful", "urgent"])}
    config = write_configuration(tmp_path / "configuration", cohorts=both)
    (config / "copy" / "hi.toml").write_text(
        '[push.helpful."*"]\ntitle = "Namaste"\nbody = "Wapas aaiye."\n'
    )
    found = checks(tmp_path, ENGINE_CONFIG=str(config))
    assert found["copy en"]["saw"] == "all 2 messages have a text"
    assert found["copy hi"]["state"] == "note"
    assert found["copy hi"]["saw"] == (
        "1 of 2 messages have a text; the others go out in en,"
        f" such as push|urgent|none of {COHORT}"
    )


def test_a_database_of_another_version(tmp_path: Path, live_to: dict[str, str]) -> None:
    """The command that mends it is named."""
    with server_process(tmp_path, live_to):
        pass
    with sqlite3.connect(tmp_path / "data" / "experiment_engine.db") as writer:
        writer.execute("UPDATE alembic_version SET version_num = '0001'")
    found = checks(tmp_path, **live_to)
    assert found["migrations"]["state"] == "wrong"
    assert found["migrations"]["mend"] == "experiment-engine migrate"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Something else under the database's name is told and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("mine, and long enough to be taken for a header of a database" * 20)
    found = checks(tmp_path, DATABASE_URL=f"sqlite:///{path}")
    assert found["database"]["state"] == "wrong"
    assert path.read_text().startswith("mine")


def test_postgresql(tmp_path: Path) -> None:
    """A server's version, clock and schema are seen; one that is away is told, no secret is."""
    with a_database() as url:
        found = checks(tmp_path, DATABASE_URL=url)
        assert found["database"]["saw"].startswith("PostgreSQL ")
        assert found["clock of the database"]["state"] == "ok"
        assert found["migrations"]["state"] == "ok"
    away = f"postgresql://somebody:canary@127.0.0.1:{free_port()}/none"
    found = checks(tmp_path, DATABASE_URL=away)
    assert found["database"]["state"] == "wrong"
    assert "canary" not in json.dumps(found)


def test_a_door_that_is_not_ours(tmp_path: Path, live_to: dict[str, str]) -> None:
    """A server with other secrets, an open one, and an address in the open are told apart."""
    with server_process(tmp_path, live_to) as server:
        other = {**live_to, "AMPLITUDE_WEBHOOK_SECRET": "another-0123456789abcdef"}
        found = checks(tmp_path, "--public-url", server.url, **other)
        assert found["/webhook/amplitude"]["saw"] == "answers 401 to the right secret"
        assert found["/webhook/opened"]["state"] == "ok"
        assert "running server" not in found
    with server_process(tmp_path) as server:
        found = checks(tmp_path, "--public-url", server.url)
        assert found["/webhook/amplitude"]["saw"] == "open to everybody"
        found = checks(tmp_path, "--public-url", server.url, **live_to)
        assert "in mode dry_run; here are" in found["running server"]["saw"]
    found = checks(tmp_path, "--public-url", "http://engine.example.com")
    assert "not encrypted" in found["public address"]["saw"]
    found = checks(tmp_path, "--public-url", f"http://127.0.0.1:{free_port()}")
    assert found["public address"]["state"] == "wrong"
    assert run(tmp_path, "--public-url", "engine.example.com/x").status == 2


def test_a_public_address_that_is_somebody_else(tmp_path: Path, double: CleverTapDouble) -> None:
    """What answers without being the engine is told."""
    found = checks(tmp_path, "--public-url", double.base_url)
    assert found["public address"]["state"] == "wrong"
    assert "not the engine" in found["public address"]["saw"]
