"""What Firebase is asked to send: a notification to one device, with our id beside it.

Facts: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages. Values of `data`
are text, and a message has at most 4,096 bytes.
"""

from experiment_engine.adapters.calling.posting import Unsendable
from experiment_engine.domain.delivery.message import Call

Json = dict[str, object]


def to_body(call: Call) -> Json:
    """Return the body; raise Unsendable without a token or the one experiment."""
    if call.address is None or call.experiment_id is None:
        raise Unsendable("no_address")
    content = call.content
    data = {"experiment_id": call.experiment_id, "deep_link": call.link}
    return {
        "message": {
            "token": call.address,
            "notification": {"title": content.title, "body": content.body},
            "data": {name: value for name, value in data.items() if value},
        }
    }
