"""What an answer of Firebase means for the one message of a call.

Facts: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode. There is no idempotency
key, so what may have been taken is UNCERTAIN.
"""

from collections.abc import Iterable, Mapping

import msgspec

from experiment_engine.adapters.calling.endings import (
    Members,
    Reply,
    answered,
    error_of,
    members_of,
)
from experiment_engine.adapters.calling.statuses import (
    ACCEPTED,
    NOT_TAKEN,
    REFUSED,
    SUCCESSES,
    UNCERTAIN,
    Meaning,
    of_status,
)
from experiment_engine.domain.delivery.message import Answer

_BY_CODE: Mapping[str, Meaning] = {
    "UNREGISTERED": REFUSED,  # the app was removed, or the token is an old one
    "SENDER_ID_MISMATCH": REFUSED,  # the token belongs to another project
    "INVALID_ARGUMENT": REFUSED,
    "QUOTA_EXCEEDED": NOT_TAKEN,
    "THIRD_PARTY_AUTH_ERROR": NOT_TAKEN,  # Apple's key is missing: heals when somebody adds it
    "UNAVAILABLE": UNCERTAIN,
    "INTERNAL": UNCERTAIN,
}


def of_reply(reply: Reply, secrets: Iterable[str] = ()) -> Answer:
    """Classify an answer of which at least the status arrived."""
    said = members_of(reply.body)
    meaning, reason = _meaning(reply, said)
    return answered(reply, meaning, reason, _telling(said) if said else None, secrets)


def _meaning(reply: Reply, said: Members | None) -> tuple[Meaning, str]:
    if reply.status not in SUCCESSES:
        code = _code(said)
        reason = code.lower() if code else f"http_{reply.status}"
        return _BY_CODE.get(code) or of_status(reply.status), reason
    if said is None:
        return UNCERTAIN, reply.fault or "not_json"
    name = said.get("name")
    if isinstance(name, str) and name:
        return ACCEPTED, "accepted"
    return UNCERTAIN, "status_unclear"


def _code(said: Members | None) -> str:
    """Return Firebase's own code among the details; '' for none that we know."""
    details = error_of(said).get("details")
    for detail in details if isinstance(details, list) else ():
        code = detail.get("errorCode") if isinstance(detail, dict) else None
        if isinstance(code, str) and code in _BY_CODE:
            return code
    return ""


def _telling(said: Members) -> bytes:
    """Keep what speaks of the message or its fault."""
    error = error_of(said)
    told = {
        name: error[name]
        for name in ("code", "status", "message")
        if isinstance(error.get(name), str | int)
    }
    name = said.get("name")
    return msgspec.json.encode(told or {"name": name if isinstance(name, str) else None})
