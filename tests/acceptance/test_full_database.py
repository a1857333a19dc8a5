"""When the database cannot be written, or not fast enough: 503, and recovery without hands."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.clevertap_double import CleverTapDouble
from tests.support.engine import RunningEngine
from tests.support.events import amplitude_event, somebody
from tests.support.server import eventually
from tests.support.start import Start

BULK = {"filler": "x" * 200_000}


def fill_up(engine: RunningEngine) -> None:
    """Leave the database no room: SQLite refuses the next page as it does on a full disk."""
    writer = engine.embedded._writer
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")


def make_room(engine: RunningEngine) -> None:
    engine.embedded._writer.execute("PRAGMA max_page_count = 1073741823")


def test_a_webhook_is_refused_and_taken_later(start: Start) -> None:
    """503 with `Retry-After`; the same event sent again is taken as if it were the first."""
    engine = start()
    event = amplitude_event(somebody(), engine.clock.iso(), event_properties=BULK)
    fill_up(engine)
    answer = engine.post("/webhook/amplitude", event)
    assert answer.status_code == 503
    assert set(answer.json()["error"]) == {"code", "message"}
    assert int(answer.headers["retry-after"]) > 0

    make_room(engine)
    assert engine.events(event)[0]["status"] == "scheduled"


def test_the_api_is_refused_too(start: Start) -> None:
    """503 in the one shape of errors, and no experiment."""
    engine = start()
    user = somebody()
    fill_up(engine)
    answer = engine.trigger(user, attributes=BULK)
    assert answer.status_code == 503
    assert set(answer.json()["error"]) == {"code", "message"}

    make_room(engine)
    assert engine.get(f"/api/users/{user}")["timeline"] == []
    assert engine.trigger(user).status_code == 201


def test_what_is_not_json_is_not_lost_silently(start: Start) -> None:
    """A body that cannot be kept in quarantine is 503, never 400: its sender must try again."""
    engine = start()
    fill_up(engine)
    answer = engine.post("/webhook/amplitude", b"not json" + b"x" * 200_000)
    assert answer.status_code == 503


def test_nothing_goes_out(start: Start, double: CleverTapDouble) -> None:
    """What cannot be written down as claimed is not sent."""
    engine = start(to=double, worker_runs=True)
    waiting = engine.scheduled(somebody())
    writer = engine.embedded._writer
    with engine.embedded._turn:
        writer.execute("PRAGMA query_only = ON")
    engine.clock.advance("3min")
    assert engine.post("/webhook/amplitude", amplitude_event("u", "")).status_code == 503
    assert double.calls() == []
    with engine.embedded._turn:
        writer.execute("PRAGMA query_only = OFF")
    engine._worker.stop()
    assert engine.state(waiting)[0] in ("scheduled", "sent")


def test_more_than_can_be_held(start: Start) -> None:
    """With thousands of events waiting the next are refused with 503; those waiting are taken."""
    engine = start()
    batch = [{"event_type": "page_viewed"}] * 2_000
    with ThreadPoolExecutor(5) as senders:
        with engine.embedded._turn:  # the database is busy
            waiting = [
                senders.submit(engine.results, "/webhook/amplitude", batch) for _ in range(5)
            ]
            eventually(lambda: engine.running.lane.is_full)
            answer = engine.post("/webhook/amplitude", batch[0])
        assert [len(sent.result()) for sent in waiting] == [2_000] * 5
    assert answer.status_code == 503
    assert answer.json()["error"]["code"]
    assert int(answer.headers["retry-after"]) > 0
    assert engine.event(somebody())["status"] == "scheduled"
