"""What CleverTap is asked to send: a call in their JSON.

Facts: https://developer.clevertap.com/docs/external-trigger-api and the samples of send-by-id in
github.com/CleverTap/clevertap-support-snippets.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from experiment_engine.adapters.calling.posting import Unsendable
from experiment_engine.domain.delivery.message import Call

PUSH_PATH = "/1/send/push.json"
EXTERNAL_TRIGGER_PATH = "/1/send/externaltrigger.json"
WHATSAPP_PATH = "/1/send/whatsapp.json"

WhatsAppEndpoint = Literal["externaltrigger", "whatsapp"]
Json = dict[str, object]


def to_request(call: Call, whatsapp_endpoint: WhatsAppEndpoint) -> tuple[str, Json]:
    """Return path and body; raise Unsendable for a channel or campaign that is not there."""
    channel = call.content.channel
    if channel == "whatsapp":
        return _WHATSAPP[whatsapp_endpoint](call)
    if channel == "push":
        return _push(call)
    raise Unsendable("unknown_channel")


def _push(call: Call) -> tuple[str, Json]:
    extras = {**_said(deep_link=_link(call)), **_id_of(call)}
    content = {
        "title": call.content.title,
        "body": call.content.body,
        "platform_specific": {"android": extras, "ios": extras},
    }
    return PUSH_PATH, {"to": {"Identity": list(call.recipients)}, "content": content}


def _external_trigger(call: Call) -> tuple[str, Json]:
    """Fill the campaign's template; only text may stand under ExternalTrigger."""
    content = call.content
    if not content.campaign_id:
        raise Unsendable("no_campaign")
    values = {
        **content.fields,
        "title": content.title,
        "body": content.body,
        **_said(deeplink=_link(call)),
        **_id_of(call),
    }
    return EXTERNAL_TRIGGER_PATH, {
        "to": {"identity": list(call.recipients)},  # small letters here, unlike a push
        "campaign_id": content.campaign_id,
        "ExternalTrigger": values,
    }


def _whatsapp(call: Call) -> tuple[str, Json]:
    """Write the shape that only third parties describe; no page of CleverTap's confirms it.

    With a campaign: the approved template of that name, filled with title, text and link.
    Without: free text, which WhatsApp takes only within a day of the user's own message.
    """
    content, link = call.content, _link(call)
    texts = [text for text in (content.title, content.body, link) if text]
    if content.campaign_id:
        message: Json = {
            "message_type": "template",
            "template_name": content.campaign_id,
            "body": {"replacements": texts},
            "kv": {**content.fields, **_said(deep_link=link), **_id_of(call)},
        }
    else:
        message = {"message_type": "Freeform", "msg": "\n".join(texts)}
    return WHATSAPP_PATH, {"to": {"Identity": list(call.recipients)}, "content": message}


_WHATSAPP: Mapping[WhatsAppEndpoint, Callable[[Call], tuple[str, Json]]] = {
    "externaltrigger": _external_trigger,
    "whatsapp": _whatsapp,
}


def _id_of(call: Call) -> dict[str, str]:
    """Name the experiment, if the call is for one user alone (CONTRACT R10)."""
    return {"experiment_id": _only_id(call)} if call.carries_ids else {}


def _link(call: Call) -> str:
    return call.content.deep_link.replace("{experiment_id}", _only_id(call))


def _only_id(call: Call) -> str:
    return next(iter(call.recipients.values())) if call.carries_ids else ""


def _said(**values: str) -> dict[str, str]:
    """Leave out what is empty: an empty link is not the same as none."""
    return {name: value for name, value in values.items() if value}
