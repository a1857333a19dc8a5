"""Analysts see experiments where they work: each decision and each sent message, once."""

import json
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.amplitude_double import API_KEY, AmplitudeDouble, amplitude_double
from tests.support.clevertap_double import CleverTapDouble
from tests.support.engine import RunningEngine
from tests.support.start import Start, live

from experiment_engine.adapters.amplitude.upload import AmplitudeUpload
from experiment_engine.bootstrap import open_analytics
from experiment_engine.domain.moments import MINUTE, Duration
from experiment_engine.entrypoints.telling import Telling
from experiment_engine.settings import read_settings


@pytest.fixture
def analytics() -> Iterator[AmplitudeDouble]:
    with amplitude_double() as double:
        yield double


@pytest.fixture
def clevertap(tmp_path: Path) -> Iterator[CleverTapDouble]:
    with CleverTapDouble(tmp_path / "ledger", fsync=False) as double:
        yield double


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    starting = Start(tmp_path)
    yield starting
    starting.stop()


@pytest.fixture
def engine(start: Start, clevertap: CleverTapDouble) -> RunningEngine:
    running = start(to=clevertap)
    first = running.engine.duties.notices()  # the first look: what comes from now on is told
    assert first is not None
    running.engine.duties.keep_told(first)
    return running


def telling(engine: RunningEngine, double: AmplitudeDouble) -> Telling:
    return Telling(engine.engine.duties, AmplitudeUpload(double.base_url, API_KEY))


def tell(engine: RunningEngine, double: AmplitudeDouble) -> float:
    engine.clock.advance("1min")
    return telling(engine, double).step()


def test_decisions_and_messages_are_told(
    engine: RunningEngine, analytics: AmplitudeDouble
) -> None:
    """Each has its own time, and what analysts split by; nothing personal but the user's id."""
    made = engine.scheduled("usr_1", user_properties={"phone": "+919800000001", "name": "Asha"})
    tell(engine, analytics)
    assert analytics.names() == ["experiment_assigned"]
    engine.deliver(after="1min")
    tell(engine, analytics)
    assert analytics.names() == ["experiment_assigned", "experiment_sent"]

    assigned, sent = analytics.events.values()
    assert assigned["event_properties"] == {
        "experiment_id": made,
        "cohort": "checkout_abandoners",
        "combo_key": "2min|push|helpful|none",
        "delay": "2min",
        "channel": "push",
        "angle": "helpful",
        "offer": "none",
        "language": "en",
        "held_out": False,
        "manual": False,
        "postponed": False,
        "propensity": 1.0,
    }
    assert sent["event_properties"] == assigned["event_properties"]
    assert sent["time"] - assigned["time"] == 2 * MINUTE
    told = json.dumps(list(analytics.events.values()))
    assert "Asha" not in told
    assert "98000" not in told
    assert "Come back" not in told


def test_nothing_is_told_twice(engine: RunningEngine, analytics: AmplitudeDouble) -> None:
    """Told once, it is not told again; and an answer that was lost makes no second event."""
    engine.scheduled("usr_1")
    analytics.script = deque(["500", "processed_500", "close", "503"])
    waits = [tell(engine, analytics) for _ in range(6)]
    assert analytics.names() == ["experiment_assigned"]
    assert analytics.repeated == 1  # which Amplitude knew by its name
    assert len(analytics.requests) == 4  # and once more is enough: after it nothing was to be told
    assert waits[0] > 0


def test_trouble_backs_off(engine: RunningEngine, analytics: AmplitudeDouble) -> None:
    """While analytics is away it is asked more and more seldom, and everything else goes on."""
    engine.scheduled("usr_1")
    engine.clock.advance("1min")
    one = telling(engine, analytics)
    analytics.script = deque(["503"] * 8 + ["429"])
    waits = [one.step() for _ in range(9)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    engine.deliver(after="1min")
    assert engine.get("/api/stats")["summary"]["total_sent"] == 1
    assert one.step() == pytest.approx(10)
    assert analytics.names()[0] == "experiment_assigned"


def test_many_in_steps(engine: RunningEngine, analytics: AmplitudeDouble) -> None:
    """A backlog is told in steps, and none of it is left out."""
    for _ in range(6):
        at = engine.clock.iso()
        engine.events(*(_event(f"usr_{engine.clock.now()}_{n}", at) for n in range(100)))
        engine.clock.advance("1s")
    engine.deliver(after="2min")
    one = telling(engine, analytics)
    engine.clock.advance("1min")
    waits = [one.step() for _ in range(4)]
    assert waits[:2] == [pytest.approx(0.2)] * 2
    assert Counter(analytics.names()) == {"experiment_assigned": 600, "experiment_sent": 600}
    assert analytics.repeated == 0


def _event(user: str, at: str) -> dict[str, str]:
    return {
        "event_type": "checkout_abandoned",
        "user_id": user,
        "insert_id": f"i-{user}",
        "event_time": at,
    }


def test_one_process_at_a_time(engine: RunningEngine, analytics: AmplitudeDouble) -> None:
    """While another process tells, this one does not; when that is gone, it goes on."""
    engine.scheduled("usr_1")
    engine.clock.advance("2min")
    now, span = engine.clock.now(), Duration(MINUTE)
    engine.engine.storage.run(lambda tx: tx.take_lease("tell", "another", now, span))
    telling(engine, analytics).step()
    assert analytics.names() == []
    tell(engine, analytics)
    tell(engine, analytics)
    assert analytics.names() == ["experiment_assigned"]


def test_who_is_forgotten_is_not_told_of(
    engine: RunningEngine, analytics: AmplitudeDouble
) -> None:
    """An erased user goes nowhere; the others do."""
    engine.scheduled("usr_1")
    engine.scheduled("usr_2")
    engine.client.delete("/api/users/usr_1").raise_for_status()
    tell(engine, analytics)
    assert [event["user_id"] for event in analytics.events.values()] == ["usr_2"]


def test_history_is_not_told(start: Start, clevertap: CleverTapDouble) -> None:
    """With the key set late, what was before is not told: Amplitude would count it as new."""
    with amplitude_double() as analytics:
        running = start(to=clevertap)
        running.scheduled("usr_1")
        running.clock.advance("1h")
        for _ in range(3):
            tell(running, analytics)
        assert analytics.names() == []


def test_a_dry_run_tells_nothing(start: Start, analytics: AmplitudeDouble) -> None:
    """Nobody was written to, so nobody is told."""
    running = start()
    running.sent("usr_1")
    tell(running, analytics)
    assert analytics.requests == []


def test_only_with_a_key(clevertap: CleverTapDouble) -> None:
    """Without a key nobody is told, and the key does not show."""
    assert open_analytics(read_settings(live(clevertap), None)) is None
    settings = read_settings(
        {"AMPLITUDE_TELL": "1", "AMPLITUDE_API_KEY": API_KEY, "AMPLITUDE_REGION": "eu"}, None
    )
    assert open_analytics(settings) is not None
    assert API_KEY not in repr(settings)


def test_it_runs_by_itself(engine: RunningEngine, analytics: AmplitudeDouble) -> None:
    """On its own thread, beside everything else, and it ends when it is told to."""
    engine.scheduled("usr_1")
    engine.clock.advance("1min")
    one = telling(engine, analytics)
    one.start()
    for _ in range(600):
        if analytics.events:
            break
        one._thread.join(0.05)
    one.stop()
    assert analytics.names() == ["experiment_assigned"]
