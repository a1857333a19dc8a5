"""What CleverTap is asked to send."""

import json

import pytest

from experiment_engine.adapters.calling.posting import Unsendable
from experiment_engine.adapters.clevertap.payload import (
    EXTERNAL_TRIGGER_PATH,
    PUSH_PATH,
    WHATSAPP_PATH,
    to_request,
)
from experiment_engine.domain.delivery.message import Call, Content
from experiment_engine.domain.identifiers import CallId, Channel, ExperimentId, UserId

PUSH = Content(
    channel=Channel("push"),
    title="आशा, रुकिए",
    body="Your ₹1 trial waits",
    deep_link="app://checkout?xp={experiment_id}",
)
WHATSAPP = Content(
    channel=Channel("whatsapp"),
    title="Hello",
    body="Your show waits",
    deep_link="https://example.com/?xp={experiment_id}",
    campaign_id="1700000000",
    fields={"show_name": "Ganga Kinare", "title": "not this one"},
)


def call(content: Content, users: int = 1) -> Call:
    recipients = {UserId(f"usr_{n}"): ExperimentId(f"exp-{n}") for n in range(1, users + 1)}
    return Call(CallId("call-1"), content, recipients)


def without(content: Content, **changes: object) -> Content:
    members = {name: getattr(content, name) for name in content.__slots__}
    return Content(**{**members, **changes})


def test_push() -> None:
    """A push for one user carries its experiment in both platforms and in the link."""
    extras = {"deep_link": "app://checkout?xp=exp-1", "experiment_id": "exp-1"}

    assert to_request(call(PUSH), "externaltrigger") == (
        PUSH_PATH,
        {
            "to": {"Identity": ["usr_1"]},
            "content": {
                "title": "आशा, रुकिए",
                "body": "Your ₹1 trial waits",
                "platform_specific": {"android": extras, "ios": extras},
            },
        },
    )


def test_external_trigger() -> None:
    """WhatsApp fills the campaign's template, and only with text."""
    assert to_request(call(WHATSAPP), "externaltrigger") == (
        EXTERNAL_TRIGGER_PATH,
        {
            "to": {"identity": ["usr_1"]},
            "campaign_id": "1700000000",
            "ExternalTrigger": {
                "title": "Hello",
                "body": "Your show waits",
                "deeplink": "https://example.com/?xp=exp-1",
                "experiment_id": "exp-1",
                "show_name": "Ganga Kinare",
            },
        },
    )


def test_whatsapp_template() -> None:
    """Behind the switch, a campaign is the name of a template."""
    assert to_request(call(WHATSAPP), "whatsapp") == (
        WHATSAPP_PATH,
        {
            "to": {"Identity": ["usr_1"]},
            "content": {
                "message_type": "template",
                "template_name": "1700000000",
                "body": {
                    "replacements": ["Hello", "Your show waits", "https://example.com/?xp=exp-1"]
                },
                "kv": {
                    "show_name": "Ganga Kinare",
                    "title": "not this one",
                    "deep_link": "https://example.com/?xp=exp-1",
                    "experiment_id": "exp-1",
                },
            },
        },
    )


def test_whatsapp_free_text() -> None:
    """Behind the switch, without a campaign, the text goes out as it is."""
    path, body = to_request(call(without(WHATSAPP, campaign_id=None)), "whatsapp")

    assert path == WHATSAPP_PATH
    assert body["content"] == {
        "message_type": "Freeform",
        "msg": "Hello\nYour show waits\nhttps://example.com/?xp=exp-1",
    }


@pytest.mark.parametrize("endpoint", ["externaltrigger", "whatsapp"])
@pytest.mark.parametrize("content", [PUSH, WHATSAPP], ids=["push", "whatsapp"])
def test_batched_call(content: Content, endpoint: object) -> None:
    """A call for many users names them all, and no experiment anywhere."""
    assert endpoint in ("externaltrigger", "whatsapp")
    _, body = to_request(call(content, users=3), endpoint)
    text = json.dumps(body)

    assert '["usr_1", "usr_2", "usr_3"]' in text
    assert "exp-" not in text
    assert "experiment_id" not in text
    assert "?xp=" in text


def test_no_link() -> None:
    """An empty link is left out, so that the template's or the app's own one holds."""
    _, push = to_request(call(without(PUSH, deep_link="")), "externaltrigger")
    _, trigger = to_request(call(without(WHATSAPP, deep_link="")), "externaltrigger")

    assert "link" not in json.dumps([push, trigger])


@pytest.mark.parametrize("campaign", [None, ""])
def test_no_campaign(campaign: str | None) -> None:
    """Without a campaign nothing can be triggered."""
    with pytest.raises(Unsendable) as raised:
        to_request(call(without(WHATSAPP, campaign_id=campaign)), "externaltrigger")
    assert raised.value.reason == "no_campaign"


def test_unknown_channel() -> None:
    """A channel that we do not speak is refused before anything is called."""
    with pytest.raises(Unsendable) as raised:
        to_request(call(without(PUSH, channel=Channel("email"))), "externaltrigger")
    assert raised.value.reason == "unknown_channel"
