"""Who may come in (CONTRACT 3): loopback without secrets; secrets, lists and scopes with them."""

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.configuration import COHORT
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import amplitude_event, somebody

SECRETS = {
    "API_TOKEN": "master-token, stats:stats-token, trigger+stats:both-token, trigger:a:b",
    "AMPLITUDE_WEBHOOK_SECRET": "amplitude-old,amplitude-new",
    "CLEVERTAP_WEBHOOK_SECRET": "clevertap-all, engagement:opens-only, conversion:goals-only",
}
AMPLITUDE, OPENED, CONVERTED = "/webhook/amplitude", "/webhook/opened", "/webhook/converted"
WEBHOOKS = (AMPLITUDE, OPENED, CONVERTED, "/webhook/opted-out")
GUARDED = [
    *(("POST", path) for path in WEBHOOKS),
    ("POST", "/api/trigger"),
    ("GET", "/api/stats"),
    ("GET", "/api/experiments/x"),
    ("GET", "/api/users/x"),
    ("DELETE", "/api/users/x"),
    ("POST", "/api/users/x/opt-out"),
    ("DELETE", "/api/users/x/opt-out"),
    ("POST", "/api/pause"),
    ("POST", "/api/resume"),
    ("GET", "/api/quarantine"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine with secrets on every door."""
    with running_engine(tmp_path_factory.mktemp("closed"), environ=SECRETS) as engine:
        yield engine


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def basic(password: str, user: str = "clevertap") -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def asked(engine: RunningEngine, method: str, path: str, headers: dict[str, str]) -> int:
    body: Any = {"user_id": somebody(), "cohort": COHORT} if method == "POST" else None
    if path == AMPLITUDE:
        body = amplitude_event(somebody(), engine.clock.iso())
    return engine.client.request(method, path, json=body, headers=headers).status_code


def rows(engine: RunningEngine) -> dict[str, list[Any]]:
    """Return the content of every table."""
    path: Path = engine.embedded._path
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name: connection.execute(f'SELECT * FROM "{name}"').fetchall()
            for (name,) in names.fetchall()
        }


# Without secrets


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "engine.example.com"},
        {"Host": "192.168.1.5:3001"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "localhost.example.com"},
        {"Host": "[fe80::1]:3001"},
        {"Forwarded": "for=192.0.2.60"},
        {"Via": "1.1 proxy"},
        {"X-Forwarded-For": "192.0.2.60"},
        {"X-Forwarded-Host": "engine.example.com"},
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Port": "443"},
        {"X-Forwarded-Server": "proxy"},
    ],
    ids=lambda headers: next(iter(headers.items()))[0] + "=" + next(iter(headers.values())),
)
def test_open_for_this_machine_only(
    shared: RunningEngine, method: str, path: str, headers: dict[str, str]
) -> None:
    """Without a token a request from a proxy, or for another host's name, gets 403."""
    assert asked(shared, method, path, headers) == 403


@pytest.mark.parametrize("host", ["127.0.0.1:3001", "localhost", "localhost:3001", "[::1]:3001"])
@pytest.mark.parametrize("path", [AMPLITUDE, "/api/trigger"])
def test_loopback_names(shared: RunningEngine, path: str, host: str) -> None:
    """Every name of this machine's own loopback is let in."""
    assert asked(shared, "POST", path, {"Host": host}) in (200, 201)


def test_403_leaves_no_trace(shared: RunningEngine) -> None:
    """What is refused changes nothing."""
    before = rows(shared)
    for path in (*WEBHOOKS, "/api/trigger", "/api/pause"):
        asked(shared, "POST", path, {"Host": "engine.example.com"})
    assert rows(shared) == before


# With secrets


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer("master-token, stats:stats-token"),
        {"Authorization": "Bearer"},
        {"Authorization": "master-token"},
        {"Authorization": "Basic !!!"},
        {"X-Webhook-Secret": "wrong"},
        {"X-Webhook-Secret": ""},
        basic("wrong"),
    ],
    ids=str,
)
def test_401(closed: RunningEngine, method: str, path: str, headers: dict[str, str]) -> None:
    """Without the right secret the answer is 401."""
    assert asked(closed, method, path, headers) == 401


def test_401_is_an_error_like_any_other(closed: RunningEngine) -> None:
    """401 has the one shape of errors and repeats no secret."""
    answer = closed.post(AMPLITUDE, {}, Authorization="Bearer guessed-secret")
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message"}
    assert "guessed-secret" not in answer.text
    assert "amplitude-old" not in answer.text


def test_401_says_what_to_show(closed: RunningEngine) -> None:
    """Clients that wait for it are told how; a browser is asked for no password by the API."""
    ways = closed.post(AMPLITUDE, {}).headers["www-authenticate"]
    assert ways.startswith("Bearer, Basic")
    assert closed.client.get("/api/stats").headers["www-authenticate"] == "Bearer"


def test_401_leaves_no_trace(closed: RunningEngine) -> None:
    """With a wrong secret nothing is kept, not even in quarantine."""
    before = rows(closed)
    for path in (*WEBHOOKS, "/api/trigger", "/api/pause"):
        asked(closed, "POST", path, bearer("wrong"))
        closed.post(path, b"not json", Authorization="Bearer wrong")
    assert rows(closed) == before


@pytest.mark.parametrize("secret", ["amplitude-old", "amplitude-new"])
@pytest.mark.parametrize("form", ["bearer", "header"])
def test_amplitudes_secret(closed: RunningEngine, secret: str, form: str) -> None:
    """Each secret of the list opens the door, as a bearer token or in X-Webhook-Secret."""
    headers = bearer(secret) if form == "bearer" else {"X-Webhook-Secret": secret}
    assert asked(closed, "POST", AMPLITUDE, headers) == 200


@pytest.mark.parametrize("path", WEBHOOKS[1:])
@pytest.mark.parametrize(
    "headers",
    [bearer("clevertap-all"), {"X-Webhook-Secret": "clevertap-all"}, basic("clevertap-all")],
    ids=["bearer", "header", "basic"],
)
def test_clevertaps_secret(closed: RunningEngine, path: str, headers: dict[str, str]) -> None:
    """CleverTap may also use HTTP Basic, with the secret as the password."""
    assert asked(closed, "POST", path, headers) == 200


@pytest.mark.parametrize(
    ("secret", "path"),
    [
        ("amplitude-old", OPENED),
        ("amplitude-old", "/api/trigger"),
        ("clevertap-all", AMPLITUDE),
        ("clevertap-all", "/api/trigger"),
        ("master-token", AMPLITUDE),
        ("master-token", OPENED),
    ],
)
def test_each_door_has_its_own_secret(closed: RunningEngine, secret: str, path: str) -> None:
    """A secret of one door does not open another."""
    assert asked(closed, "POST", path, bearer(secret)) == 401


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("master-token", "POST", "/api/trigger", 201),
        ("master-token", "GET", "/api/stats", 200),
        ("master-token", "GET", "/metrics", 200),
        ("stats-token", "GET", "/api/stats", 200),
        ("stats-token", "POST", "/api/trigger", 403),
        ("stats-token", "POST", "/api/pause", 403),
        ("stats-token", "DELETE", "/api/users/x", 403),
        ("stats-token", "POST", "/api/users/x/opt-out", 403),
        ("both-token", "GET", "/api/stats", 200),
        ("both-token", "POST", "/api/trigger", 201),
        ("both-token", "POST", "/api/resume", 403),
        ("a:b", "POST", "/api/trigger", 201),
        ("a:b", "GET", "/api/stats", 403),
    ],
)
def test_scopes_of_the_api(
    closed: RunningEngine, token: str, method: str, path: str, status: int
) -> None:
    """A token with scopes is for these only; a bare one is for everything."""
    assert asked(closed, method, path, bearer(token)) == status


@pytest.mark.parametrize(
    ("secret", "path", "status"),
    [
        ("opens-only", OPENED, 200),
        ("opens-only", CONVERTED, 403),
        ("goals-only", CONVERTED, 200),
        ("goals-only", OPENED, 403),
    ],
)
def test_scopes_of_the_webhooks(
    closed: RunningEngine, secret: str, path: str, status: int
) -> None:
    """A webhook's secret can be limited to opens or to conversions."""
    assert asked(closed, "POST", path, basic(secret)) == status


def test_with_secrets_a_proxy_may_stand_before(closed: RunningEngine) -> None:
    """Where secrets are set, the host's name and a proxy's headers do not matter."""
    headers = {"Host": "engine.example.com", "X-Forwarded-For": "192.0.2.60", "Via": "1.1 p"}
    assert asked(closed, "GET", "/api/stats", bearer("master-token") | headers) == 200
    assert asked(closed, "POST", AMPLITUDE, bearer("amplitude-new") | headers) == 200


def test_health_needs_no_secret(closed: RunningEngine) -> None:
    """Whoever watches the process does not need a token."""
    with httpx2.Client(base_url=closed.url, trust_env=False, verify=False) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 200
