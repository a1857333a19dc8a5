"""Health, readiness, metrics and the description of the API (CONTRACT 5)."""

import sqlite3
from contextlib import closing

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.engine import RunningEngine
from tests.support.events import somebody
from tests.support.start import Start


def test_health(shared: RunningEngine) -> None:
    """200 and `ok` while the process lives."""
    answer = shared.client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


def test_ready(start: Start) -> None:
    """200 with each check by name when all is well."""
    answer = start(worker_runs=True).client.get("/ready")
    assert answer.status_code == 200
    assert answer.json()["checks"] == dict.fromkeys(
        ("database", "migrations", "worker", "configuration"), "ok"
    )


def test_not_ready_when_the_worker_has_died(start: Start) -> None:
    """503 names the check that fails."""
    engine = start(worker_runs=True)
    engine._worker.stop()
    answer = engine.client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["worker"] != "ok"
    assert answer.json()["checks"]["database"] == "ok"


def test_not_ready_without_a_database(start: Start) -> None:
    """503 when the database does not answer as it should, and back without hands."""
    engine = start(worker_runs=True)
    path = start.folder / "engine.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("ALTER TABLE meta RENAME TO gone")
        assert engine.client.get("/ready").status_code == 503
        assert engine.client.get("/health").status_code == 200
        other.execute("ALTER TABLE gone RENAME TO meta")
    assert engine.client.get("/ready").status_code == 200


def test_a_failing_provider_is_shown_and_no_reason(start: Start, double: CleverTapDouble) -> None:
    """The provider's state stands in `/ready` and does not make it unready."""
    double.behaviour = "400"
    engine = start(to=double)
    for _ in range(20):
        engine.scheduled(somebody())
    engine.deliver(after="2min")
    answer = engine.client.get("/ready")
    assert answer.status_code == 200
    assert answer.json()["provider"]["channels"]["push"]["failing"] is True


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_monitors_may_ask_by_head(shared: RunningEngine, path: str) -> None:
    """Some ask for the head alone; a 405 would look to them like an engine that is down."""
    answer = shared.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_metrics(start: Start) -> None:
    """Prometheus' text, with what was taken in and delivered."""
    engine = start()
    engine.scheduled("usr_1")
    engine.deliver(after="2min")
    answer = engine.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE" in answer.text
    assert "usr_1" not in answer.text


def test_the_description(shared: RunningEngine) -> None:
    """`/openapi.json` names every route, the webhooks too, and `/docs` is readable."""
    paths = shared.get("/openapi.json")["paths"]
    for method, path in (
        ("post", "/webhook/amplitude"),
        ("post", "/webhook/opened"),
        ("post", "/webhook/converted"),
        ("post", "/webhook/opted-out"),
        ("post", "/api/trigger"),
        ("get", "/api/stats"),
        ("get", "/api/experiments/{experiment_id}"),
        ("get", "/api/users/{user_id}"),
        ("delete", "/api/users/{user_id}"),
        ("post", "/api/users/{user_id}/opt-out"),
        ("delete", "/api/users/{user_id}/opt-out"),
        ("post", "/api/pause"),
        ("post", "/api/resume"),
        ("get", "/metrics"),
        ("get", "/health"),
        ("get", "/ready"),
    ):
        assert method in paths[path], path
    assert shared.client.get("/docs").headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing/here", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/webhook/amplitude", 405),
        ("DELETE", "/webhook/opened", 405),
        ("GET", "/api/trigger", 405),
        ("POST", "/api/stats", 405),
    ],
)
def test_wrong_addresses(shared: RunningEngine, method: str, path: str, status: int) -> None:
    """404 and 405 have the shape that every error has."""
    answer = shared.client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "message"}
