"""What Meta is asked to send: a template message to one phone.

Facts: https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages. The experiment's
id travels as `biz_opaque_callback_data` and comes back with every report about the message.
"""

import re
from collections.abc import Callable, Mapping

from experiment_engine.adapters.calling.posting import Unsendable
from experiment_engine.domain.delivery.message import Call, MessageTemplate

Json = dict[str, object]

# Meta refuses a gap's text with line breaks, tabs or more than four blanks in a row.
_BLANKS = re.compile(r"\s+")
_LONGEST = 1024  # characters of a gap

_VALUES: Mapping[str, Callable[[Call], str]] = {
    "title": lambda call: call.content.title,
    "body": lambda call: call.content.body,
    "deep_link": lambda call: call.link,
    "experiment_id": lambda call: call.experiment_id or "",
}


def to_body(call: Call) -> Json:
    """Return the body; raise Unsendable without a template, an address or the one experiment."""
    template, phone = call.content.template, call.address
    if template is None:
        raise Unsendable("no_campaign")
    if phone is None or call.experiment_id is None:
        raise Unsendable("no_address")
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": phone,
        "type": "template",
        "template": {
            "name": template.name,
            "language": {"code": template.language},
            "components": _components(template, call),
        },
        "biz_opaque_callback_data": call.experiment_id,
    }


def _components(template: MessageTemplate, call: Call) -> list[Json]:
    components: list[Json] = []
    for kind, names in (("header", template.header), ("body", template.parameters)):
        if names:
            components.append({"type": kind, "parameters": [_text(name, call) for name in names]})
    if template.button is not None:
        button: Json = {"type": "button", "sub_type": "url", "index": "0"}
        components.append(button | {"parameters": [_text(template.button, call)]})
    return components


def _text(name: str, call: Call) -> Json:
    text = _BLANKS.sub(" ", _VALUES[name](call)).strip()[:_LONGEST]
    if not text:
        raise Unsendable("not_writable")  # Meta takes no empty gap
    return {"type": "text", "text": text}
