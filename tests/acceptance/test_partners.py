"""Other partners tell what happened, each at its own address (docs/connect-others.md)."""

import base64
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.configuration import COHORT, GOAL, TRIGGER, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import Json, somebody

PAGE = Path(__file__).parents[2] / "docs" / "connect-others.md"
SIGNING = "whsec_" + base64.b64encode(b"twenty-four bytes or so.").decode()
SECRETS = {
    "API_TOKEN": "for-the-api",
    "AMPLITUDE_WEBHOOK_SECRET": "for-amplitude",
    "CLEVERTAP_WEBHOOK_SECRET": "for-clevertap",
    "SEGMENT_WEBHOOK_SECRET": "for-segment",
    "RUDDERSTACK_WEBHOOK_SECRET": "for-rudderstack",
    "POSTHOG_WEBHOOK_SECRET": "for-posthog",
    "BACKEND_WEBHOOK_SECRET": f"for-the-backend,{SIGNING}",
}
ENTERED = "entered_cohort:Stuck in checkout"


def track(user: str, name: str, event_id: str, at: str) -> Json:
    return {
        "type": "track",
        "event": name,
        "userId": user,
        "messageId": event_id,
        "timestamp": at,
    }


def from_posthog(user: str, name: str, event_id: str, at: str) -> Json:
    event = {"event": name, "distinct_id": user, "uuid": event_id, "timestamp": at}
    return {"event": event, "person": {"properties": {}}}


def from_backend(user: str, name: str, event_id: str, at: str) -> Json:
    return {"type": name, "timestamp": at, "id": event_id, "data": {"user_id": user}}


Write = Callable[[str, str, str, str], Json]
PARTNERS: dict[str, tuple[Write, str]] = {
    "segment": (track, "for-segment"),
    "rudderstack": (track, "for-rudderstack"),
    "posthog": (from_posthog, "for-posthog"),
    "backend": (from_backend, "for-the-backend"),
}
partner = pytest.mark.parametrize(
    ("path", "write", "secret"),
    [(f"/webhook/{name}", *said) for name, said in PARTNERS.items()],
    ids=PARTNERS,
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine with a secret for each partner, at the present time."""
    folder = tmp_path_factory.mktemp("partners")
    cohorts = {COHORT: cohort(), "stuck": cohort(trigger={"event": ENTERED})}
    config = write_configuration(folder / "configuration", cohorts=cohorts)
    clock = FakeClock(datetime.now(UTC))  # noqa: TID251 - the page's example signs now
    with running_engine(folder, config=config, clock=clock, environ=SECRETS) as running:
        yield running


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def results(engine: RunningEngine, path: str, body: Any, headers: dict[str, str]) -> list[Json]:
    answer = engine.post(path, body, **headers)
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["results"]
    return found


@partner
def test_the_walk_of_an_event(engine: RunningEngine, path: str, write: Write, secret: str) -> None:
    """A trigger decides, the same event again has no effect, and the goal is recorded."""
    user, now, headers = somebody(), engine.clock.iso(), bearer(secret)
    trigger = write(user, TRIGGER, f"t-{user}", now)

    (first,) = results(engine, path, trigger, headers)
    again = results(engine, path, [trigger, trigger], headers)
    (goal,) = results(engine, path, write(user, GOAL, f"g-{user}", now), headers)

    assert first["status"] == "scheduled"
    assert [result["status"] for result in again] == ["duplicate", "duplicate"]
    assert goal["status"] == "cancelled"
    assert goal["experiment_id"] == first["experiment_id"]


@partner
def test_a_wrong_secret_leaves_no_trace(
    engine: RunningEngine, path: str, write: Write, secret: str
) -> None:
    """Without its own secret a partner gets 401, and nothing of its event is kept."""
    user = somebody()
    event = write(user, TRIGGER, f"t-{user}", engine.clock.iso())
    others = {said for _, said in PARTNERS.values()} - {secret} | {"for-amplitude", "wrong"}

    statuses = {engine.post(path, event, **bearer(other)).status_code for other in others}

    assert statuses == {401}
    assert engine.post(path, event).status_code == 401
    seen = engine.client.get(f"/api/users/{user}", headers=bearer("for-the-api"))
    assert not seen.json().get("timeline")


@partner
def test_what_is_not_understood(
    engine: RunningEngine, path: str, write: Write, secret: str
) -> None:
    """Junk is kept byte for byte under the partner's name, and its neighbour is taken in."""
    user = somebody()
    good = json.dumps(write(user, TRIGGER, f"t-{user}", engine.clock.iso())).encode()
    junk = b'{"mark":"' + user.encode() + b'","price":NaN}'

    kept, taken = results(engine, path, b"[" + junk + b"," + good + b"]", bearer(secret))
    broken = engine.post(path, b"{" + user.encode(), **bearer(secret))

    assert (kept["status"], taken["status"]) == ("quarantined", "scheduled")
    assert broken.status_code == 400
    listed = engine.client.get("/api/quarantine", headers=bearer("for-the-api")).json()
    source = path.rpartition("/")[2]
    bodies = {kept["text"] for kept in listed["quarantine"] if kept["source"] == source}
    assert {junk.decode(), "{" + user} <= bodies


def test_segment_signs(engine: RunningEngine) -> None:
    """A body that Segment signed with the shared secret needs no header of ours."""
    body = json.dumps(track(somebody(), TRIGGER, somebody(), engine.clock.iso())).encode()
    signature = hmac.new(b"for-segment", body, "sha1").hexdigest()

    forged = engine.post("/webhook/segment", body + b" ", **{"X-Signature": signature})
    (taken,) = results(engine, "/webhook/segment", body, {"X-Signature": signature})

    assert forged.status_code == 401
    assert taken["status"] == "scheduled"


def test_the_example_of_a_server_that_signs(engine: RunningEngine) -> None:
    """The page's example is believed, and repeating its message has no effect."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    tell: dict[str, Any] = {}
    exec(code, tell)
    event = {"type": TRIGGER, "timestamp": engine.clock.iso(), "data": {"user_id": somebody()}}
    engine.clock.set(datetime.fromtimestamp(time.time(), UTC))

    once, again = (
        tell["tell"](engine.url + "/webhook/backend", SIGNING, "msg-1", event) for _ in range(2)
    )

    assert once[0]["status"] == "scheduled"
    assert again[0]["status"] == "duplicate"


def test_a_cohort_of_ten_thousand(engine: RunningEngine) -> None:
    """All users of a large cohort are decided about in one call, and once if it comes again."""
    users = [{"user_id": f"{somebody()}-{number}"} for number in range(10_000)]
    call = {
        "cohort_name": "Stuck in checkout",
        "cohort_id": "7khm89cz",
        "in_cohort": True,
        "computed_time": str(int(engine.clock.now() / 1_000)),
        "message_id": "0b7c::enter::0",
        "users": users,
    }
    headers = bearer("for-amplitude")

    first = results(engine, "/webhook/amplitude-cohort", call, headers)
    second = results(engine, "/webhook/amplitude-cohort", call, headers)

    assert [result["status"] for result in first] == ["scheduled"] * len(users)
    assert [result["status"] for result in second] == ["duplicate"] * len(users)


def test_no_address_without_a_secret(tmp_path: Path) -> None:
    """Where others can reach the server, a partner without a secret has no address."""
    three = {name: secret for name, secret in SECRETS.items() if name in NEEDED}
    environ = {"HOST": "0.0.0.0", "SEGMENT_WEBHOOK_SECRET": "for-segment", **three}
    with running_engine(tmp_path, environ=environ) as engine:
        body = from_backend(somebody(), TRIGGER, "1", engine.clock.iso())
        open_to_nobody = engine.post("/webhook/backend", body, Host="localhost")
        open_to_segment = engine.post("/webhook/segment", body, **bearer("for-segment"))

    assert open_to_nobody.status_code in (404, 405)
    assert open_to_segment.status_code == 200


NEEDED = ("API_TOKEN", "AMPLITUDE_WEBHOOK_SECRET", "CLEVERTAP_WEBHOOK_SECRET")


def test_on_this_machine_no_secret_is_needed(tmp_path: Path) -> None:
    """A newcomer tries every partner on the own machine, without any secret."""
    with running_engine(tmp_path) as engine:
        for name, (write, _) in PARTNERS.items():
            event = write(somebody(), TRIGGER, somebody(), engine.clock.iso())
            (result,) = engine.results(f"/webhook/{name}", event)
            assert result["status"] == "scheduled"
