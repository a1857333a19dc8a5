"""What CleverTap is asked (CONTRACT 8): every request as it arrives there."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.clevertap_double import (
    ACCOUNT_ID,
    EXTERNAL_TRIGGER,
    PASSCODE,
    PUSH,
    WHATSAPP,
    CleverTapDouble,
)
from tests.support.configuration import BODY, COHORT, TITLE, cohort
from tests.support.events import somebody
from tests.support.recorder import Received, Recorder, recording_provider
from tests.support.start import Start

ON_WHATSAPP = {COHORT: cohort(channel=["whatsapp"], offer=["none", "gift"])}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Return a provider that keeps every request."""
    with recording_provider() as provider:
        yield provider


def requested(start: Start, recorder: Recorder, users: int = 1, **configuration: Any) -> Received:
    """Have messages to this many users go out; return the only request."""
    engine = start(to=recorder, **configuration)
    for _ in range(users):
        engine.scheduled(somebody(), event_properties={"show_name": "Mahabharat"})
    engine.deliver(after="2min")
    (request,) = recorder.received
    return request


def test_push(start: Start, recorder: Recorder) -> None:
    """A push names its user, its text, and on both platforms its link and experiment."""
    engine = start(to=recorder, channels={"push": {"deep_link": "app://go?xp={experiment_id}"}})
    experiment_id = engine.scheduled("usr_1")
    engine.deliver(after="2min")

    (request,) = recorder.received
    extras = {"deep_link": f"app://go?xp={experiment_id}", "experiment_id": experiment_id}
    assert (request.method, request.path) == ("POST", PUSH)
    assert request.body == {
        "to": {"Identity": ["usr_1"]},
        "content": {
            "title": TITLE,
            "body": BODY,
            "platform_specific": {"android": extras, "ios": extras},
        },
    }


def test_headers(start: Start, recorder: Recorder) -> None:
    """Account and passcode stand in their headers, and nowhere else."""
    request = requested(start, recorder)
    assert request.headers["x-clevertap-account-id"] == ACCOUNT_ID
    assert request.headers["x-clevertap-passcode"] == PASSCODE
    assert request.headers["content-type"].startswith("application/json")
    assert PASSCODE not in request.path
    assert PASSCODE not in str(request.body)


def test_whatsapp_goes_through_its_campaign(start: Start, recorder: Recorder) -> None:
    """WhatsApp is an External Trigger: the campaign's id, and values that are all text."""
    request = requested(
        start,
        recorder,
        cohorts=ON_WHATSAPP,
        channels={"whatsapp": {"campaigns": {"*|*|*": "1700000000"}}},
    )
    assert request.path == EXTERNAL_TRIGGER
    assert request.body["campaign_id"] == "1700000000"
    values = request.body["ExternalTrigger"]
    assert (values["title"], values["body"]) == (TITLE, BODY)
    assert all(isinstance(value, str) for value in values.values())
    assert "experiment_id" in values


@pytest.mark.parametrize(
    ("campaigns", "expected"),
    [
        ({"*|*|*": "1"}, "1"),
        ({"*|*|*": "1", "*|*|gift": "2"}, "2"),
        ({"*|*|*": "1", "*|helpful|*": "3"}, "3"),
        ({"*|*|*": "1", "en|*|*": "4"}, "4"),
        ({"*|helpful|*": "3", "*|helpful|gift": "5"}, "5"),
        ({"*|helpful|gift": "5", "en|helpful|gift": "6", "*|*|*": "1"}, "6"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value,
)
def test_the_most_specific_campaign_wins(
    start: Start, recorder: Recorder, campaigns: dict[str, str], expected: str
) -> None:
    """Of the campaigns whose key fits, the one with the fewest `*` is used."""
    request = requested(
        start,
        recorder,
        cohorts={COHORT: cohort(channel=["whatsapp"], offer=["gift"])},
        channels={"whatsapp": {"campaigns": campaigns}},
    )
    assert request.body["campaign_id"] == expected


def test_the_unconfirmed_endpoint_only_when_asked_for(start: Start, recorder: Recorder) -> None:
    """`endpoint = "whatsapp"` sends without a campaign, to the address that is not confirmed."""
    request = requested(
        start, recorder, cohorts=ON_WHATSAPP, channels={"whatsapp": {"endpoint": "whatsapp"}}
    )
    assert request.path == WHATSAPP


def test_without_a_campaign_whatsapp_is_not_eligible_live(
    start: Start, recorder: Recorder
) -> None:
    """With neither campaign nor endpoint, only the other channel is drawn, and why is shown."""
    engine = start(to=recorder, cohorts={COHORT: cohort(channel=["push", "whatsapp"])})
    shown = engine.experiment(engine.scheduled(somebody()))
    assert set(shown["decision"]["eligible"]) == {"2min|push|helpful|none"}
    assert shown["decision"]["not_eligible"] == {"no_campaign": ["2min|whatsapp|helpful|none"]}


def test_without_a_campaign_whatsapp_is_eligible_dry(start: Start) -> None:
    """In dry run WhatsApp takes part, campaign or not."""
    engine = start(cohorts={COHORT: cohort(channel=["whatsapp"])})
    assert engine.event(somebody())["status"] == "scheduled"


def test_users_of_one_call(start: Start, recorder: Recorder) -> None:
    """With `batch`, equal messages share a call that carries nothing of a single user."""
    engine = start(to=recorder, channels={"push": {"batch": 1000}})
    ids = [engine.scheduled(user) for user in ("usr_1", "usr_2", "usr_3")]
    engine.deliver(after="2min")
    (request,) = recorder.received
    assert sorted(request.body["to"]["Identity"]) == ["usr_1", "usr_2", "usr_3"]
    content = str(request.body["content"])
    assert [text for text in ("usr_", "experiment_id", *ids) if text in content] == []


@pytest.mark.parametrize("channel", ["push", "whatsapp"])
@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("endpoint", ["externaltrigger", "whatsapp"])
def test_the_double_finds_nothing_wrong(
    start: Start, double: CleverTapDouble, channel: str, batch: int, endpoint: str
) -> None:
    """Every form of request passes the checks of a CleverTap that refuses what it cannot know."""
    on_whatsapp: dict[str, Any] = {"batch": batch, "endpoint": endpoint}
    if endpoint == "externaltrigger":
        on_whatsapp["campaigns"] = {"*|*|*": "1700000000"}
    engine = start(
        to=double,
        cohorts={COHORT: cohort(channel=[channel])},
        channels={"push": {"batch": batch}, "whatsapp": on_whatsapp},
    )
    users = [somebody(), "9876543210", "Ünï cøde", "quote\"s'"]
    for user in users:
        engine.scheduled(user)
    engine.deliver(after="2min")
    assert [call for call in double.calls() if not call.processed] == []
    assert sorted(user for call in double.ledger() for user in call.users) == sorted(users)
