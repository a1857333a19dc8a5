"""What an answer of Meta means for the one message of a call.

Facts: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes. There is no
idempotency key, so what may have been taken is UNCERTAIN; its report settles it.
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

_BY_CODE: Mapping[int, Meaning] = {
    # Too many calls, messages, or messages to this one user: nothing was taken, wait.
    **dict.fromkeys((4, 80007, 130429, 131048, 131056), NOT_TAKEN),
    # About this user: kept from it by Meta, part of Meta's experiment, out of reach, said no.
    **dict.fromkeys((130472, 131021, 131026, 131047, 131049, 131050), REFUSED),
    # "Something went wrong", whatever the status beside it.
    **dict.fromkeys((1, 2, 131000, 131016), UNCERTAIN),
}
_ABOUT_THE_FAULT = ("code", "type", "message", "fbtrace_id")


def of_reply(reply: Reply, secrets: Iterable[str] = ()) -> Answer:
    """Classify an answer of which at least the status arrived."""
    said = members_of(reply.body)
    meaning, reason = _meaning(reply, said)
    return answered(reply, meaning, reason, _telling(said) if said else None, secrets)


def _meaning(reply: Reply, said: Members | None) -> tuple[Meaning, str]:
    if reply.status not in SUCCESSES:
        code = _code(said)
        known = _BY_CODE.get(code) or of_status(reply.status)
        return known, f"code_{code}" if code else f"http_{reply.status}"
    if said is None:
        return UNCERTAIN, reply.fault or "not_json"
    if _message_id(said):
        return ACCEPTED, "accepted"
    return UNCERTAIN, "status_unclear"


def _code(said: Members | None) -> int:
    code = error_of(said).get("code")
    return code if isinstance(code, int) and not isinstance(code, bool) and 0 < code < 10**9 else 0


def _message_id(said: Members) -> str | None:
    messages = said.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    known = first.get("id") if isinstance(first, dict) else None
    return known if isinstance(known, str) and known else None


def _telling(said: Members) -> bytes:
    """Keep what speaks of the message or its fault; the phone that is echoed is personal data."""
    error = error_of(said)
    told = {
        name: error[name] for name in _ABOUT_THE_FAULT if isinstance(error.get(name), str | int)
    }
    details = error.get("error_data")
    if isinstance(details, dict) and isinstance(details.get("details"), str):
        told["details"] = details["details"]
    return msgspec.json.encode({"error": told} if told else {"id": _message_id(said)})
