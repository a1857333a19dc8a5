"""A pause under load: a second after its answer nothing of what it names is claimed any more."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import psycopg
import pytest
from tests.support.clevertap_double import CleverTapDoubleProcess
from tests.support.configuration import cohort, write_configuration
from tests.support.fleet import a_fleet
from tests.support.postgres import a_database, shared_server
from tests.support.server import eventually, server_process
from tests.support.start import live

SEED = 20261126
FEW, MANY = 3, 20
COHORTS, CHANNELS = ("one", "two"), ("push", "whatsapp")
SCOPES: Sequence[dict[str, str]] = ({}, {"cohort": "one"}, {"channel": "push"}, {"cohort": "two"})
PATIENCE = 60.0  # seconds; only a failing test waits that long
SECOND = 1_000  # milliseconds

CLAIMS = (
    "SELECT attempt.started_at, experiment.cohort, experiment.channel FROM attempt"
    " JOIN experiment ON experiment.id = attempt.experiment_id"
)


class Claim(NamedTuple):
    """When a message was handed to a call, and of which cohort and channel it was."""

    at: int
    cohort: str
    channel: str


class Trial(NamedTuple):
    """One pause: what it named, when it was answered, and when it was about to end."""

    scope: dict[str, str]
    answered_at: float
    ended_at: float

    def names(self, claim: Claim) -> bool:
        """Say whether the pause holds for what was claimed."""
        return all(getattr(claim, kind) == name for kind, name in self.scope.items())


@dataclass
class Running:
    """A started engine: where it listens, and what it claimed so far."""

    urls: Sequence[str]
    claims: Callable[[], list[Claim]]

    def post(self, place: int, path: str, body: Any) -> None:
        """Post to one of its addresses."""
        url = self.urls[place % len(self.urls)]
        answer = httpx2.post(f"{url}{path}", json=body, timeout=PATIENCE, trust_env=False)
        answer.raise_for_status()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_second_after_a_pause_nothing_is_claimed(tmp_path: Path, database: str) -> None:
    """All, one cohort or one channel; what is not named goes on."""
    _pause_under_load(tmp_path, database, FEW)


@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_twenty_pauses(tmp_path: Path, database: str) -> None:
    """The same twenty times on each database."""
    _pause_under_load(tmp_path, database, MANY)


def _pause_under_load(folder: Path, database: str, number: int) -> None:
    chance = random.Random(SEED)
    with _engine(folder, database) as engine:
        stop = threading.Event()
        load = threading.Thread(target=_post_until, args=(engine, stop), daemon=True)
        load.start()
        eventually(lambda: len(engine.claims()) > 20, PATIENCE)
        trials = [_trial(engine, SCOPES[n % len(SCOPES)], n, chance) for n in range(number)]
        stop.set()
        load.join(PATIENCE)
        claims = engine.claims()
    late, others, latest = [], 0, 0.0
    for trial in trials:
        held = [c for c in claims if trial.answered_at < c.at < trial.ended_at]
        named = [claim for claim in held if trial.names(claim)]
        late += [claim for claim in named if claim.at > trial.answered_at + SECOND]
        latest = max([latest, *(claim.at - trial.answered_at for claim in named)])
        others += len(held) - len(named)
    print(
        f"{database}, seed {SEED}: {len(trials)} pauses under load, {len(claims)} claims in all,"
        f" the last one of what was paused {latest:.0f} ms after the answer, {others} of others"
        f" meanwhile, {len(late)} later than a second"
    )
    assert not late
    assert others > 0, "what was not named stood still too"
    assert len(claims) > 10 * number, "there was no load"


def _trial(engine: Running, scope: dict[str, str], number: int, chance: random.Random) -> Trial:
    """Pause at a moment when what is named goes out, wait more than a second, and resume."""
    before = len([c for c in engine.claims() if Trial(scope, 0, 0).names(c)])
    eventually(
        lambda: len([c for c in engine.claims() if Trial(scope, 0, 0).names(c)]) > before, PATIENCE
    )
    time.sleep(chance.random() / 5)
    engine.post(number, "/api/pause", scope)
    answered_at = time.time() * 1_000
    time.sleep(1.6)
    ended_at = time.time() * 1_000
    engine.post(number + 1, "/api/resume", scope)
    return Trial(scope, answered_at, ended_at)


def _post_until(engine: Running, stop: threading.Event) -> None:
    """Let people leave in both cohorts, without end."""
    number = 0
    while not stop.wait(0.2):
        at = datetime.fromtimestamp(time.time(), UTC).isoformat()
        number += 20
        events = [
            {"event_type": name, "user_id": f"user {n}", "event_time": at}
            for n in range(number, number + 20)
            for name in COHORTS
        ]
        engine.post(number // 20, "/webhook/amplitude", events)


@contextmanager
def _engine(folder: Path, database: str) -> Iterator[Running]:
    config = write_configuration(
        folder / "configuration",
        cohorts={
            name: cohort(
                trigger={"event": name},
                delay=["1s"],
                channel=list(CHANNELS),
                policy={"name": "uniform"},
            )
            for name in COHORTS
        },
        channels={
            "push": {"max_in_flight": 4},
            "whatsapp": {"max_in_flight": 4, "campaigns": {"*|*|*": "1700000000"}},
        },
        delivery={"expires_after": "30min"},
    )
    with CleverTapDoubleProcess(
        folder / "ledger", latency_ms=20, max_in_flight=4, fsync=False
    ) as double:
        environ = {"ENGINE_CONFIG": str(config), **live(double)}
        if database == "sqlite":
            path = folder / "engine.db"
            with server_process(folder, {"DATABASE_URL": f"sqlite:///{path}", **environ}) as one:
                yield Running([one.url], lambda: _of_sqlite(path))
            return
        with (
            a_database(shared_server()) as url,
            a_fleet(folder, {"DATABASE_URL": url, **environ}) as fleet,
        ):
            urls = [f"http://127.0.0.1:{port}" for port in fleet.ports]
            yield Running(urls, lambda: _of_postgres(url))


def _of_sqlite(path: Path) -> list[Claim]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return [Claim(*row) for row in connection.execute(CLAIMS)]


def _of_postgres(url: str) -> list[Claim]:
    with psycopg.connect(url) as connection:
        return [Claim(*row) for row in connection.execute(CLAIMS)]
