"""What the pages say: the same on every database, and the same as the API says."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.configuration import COHORT, GOAL, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import Json
from tests.support.postgres import a_database

COHORTS = {COHORT: cohort(delay=["2min", "1h"], channel=["push", "whatsapp"])}
PAGES = (
    "/overview.json",
    f"/results/{COHORT}.json",
    f"/combinations/{COHORT}.json",
    "/messages.json",
    "/schedule.json",
    "/users.json?id=usr_1",
    "/users.json?id=usr_1&preview=1",
    "/events.json",
    "/events.json?status=recorded&source=clevertap",
    "/events.json?show=quarantine",
    "/guardrails.json",
    "/health-checks.json",
)


def lived(engine: RunningEngine) -> None:
    """Let some users leave, be written to, open, come back, and be refused."""
    for number in range(12):
        engine.scheduled(f"usr_{number}")
    engine.deliver(after="2min")
    engine.deliver(after="58min")
    for number in range(0, 12, 3):
        engine.opened(user_id=f"usr_{number}")
        engine.event(f"usr_{number}", GOAL)
    engine.event("usr_1")  # too soon again
    engine.post("/webhook/amplitude", b"no JSON")
    engine.post("/api/pause", {"channel": "whatsapp"})
    engine.scheduled("usr_waits")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Json]]:
    """Return what every page says of the same life, on each database."""
    answers: dict[str, dict[str, Json]] = {}
    for kind in ("sqlite", "postgresql"):
        folder: Path = tmp_path_factory.mktemp(kind)
        with ExitStack() as stack:
            environ = (
                {"DATABASE_URL": stack.enter_context(a_database())}
                if kind == "postgresql"
                else {"DATABASE_URL": f"sqlite:///{folder / 'engine.db'}"}
            )
            engine = stack.enter_context(
                running_engine(
                    folder,
                    config=write_configuration(folder / "configuration", cohorts=COHORTS),
                    clock=FakeClock(),
                    environ=environ,
                )
            )
            lived(engine)
            answers[kind] = {page: engine.get(page) for page in PAGES}
            for page in PAGES:
                drawn = engine.client.get(page.replace("/overview.json", "/").replace(".json", ""))
                assert drawn.status_code == 200, (kind, page, drawn.text[:500])
            answers[kind]["/api/stats"] = engine.get("/api/stats")
    return answers


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _comparable(v) for k, v in value.items() if k not in {"at", "key", "id"}}
    if isinstance(value, list):
        return [_comparable(one) for one in value]
    return round(value, 9) if isinstance(value, float) else value


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_the_same_on_every_database(
    said: Mapping[str, Mapping[str, Json]], page: str
) -> None:
    one, other = (_comparable(said[kind][page]) for kind in ("sqlite", "postgresql"))
    for answer in (one, other):
        answer.pop("processes", None)
        if "events" in answer:  # of one moment, in any order
            answer["events"] = sorted(answer["events"], key=str)
    assert one == other


def test_pages_and_api_say_the_same(said: Mapping[str, Mapping[str, Json]]) -> None:
    page = said["sqlite"][f"/results/{COHORT}.json"]["results"]
    stats = said["sqlite"]["/api/stats"]
    assert page["sent"] == stats["summary"]["total_sent"] == 12
    assert page["opened"] == stats["summary"]["total_opened"]
    assert page["converted"] == stats["summary"]["total_converted"] == 4
    sent = {one["combo_key"]: one["sent_count"] for one in stats["top_combinations"]}
    assert {c["combo_key"]: c["sent"] for c in page["ranked"] if c["sent"]} == sent


def test_guardrails_count_what_they_stopped(said: Mapping[str, Mapping[str, Json]]) -> None:
    found = said["postgresql"]["/guardrails.json"]
    stopped = {one["name"]: one["stopped"] for one in found["guardrails"]}
    assert stopped["Re-entry"] == 1
    assert [entry["what"] for entry in found["audit"]] == ["paused"]


def test_the_schedule_has_what_waits(said: Mapping[str, Mapping[str, Json]]) -> None:
    due = said["postgresql"]["/schedule.json"]["due"]
    assert sum(one["messages"] for one in due) == 1
    assert {one["channel"] for one in due} == {"push"}


def test_a_cohort_with_nobody_but_held_out_users_has_its_page(tmp_path: Path) -> None:
    config = write_configuration(tmp_path / "configuration", holdout={"share": 0.999999})
    with running_engine(tmp_path, config=config) as engine:
        assert engine.event("usr_1")["status"] == "holdout"
        engine.deliver(after="2min")
        for page in ("/", f"/results/{COHORT}", f"/combinations/{COHORT}", "/users?id=usr_1"):
            answer = engine.client.get(page, headers={"accept": "text/html"})
            assert answer.status_code == 200, page
        assert "No message has gone out yet." in engine.client.get(f"/results/{COHORT}").text


def test_no_lever_is_filled_that_a_handful_of_messages_tells(tmp_path: Path) -> None:
    """Twelve messages tell no channel from the other, though one has the higher rate."""
    config = write_configuration(tmp_path / "configuration", cohorts=COHORTS)
    with running_engine(tmp_path, config=config) as engine:
        lived(engine)
        page = engine.client.get(f"/results/{COHORT}", headers={"accept": "text/html"}).text
    assert 'class="pt"' in page
    assert "pt-best" not in page
