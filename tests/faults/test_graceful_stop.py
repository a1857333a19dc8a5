"""SIGTERM under load: what came in is kept, what is on its way is recorded, it ends in time."""

import http.client
import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.faults.ledgers import Stored, judge, waiting
from tests.support.clevertap_double import CleverTapDoubleProcess
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.crash import HOST, CrashingEngine, Habits, clients, crashing_engine
from tests.support.server import eventually, free_port, server_process
from tests.support.start import live

SEED = 20261122
IN_FLIGHT = 4
MOST_SECONDS = 20.0  # from the signal to the end; a call may take 15 of them


@contextmanager
def _engine(folder: Path, double: CleverTapDoubleProcess) -> Iterator[CrashingEngine]:
    lane = {"max_in_flight": IN_FLIGHT}
    config = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(delay=["0.2s", "0.6s"], channel=["push", "whatsapp"])},
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        holdout={"share": 0.05},
    )
    environ = {
        "DATABASE_URL": f"sqlite:///{folder / 'engine.db'}",
        "ENGINE_CONFIG": str(config),
        **live(double),
    }
    with crashing_engine(folder, free_port(), environ) as engine:
        engine.start()
        engine.wait_until_up()
        yield engine


def test_calls_under_way_are_recorded(tmp_path: Path) -> None:
    """SIGTERM under load: nothing acknowledged is lost, and every call made is told truly.

    A second life on the same database then delivers the rest, each message once.
    """
    with (
        CleverTapDoubleProcess(tmp_path / "ledger", latency_ms=300, max_in_flight=9) as double,
        _engine(tmp_path, double) as engine,
    ):
        with clients(Habits(engine.port, SEED, pause=0.06)) as history:
            time.sleep(1.5)
            eventually(lambda: sum(double.stats().in_flight.values()) >= IN_FLIGHT)
            began = time.monotonic()
            status = engine.end(signal.SIGTERM)
            took = time.monotonic() - began
        after = Stored.read(tmp_path / "engine.db")
        rest = waiting(tmp_path / "engine.db")
        sent, ledger = {row["id"] for row in after.in_state("sent")}, double.ledger()
        double.configure(latency_ms=5)
        engine.start()
        eventually(lambda: not waiting(tmp_path / "engine.db"), patience=30)
        engine.end()
        verdicts = judge(history, double.ledger(), Stored.read(tmp_path / "engine.db"))

    print(f"ended after {took:.2f} s with {status}; {len(history.told)} events acknowledged,")
    print(f"{len(sent)} messages sent, {rest} left for the next life")
    assert status == 0
    assert took < 5, "calls of 0.3 s were under way"
    assert rest > 0
    assert not after.in_state("claimed", "unknown")
    assert {id_ for call in ledger for id_ in call.experiment_ids} == sent
    for promise, broken in verdicts:
        assert not broken, f"{promise}: {broken}"


def test_it_ends_in_time_whoever_hangs(tmp_path: Path) -> None:
    """A client that never finishes, and a provider that then stops answering, hold it 20 s."""
    with (
        CleverTapDoubleProcess(tmp_path / "ledger", latency_ms=200, max_in_flight=9) as double,
        _engine(tmp_path, double) as engine,
        closing(http.client.HTTPConnection(HOST, engine.port, timeout=30)) as slow,
    ):
        with clients(Habits(engine.port, SEED, most_events=40)):
            time.sleep(1)
        slow.putrequest("POST", "/webhook/amplitude")
        slow.putheader("Content-Length", "1000")
        slow.endheaders(json.dumps({"event_type": "never finished"}).encode()[:-1])
        time.sleep(0.2)
        began = time.monotonic()
        engine.signal(signal.SIGTERM)
        time.sleep(8)
        double.configure(behaviour="hang")  # as long as calls may begin, they may hang
        status = engine.wait()
        took = time.monotonic() - began
        stored = Stored.read(tmp_path / "engine.db")
    unknown = [row["reason"] for row in stored.in_state("unknown")]
    print(f"ended after {took:.1f} s with {status}; {len(unknown)} unknown")
    assert status == 0
    assert took < MOST_SECONDS
    assert not stored.in_state("claimed")
    assert set(unknown) <= {"timed_out"}


def test_an_open_page_of_live_events_does_not_hold_the_end_up(tmp_path: Path) -> None:
    """SIGTERM while a browser follows live events: the answer ends, and nothing is an error."""
    with (
        server_process(
            tmp_path, {"DATABASE_URL": f"sqlite:///{tmp_path / 'engine.db'}"}
        ) as server,
        server.client.stream("GET", "/events/stream", timeout=MOST_SECONDS) as following,
    ):
        assert following.status_code == 200
        lines = following.iter_lines()
        assert next(lines).startswith("retry")
        server.process.send_signal(signal.SIGTERM)
        assert all("error" not in line for line in lines)  # to its end
        assert server.process.wait(MOST_SECONDS) == 0
        assert "CancelledError" not in server.output + server.errors
