"""The API does what its OpenAPI description says, and nothing else (RELIABILITY T12).

schemathesis reads `/openapi.json` of the running engine, webhooks included, and asks with what
fits the description and what does not. All of its checks are on: no 5xx, no answer that is not
described, nothing refused that fits and nothing taken that does not, nothing without credentials.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine import RunningEngine, running_engine

from experiment_engine.settings import Settings

SEED = "20261122"
SECRET = "the-only-secret"
EVERY_DOOR = {
    name.upper(): SECRET
    for name in Settings.model_fields
    if name == "api_token" or name.endswith("_webhook_secret")
}
OPEN = {"GET /health", "GET /ready"}


@dataclass(frozen=True)
class Explored:
    """What schemathesis found."""

    requests: int
    operations: int
    text: str
    complete: bool


def explored(
    engine: RunningEngine, folder: Path, examples: int, *options: str, seed: str = SEED
) -> Explored:
    """Ask the engine whatever schemathesis can think of."""
    report = folder / f"report-{seed}.json"
    ended = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run"),
            *(f"{engine.url}/openapi.json", "--checks", "all", "--max-examples", str(examples)),
            *("--seed", seed, "--continue-on-failure", "--request-timeout", "30"),
            *("--report", "json", "--report-json-path", report, "--tls-verify", "false"),
            *("--suppress-health-check", "all", "--workers", "1", *options),
        ],
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
    )
    assert report.exists(), ended.stdout + ended.stderr
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    requests = found["test_cases"]["generated"]
    print(f"schemathesis: {requests} requests, seed {seed}")
    failures = {(failure["code"], *failure["operations"]) for failure in found["failures"]}
    assert not failures, f"{failures}\n{ended.stdout}"
    assert not found["errors"], ended.stdout
    return Explored(
        requests, found["operations"]["tested"], ended.stdout, found["complete"] is True
    )


def test_everything_does_what_is_described(tmp_path: Path) -> None:
    """With credentials: every operation, in every phase."""
    with running_engine(tmp_path, environ=EVERY_DOOR) as engine:
        found = explored(engine, tmp_path, 15, "-H", f"Authorization: Bearer {SECRET}")
        paths = engine.client.get("/openapi.json").json()["paths"]
    assert found.operations == sum(len(operations) for operations in paths.values()) >= 25
    assert found.requests > 800


def test_without_credentials_nothing_but_the_open_routes_answers(tmp_path: Path) -> None:
    """Whatever is asked, and however: 401, but for health and readiness."""
    with running_engine(tmp_path, environ=EVERY_DOOR) as engine:
        described = engine.client.get("/openapi.json").json()["paths"]
        for path, operations in described.items():
            for method, operation in operations.items():
                is_open = f"{method.upper()} {path}" in OPEN
                assert ("security" not in operation) is is_open
        found = explored(engine, tmp_path, 5, "--phases", "examples,coverage,fuzzing")
        assert engine.engine.report.reading.quarantine_size() == 0
    assert found.requests > 300


@pytest.mark.long
def test_twenty_thousand_requests(tmp_path: Path) -> None:
    """As the gate, until 20,000 requests have been made, each round with a seed of its own."""
    with running_engine(tmp_path, environ=EVERY_DOOR) as engine:
        requests = 0
        for number in range(60):
            bearer = ("-H", f"Authorization: Bearer {SECRET}")
            requests += explored(
                engine, tmp_path, 100, *bearer, seed=str(int(SEED) + number)
            ).requests
            if requests >= 20_000:
                break
    print(f"{requests} requests")
    assert requests >= 20_000
