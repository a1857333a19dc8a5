"""Secrets and people never show where they do not belong (RELIABILITY C5, C20, C21).

Every secret and every person here has a name that occurs nowhere else. The command itself runs,
is asked at each of its routes while all is well and after its tables have been taken away, and
then everything that it has said is searched: log, errors, metrics, headers, addresses.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from tests.acceptance.test_access_matrix import DOORS, NEEDED, SETTINGS
from tests.support.clevertap_double import ACCOUNT_ID, PASSCODE, CleverTapDouble
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort, write_configuration
from tests.support.postgres import shared_server
from tests.support.server import (
    Command,
    ServerProcess,
    eventually,
    run_commands,
    server_process,
)
from tests.support.start import live

from experiment_engine.settings import read_settings

SECRETS = {setting: f"canary-{setting.lower().replace('_', '-')}" for setting in SETTINGS}
LIMITED = "canary-limited-to-stats"
PERSON, NAME, MAIL = "canary-person-7f3a", "Canary Persephone", "canary@example.org"
ALL_SECRETS = (*SECRETS.values(), LIMITED, PASSCODE)
PEOPLE = (PERSON, NAME, MAIL)

# What no stranger may learn from an answer of ours.
INSIDE = re.compile(
    r"SELECT |INSERT |UPDATE |DELETE FROM|no such table|sqlite3?\.|sqlalchemy|psycopg|Traceback|"
    r'File "|site-packages|experiment_engine[/.]|\.py\b'
)


@dataclass
class Said:
    """All that the command has let out, but to those who asked for it by name."""

    texts: list[str] = field(default_factory=list)  # whatever a stranger or an operator reads
    errors: list[tuple[str, int, str]] = field(default_factory=list)  # route, status, body


@pytest.fixture(scope="module", params=["console", "json"])
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Said:
    """Return what a whole life lets out, with failures at every route at its end."""
    folder = tmp_path_factory.mktemp("canaries")
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["1s"], goal={"value": "revenue"})},
        copy={"push": {"helpful": {"*": {"title": "For {name}", "body": "Come back, {name}."}}}},
        placeholders={"name": {"from": "event_properties.name", "default": "you"}},
    )
    found = Said()
    with CleverTapDouble(folder / "ledger.jsonl", fsync=False) as double:
        environ = {
            **live(double),
            **SECRETS,
            "API_TOKEN": f"{SECRETS['API_TOKEN']},stats:{LIMITED}",
            "ENGINE_CONFIG": str(config),
            "DATABASE_URL": f"sqlite:///{folder / 'engine.db'}",
            "LOG_FORMAT": request.param,
        }
        with server_process(folder, environ) as server:
            _live(server)
            eventually(lambda: "[SENT]" in server.output or "sent" in server.output)
            double.behaviour = "400"
            _live(server, user=f"{PERSON}-refused")
            eventually(lambda: "[ERROR]" in server.output)
            found.texts.append(_asked(server, "GET", "/metrics").text)
            _ask_everywhere(server, found, keep=False)
            _take_tables_away(folder / "engine.db")
            _ask_everywhere(server, found, keep=True)
            server.stop()
            found.texts += [server.output, server.errors]
    return found


def _live(server: ServerProcess, user: str = PERSON) -> None:
    """Let a person come, be written to, open, convert and be wrongly reported."""
    event = {
        "event_type": TRIGGER,
        "user_id": user,
        "event_properties": {"name": NAME, "mail": MAIL},
        "user_properties": {"email": MAIL},
    }
    goal = {**event, "event_type": GOAL, "event_properties": {"revenue": 3, "mail": MAIL}}
    for path, body in (
        ("/webhook/amplitude", event),
        ("/webhook/amplitude", {**event, "user_id": [PERSON]}),
        ("/webhook/opened", {"user_id": user}),
        ("/webhook/amplitude", {**goal, "user_id": f"{user}-other"}),
        ("/webhook/opened", {"user_id": user, "experiment_id": PERSON}),
    ):
        _asked(server, "POST", path, body)
    _asked(server, "POST", "/api/trigger", {"user_id": f"{user}-by-hand", "cohort": COHORT})


def _asked(server: ServerProcess, method: str, path: str, body: object = None) -> httpx2.Response:
    secret = SECRETS[DOORS.get(path, "API_TOKEN")]
    bearer = {"Authorization": f"Bearer {secret}", "connection": "close"}
    return server.client.request(method, path, json=body, headers=bearer)


def _ask_everywhere(server: ServerProcess, found: Said, *, keep: bool) -> None:
    """Ask at each route, as the one who may, as one who may not, and as a stranger."""
    filled = {"experiment_id": PERSON, "user_id": PERSON, "cohort": COHORT, "name": PERSON}
    filled["source"] = "amplitude"
    body = {"user_id": PERSON, "cohort": COHORT, "event_type": TRIGGER, "properties": MAIL}
    for method, route in sorted(NEEDED):
        path = re.sub(r"\{(\w+)\}", lambda name: filled[name[1]], route)
        if route == "/events/stream" or (not keep and method == "DELETE"):
            continue
        sent = None if method == "GET" else body
        answer = _asked(server, method, path, sent)
        if keep:
            found.errors.append((f"{method} {route}", answer.status_code, answer.text))
        for wrong in (LIMITED, f"{LIMITED}x", None):
            bearer = {"connection": "close"}
            bearer |= {"Authorization": f"Bearer {wrong}"} if wrong else {}
            refused = server.client.request(method, path, json=sent, headers=bearer)
            if refused.status_code in (401, 403):
                found.texts.append(refused.text + str(refused.headers))


def _take_tables_away(database: Path) -> None:
    """Rename every table that holds what happened: nothing of it can be read or written."""
    with closing(sqlite3.connect(database, timeout=20, isolation_level=None)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        for (name,) in names:
            if name in ("alembic_version", "meta"):  # so that a request gets as far as it can
                continue
            connection.execute(f"ALTER TABLE {name} RENAME TO gone_{name}")


def test_failures_were_forced_at_the_routes(said: Said) -> None:
    """Else the other tests would look at nothing."""
    failed = {route for route, status, _ in said.errors if status >= 500}
    assert len(failed) > 35, failed
    assert {"POST /webhook/amplitude", "POST /api/trigger", "GET /api/stats", "GET /"} <= failed


def test_an_error_shows_nothing_of_the_inside(said: Said) -> None:
    """No path, no SQL, no stack: a code, and what a person can do."""
    for route, status, text in said.errors:
        if status >= 400:
            assert not INSIDE.search(text), (route, status, text[:500])
            assert not any(canary in text for canary in (*ALL_SECRETS, NAME, MAIL)), (route, text)


def test_no_secret_is_said(said: Said) -> None:
    """Not in a log line, not in a stack, not to those who are refused, not in a metric."""
    for text in [*said.texts, *(text for _, _, text in said.errors)]:
        assert not [secret for secret in ALL_SECRETS if secret in text]
    assert ACCOUNT_ID not in "".join(said.texts)


def test_no_person_is_said(said: Said) -> None:
    """The log knows experiments; whoever may see the person finds them at /api/experiments."""
    for text in said.texts:
        lines = [line for line in text.splitlines() if any(canary in line for canary in PEOPLE)]
        assert lines == []


def test_nothing_prints_its_secrets() -> None:
    """`repr` and `str` of settings and of all that they hold, and of what is built on them."""
    settings = read_settings(
        {
            **SECRETS,
            "CLEVERTAP_ACCOUNT_ID": ACCOUNT_ID,
            "CLEVERTAP_PASSCODE": PASSCODE,
            "DATABASE_URL": "postgresql://somebody:canary-of-the-database@127.0.0.1/x",
        },
        env_file=None,
    )
    printed = [repr(settings), str(settings), f"{settings!r}"]
    printed += [repr(settings.api_token), str(settings.api_token[0])]
    for text in printed:
        assert "canary" not in text
        assert PASSCODE not in text


def commands(folder: Path) -> Iterator[Command]:
    """Return commands that cannot do what they are told, with secrets in what they are told."""
    port = shared_server().port
    for url in (
        "postgresql://somebody:canary-of-the-database@127.0.0.1:1/x",
        f"postgresql://somebody:canary-of-the-database@127.0.0.1:{port}/none",
        "postgresql://somebody:canary-of-the-database@127.0.0.1:port/x",
        "mysql://somebody:canary-of-the-database@127.0.0.1/x",
    ):
        for arguments in (
            ["serve"],
            ["worker"],
            ["migrate"],
            ["rebuild"],
            ["evaluate"],
            ["doctor"],
        ):
            yield Command(arguments, folder, {**SECRETS, "DATABASE_URL": url})
    for setting, secret in SECRETS.items():
        for wrong in (f"{secret},,", f"nobody:{secret}", f"{secret} x", f"{secret},{secret}"):
            yield Command(["serve"], folder, {setting: wrong})
    account = {"CLEVERTAP_PASSCODE": "canary-passcode", "CLEVERTAP_BASE_URL": "http://a:canary@b"}
    yield Command(["serve"], folder, account)


def test_a_start_that_fails_says_no_secret(tmp_path: Path) -> None:
    """Neither a wrong setting nor a database that cannot be reached repeats what was written."""
    asked = list(commands(tmp_path))
    for command, ended in zip(asked, run_commands(asked), strict=True):
        assert ended.status != 0, command
        assert "canary" not in ended.output + ended.errors, command
