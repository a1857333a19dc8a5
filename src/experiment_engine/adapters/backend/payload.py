"""What a server of the app's own says happened, to whom, and when.

The body is that of Standard Webhooks (https://www.standardwebhooks.com):
`{"type": "checkout_abandoned", "timestamp": "...", "data": {"user_id": "...", ...}}`. In `data`,
`properties` are the event's and `user_properties` the user's; without `properties`, all that
`data` holds besides is the event's.
"""

from collections.abc import Mapping

from experiment_engine.adapters.event_input import Members, event_of, facts_of
from experiment_engine.adapters.json_input import mapping_of, text_of
from experiment_engine.domain.events import Fact, Source

_OWN = frozenset({"user_id", "properties", "user_properties"})


def parse(body: bytes, headers: Mapping[bytes, bytes]) -> list[Fact]:
    """Return one fact per event; `webhook-id` names what is sent again, and so does an `id`."""
    sent_as = headers.get(b"webhook-id", b"").decode("latin-1").strip()
    place = 0

    def read(event: Members, raw: bytes) -> Fact:
        nonlocal place
        place += 1
        data = mapping_of(event.get("data"))
        others = {name: value for name, value in data.items() if name not in _OWN}
        return event_of(
            Source.BACKEND,
            raw,
            name=event.get("type"),
            user_id=data.get("user_id"),
            at=event.get("timestamp"),
            key=text_of(event.get("id")) or (f"{sent_as}:{place}" if sent_as else None),
            event_properties=data.get("properties", others),
            user_properties=data.get("user_properties"),
        )

    return facts_of(body, read, Source.BACKEND, wrapper="events")
