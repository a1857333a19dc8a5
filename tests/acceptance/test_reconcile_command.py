"""`reconcile` over real HTTP: beside a running server, by itself, and where it must refuse."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort
from tests.support.engine import RunningEngine
from tests.support.past_double import PastDouble, past_double
from tests.support.server import Command, Ended, run_commands
from tests.support.start import Start

from experiment_engine.adapters.amplitude.export_api import ExportApi, open_client
from experiment_engine.domain.errors import PartnerRefused
from experiment_engine.domain.moments import HOUR, Instant, to_datetime

STOP = "notifications_turned_off"
EVERYTHING: dict[str, Any] = {
    "cohorts": {COHORT: cohort(delay=["2min"])},
    "holdout": {"share": 0.0},
    "opt_out": {"events": [STOP]},
    "timezone": "Asia/Kolkata",
}


@pytest.fixture
def past() -> Iterator[PastDouble]:
    """Return what partners tell afterwards."""
    with past_double() as double:
        yield double


@pytest.fixture
def engine(start: Start, double: CleverTapDouble) -> RunningEngine:
    """Return an engine that sends to a double of CleverTap."""
    return start(to=double, **EVERYTHING)


def hour_of(engine: RunningEngine) -> str:
    return to_datetime(engine.clock.now()).strftime("%Y%m%dT%H")


def exported(engine: RunningEngine, number: int, user: str, name: str) -> bytes:
    """Return an event of now as the Export API writes it."""
    at = to_datetime(engine.clock.now())
    event = {
        "$insert_id": f"past-{number}",
        "event_type": name,
        "user_id": user,
        "event_time": at.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "device_id": None,
    }
    return json.dumps(event).encode()


def record(engine: RunningEngine, user: str, **properties: str) -> dict[str, Any]:
    """Return a record of now as CleverTap writes it, in the project's time zone."""
    at = to_datetime(engine.clock.now()) + timedelta(hours=5, minutes=30)
    profile = {"identity": user, "objectId": "x", "platform": "Android"}
    digits = int(at.strftime("%Y%m%d%H%M%S"))
    return {"profile": profile, "ts": digits, "event_props": properties}


def run(start: Start, past: PastDouble, *more: str, port: str = "1", **environ: str) -> Ended:
    """Reconcile the hours around the engine's time."""
    now = start.clock.now()
    since, until = (to_datetime(Instant(now + hours * HOUR)).isoformat() for hours in (-2, 2))
    words = ["reconcile", "--since", since, "--until", until, *more]
    given = {
        "DATABASE_URL": f"sqlite:///{start.folder / 'engine.db'}",
        "ENGINE_CONFIG": str(start.folder / "configuration"),
        "PORT": port,
        **past.environ(),
        **environ,
    }
    (ended,) = run_commands([Command(words, start.folder, given)])
    return ended


def answer(ended: Ended) -> Any:
    assert ended.status == 0, ended.errors
    return json.loads(ended.output)


def test_beside_a_running_server(
    start: Start, engine: RunningEngine, double: CleverTapDouble, past: PastDouble
) -> None:
    """Goals, opt-outs and opens arrive, proof settles an unknown, and nothing is ever sent."""
    double.behaviour = "processed_then_reset"
    lost, settled = engine.scheduled("lost"), engine.scheduled("settled")
    engine.deliver(after="2min")
    assert engine.state(settled)[0] == engine.state(lost)[0] == "unknown"
    double.behaviour = "ok"
    won, read = engine.sent("won"), engine.sent("read")
    told = engine.sent("told")
    engine.event("told", GOAL, insert_id="past-9")
    calls = len(double.calls())
    past.exports[hour_of(engine)] = [
        exported(engine, 1, "won", GOAL),
        exported(engine, 2, "nobody", TRIGGER),
        exported(engine, 3, "quiet", STOP),
        exported(engine, 4, "won", "app_opened"),
        b"no event",
    ]
    past.records = {
        GOAL: [record(engine, "told")],
        "Notification Clicked": [
            record(engine, "read", experiment_id=read),
            record(engine, "read"),
            record(engine, "else", wzrk_id="77_20261122"),
        ],
        "Notification Delivered": [record(engine, "settled", experiment_id=settled)],
    }
    port = engine.url.rpartition(":")[2]

    found = answer(run(start, past, "--json", port=port))

    amplitude, clevertap = found["amplitude"], found["clevertap"]
    assert (amplitude["events"], amplitude["useful"], amplitude["triggers"]) == (5, 2, 1)
    assert (amplitude["of_no_use"], amplitude["not_understood"]) == (1, 1)
    assert (amplitude["recorded"], amplitude["hours"], amplitude["hours_without"]) == (2, 1, 3)
    assert (clevertap["deliveries"], clevertap["settled"]) == (1, 1)
    assert (clevertap["opens"], clevertap["foreign_clicks"], clevertap["goals"]) == (1, 2, 1)
    assert clevertap["not_exported"] == []
    assert engine.state(settled) == ("sent", None)
    assert engine.state(lost)[0] == "unknown"  # that nothing is told proves nothing
    assert engine.experiment(won)["feedback"]["converted_by"] == "amplitude"
    assert engine.experiment(read)["feedback"]["opened_at"] is not None
    assert engine.experiment(told)["feedback"]["converted_at"] is not None
    assert engine.get("/api/users/nobody")["timeline"] == []  # so that it may still arrive
    assert engine.get("/api/users/quiet")["choices"][0]["allowed"] is False
    engine.deliver(after="1h")
    assert len(double.calls()) == calls

    again = answer(run(start, past, "--json", port=port))
    assert again["amplitude"]["duplicate"] == 2
    assert "recorded" not in again["amplitude"]
    assert "settled" not in again["clevertap"]


def test_by_itself_where_no_server_runs(
    start: Start, engine: RunningEngine, past: PastDouble
) -> None:
    """Without a server it takes the database; a dry run asks, counts, and changes nothing."""
    won = engine.sent("won")
    past.exports[hour_of(engine)] = [exported(engine, 1, "won", GOAL)]
    past.not_exported = {"Notification Clicked", "Notification Delivered"}
    start.stop()
    before = (start.folder / "engine.db").read_bytes()

    dry = run(start, past, "--dry-run")
    assert dry.status == 0, dry.errors
    assert "Nothing was taken in." in dry.output
    assert 'does not export "Notification Delivered"' in dry.output
    assert (start.folder / "engine.db").read_bytes() == before

    found = answer(run(start, past, "--json"))
    assert found["amplitude"]["recorded"] == 1
    assert sorted(found["clevertap"]["not_exported"]) == sorted(past.not_exported)
    with_it = start(**EVERYTHING, environ=past.environ())
    assert with_it.experiment(won)["feedback"]["converted_at"] is not None


def test_what_it_refuses(start: Start, engine: RunningEngine, past: PastDouble) -> None:
    """A database that is held and no server, wrong keys, and nobody to ask: each says the mend."""
    past.exports[hour_of(engine)] = [exported(engine, 1, "won", GOAL)]
    nobody = run(start, past)
    wrong = run(start, past, AMPLITUDE_SECRET_KEY="wrong")
    nothing = run(start, past, AMPLITUDE_API_KEY="", AMPLITUDE_SECRET_KEY="",
                  CLEVERTAP_ACCOUNT_ID="", CLEVERTAP_PASSCODE="")  # fmt: skip
    half = run(start, past, AMPLITUDE_SECRET_KEY="")
    late = run(start, past, "--since", "2999-01-01")

    for ended, says in (
        (nobody, "no server answers"),
        (wrong, "AMPLITUDE_SECRET_KEY"),
        (nothing, "nobody to ask"),
        (half, "AMPLITUDE_SECRET_KEY: is missing"),
        (late, "--since"),
    ):
        assert ended.status != 0
        assert says in ended.errors
        assert "Traceback" not in ended.errors
        assert "a-secret-key" not in ended.errors


def test_a_busy_export_is_asked_again(past: PastDouble, tmp_path: Path) -> None:
    """429 and 5xx are waited for, longer each time; after four tries it says so."""
    past.exports["19700101T05"] = [b"{}"]
    waited: list[float] = []
    with open_client(past.url, "an-api-key", "a-secret-key") as client:
        api = ExportApi(client, waited.append)
        past.statuses.extend([429, 504])
        assert api.download(Instant(5 * HOUR), tmp_path) is not None
        assert waited == [2.0, 4.0]
        assert api.download(Instant(6 * HOUR), tmp_path) is None
        past.statuses.extend([503] * 4)
        with pytest.raises(PartnerRefused, match="ask again later"):
            api.download(Instant(5 * HOUR), tmp_path)
        past.statuses.append(400)
        with pytest.raises(PartnerRefused, match="4 GB"):
            api.download(Instant(5 * HOUR), tmp_path)
