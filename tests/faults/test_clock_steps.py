"""The machine's clock is set, forward and back, by a second or by ten years, or it stands still.

`CLOCK_STEPS` and `CLOCK_SEED` choose how often in the long form, and when.
"""

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import Json, amplitude_event
from tests.support.fakes import an_answer
from tests.support.onlooker import DATABASES, Look, database_url, onlooker

from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.moments import HOUR, Instant, iso, to_datetime

SEED = int(os.environ.get("CLOCK_SEED", "20261122"))
FEW, MANY = 40, int(os.environ.get("CLOCK_STEPS", "300"))
ZONES = (
    *("UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"),
    *("Pacific/Chatham", "Africa/Casablanca", "Antarctica/Troll"),
)
QUIET_FROM, QUIET_TO = 22, 8  # hours of the user's clock
SPANS = (0, 0, 1, 1, 300, 300, 3_600, 3_600, 86_400, 10 * 365 * 86_400)  # seconds
STEPS = tuple(timedelta(seconds=sign * span) for span in SPANS for sign in (-1, 1))
PASSING = ("0s", "1s", "2min", "2min", "20min", "20min", "40min", "5h")
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC) for year in (2005, 2080))
VERDICTS = (*[Verdict.ACCEPTED] * 6, Verdict.UNCERTAIN, Verdict.NOT_TAKEN, Verdict.NOT_TAKEN)


@dataclass
class Provider:
    """Notes of each call whether it should be; takes most, and not always says so."""

    chance: random.Random
    engine: RunningEngine | None = None
    look: Look | None = None
    taken: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def send(self, call: Call) -> Answer:
        assert self.engine is not None
        assert self.look is not None
        now, verdict = self.engine.clock.now(), self.chance.choice(VERDICTS)
        for experiment_id in call.recipients.values():
            (row,) = self.look("SELECT * FROM experiment WHERE id = ?", experiment_id)
            self.wrong += [f"{why} at {iso(now)}: {row}" for why in _wrong(row, now)]
            self.taken[experiment_id] += verdict is not Verdict.NOT_TAKEN
        return an_answer(verdict)

    async def close(self) -> None:
        return None


def _wrong(row: Mapping[str, Any], now: Instant) -> list[str]:
    hour = to_datetime(now).astimezone(ZoneInfo(row["zone"])).hour
    problems = {
        "early": now < row["due_at"],
        "late": now > row["expires_at"],
        "quiet": hour >= QUIET_FROM or hour < QUIET_TO,
    }
    return [problem for problem, holds in problems.items() if holds]


@pytest.mark.parametrize(("database", "steps"), [("sqlite", FEW), ("postgresql", FEW // 2)])
def test_a_clock_that_is_set(tmp_path: Path, database: str, steps: int) -> None:
    """However the clock is set, nothing goes out twice, early, late, or in the quiet hours."""
    _step(tmp_path, database, steps)


@pytest.mark.long
@pytest.mark.parametrize("database", DATABASES)
def test_a_clock_that_is_set_often(tmp_path: Path, database: str) -> None:
    """The same for three hundred steps."""
    _step(tmp_path, database, MANY)


def _step(folder: Path, database: str, steps: int) -> None:
    chance = random.Random(f"{SEED} steps")
    provider = Provider(random.Random(f"{SEED} provider"))
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["2min", "1h"])},
        quiet_hours={"start": f"{QUIET_FROM}:00", "end": f"{QUIET_TO:02}:00"},
    )
    with (
        database_url(database, folder) as url,
        running_engine(
            folder, config=config, environ={"DATABASE_URL": url}, sender=provider
        ) as engine,
        onlooker(url) as look,
    ):
        provider.engine, provider.look = engine, look
        for number in range(steps):
            _set(engine, chance.choice(STEPS))
            engine.events(*_events(engine, number, chance))
            for _ in range(3):
                engine.deliver(after=chance.choice(PASSING))
            _keep_up(engine)
        left = _run_out(engine, look)
        # Ten years on, what is past its retention has gone.
        states = {row["id"]: row["state"] for row in look("SELECT id, state FROM experiment")}
    ends = Counter(states.values())
    print(f"seed {SEED}, {database}: {steps} steps of the clock, {dict(ends)}")
    assert not provider.wrong, provider.wrong[:3]
    assert max(provider.taken.values()) == 1
    assert not left, "something is stuck"
    assert ends["sent"] > steps // 6, "too little happened"
    for experiment_id, state in states.items():
        assert provider.taken[experiment_id] == (state in ("sent", "unknown")), state


def _set(engine: RunningEngine, step: timedelta) -> None:
    at = to_datetime(engine.clock.now()) + step
    engine.clock.set(at if EARLIEST < at < LATEST else datetime(2026, 11, 22, 10, tzinfo=UTC))


def _events(engine: RunningEngine, number: int, chance: random.Random) -> list[Json]:
    """Return what is told now: somebody left up to an hour ago, somebody else came back."""
    events = []
    for place in range(4):
        at = iso(Instant(engine.clock.now() - chance.choice((0, 0, chance.randrange(HOUR)))))
        zone = {"event_properties": {"timezone": chance.choice(ZONES)}}
        events.append(amplitude_event(f"user {number} {place}", at, TRIGGER, **zone))
    back = f"user {chance.randrange(number + 1)} {chance.randrange(4)}"
    return [*events, amplitude_event(back, engine.clock.iso(), GOAL)]


def _keep_up(engine: RunningEngine) -> None:
    """Do what upkeep does beside; none of it may fail."""
    engine.learn()
    engine.engine.duties.measure()
    engine.engine.duties.tidy()
    engine.engine.traffic.recover()
    engine.engine.duties.beat("serve")
    engine.get("/api/stats")


def _run_out(engine: RunningEngine, look: Look) -> int:
    """Let time pass until everything has ended; return what has not."""
    query = "SELECT count(*) AS n, min(due_at) AS due FROM experiment WHERE state = 'scheduled'"
    for _ in range(400):
        (waiting,) = look(query)
        if not waiting["n"]:
            return 0
        engine.clock.set(to_datetime(Instant(max(engine.clock.now() + 1, waiting["due"]))))
        engine.deliver()
    return int(waiting["n"])
