"""A silent source is shown where people look, and released by hand (docs/operations.md)."""

import pytest
from tests.support.configuration import COHORT, GOAL, cohort
from tests.support.engine import RunningEngine
from tests.support.start import Start


@pytest.fixture
def engine(start: Start) -> RunningEngine:
    """Return an engine that has heard Amplitude every ten minutes for three days and a half."""
    running = start(cohorts={COHORT: cohort(delay=["2min"])})
    for number in range(84 * 6):
        running.event(f"u{number}", GOAL)
        running.clock.advance("10min")
        if number % 18 == 0:
            while running.engine.duties.watch():
                pass
    running.engine.duties.watch()
    return running


def test_it_is_shown_and_released(engine: RunningEngine) -> None:
    """`/ready` stays 200 and tells it, as do metrics, log and dashboard, until it is released."""
    assert engine.get("/ready")["silences"] == []
    for _ in range(20):  # ten hours, in which only the watch goes on
        engine.clock.advance("30min")
        engine.engine.duties.watch()

    told = engine.get("/ready")
    assert told["ready"] is True
    assert {(s["source"], s["told"], s["until"]) for s in told["silences"]} == {
        ("amplitude", "events", None),
        ("amplitude", "goals", None),
    }
    assert engine.get("/api/sources")["silences"] == told["silences"]
    metrics = engine.client.get("/metrics").text
    assert 'experiment_engine_source_silent_seconds{source="amplitude",told="events"}' in metrics
    assert "a source is silent" in engine.log.getvalue()
    assert "Amplitude tells nothing for" in engine.client.get("/").text
    assert "against its rhythm" in engine.client.get("/health-checks").text

    answer = engine.post("/api/sources/amplitude/release", {}).raise_for_status().json()
    assert answer == {"source": "amplitude", "released": 2}
    engine.clock.advance("1h")
    engine.engine.duties.watch()
    assert engine.get("/ready")["silences"] == []  # nothing is usual for it any more
    assert "silent_seconds{" not in engine.client.get("/metrics").text
    assert engine.post("/api/sources/nobody/release", {}).status_code == 404


def test_it_is_heard_again(engine: RunningEngine) -> None:
    """When it comes back the silence ends, and what it tells late fills the gap."""
    lost = []
    for _ in range(60):
        lost.append(engine.clock.iso())
        engine.clock.advance("10min")
        engine.engine.duties.watch()
    for number, at in enumerate(lost):
        engine.event(f"late{number}", GOAL, at=at)
    engine.clock.advance("2min")
    engine.engine.duties.watch()

    assert engine.get("/ready")["silences"] == []
    assert "a source is heard again" in engine.log.getvalue()
