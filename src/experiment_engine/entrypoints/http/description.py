"""The webhooks in the OpenAPI description: the door is not a route that FastAPI knows."""

from typing import Any

_RESULT = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {
            "type": "string",
            "enum": [
                "scheduled",
                "holdout",
                "recorded",
                "cancelled",
                "duplicate",
                "ignored",
                "quarantined",
            ],
        },
        "reason": {"type": "string"},
        "experiment_id": {"type": "string"},
        "scheduled_for": {"type": "string", "format": "date-time"},
        "cohort": {"type": "string"},
        "experiment_ids": {"type": "array", "items": {"type": "string"}},
    },
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_PAIR = {"example": {"user_id": "usr_123", "experiment_id": "0193..."}}
_TRACK = {
    "example": {
        "type": "track",
        "event": "checkout_abandoned",
        "userId": "usr_123",
        "messageId": "ajs-1",
        "timestamp": "2026-11-22T10:00:00.000Z",
        "properties": {"language": "Bhojpuri"},
        "context": {"timezone": "Asia/Kolkata"},
    }
}
_BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "/webhook/amplitude": (
        "One Amplitude event, an array of them, or {events: [...]}",
        {
            "example": {
                "event_type": "checkout_abandoned",
                "user_id": "usr_123",
                "device_id": "dev_1",
                "$insert_id": "a1",
                "event_time": "2026-11-22 10:00:00.000",
                "event_properties": {"language": "Bhojpuri", "show_name": "Mahabharat"},
            }
        },
    ),
    "/webhook/amplitude-cohort": (
        "A cohort webhook of Amplitude: users who entered or left a cohort",
        {
            "example": {
                "cohort_name": "Stuck in checkout",
                "cohort_id": "7khm89cz",
                "in_cohort": True,
                "computed_time": "1795341600",
                "message_id": "0b7c::enter::0",
                "users": [{"user_id": "usr_123", "user_properties": {"language": "Bhojpuri"}}],
            }
        },
    ),
    "/webhook/segment": ("One call of Segment, or an array of them", _TRACK),
    "/webhook/rudderstack": ("One call of RudderStack, or an array of them", _TRACK),
    "/webhook/posthog": (
        "One event of PostHog, or an array of them",
        {
            "example": {
                "event": {
                    "event": "checkout_abandoned",
                    "distinct_id": "usr_123",
                    "uuid": "0193a1c2-0000-7000-8000-000000000001",
                    "timestamp": "2026-11-22T10:00:00.000Z",
                    "properties": {"language": "Bhojpuri"},
                },
                "person": {"properties": {"plan": "free"}},
            }
        },
    ),
    "/webhook/backend": (
        "One event of your own server, an array of them, or {events: [...]}",
        {
            "example": {
                "type": "checkout_abandoned",
                "timestamp": "2026-11-22T10:00:00.000Z",
                "data": {"user_id": "usr_123", "properties": {"language": "Bhojpuri"}},
            }
        },
    ),
    "/webhook/opened": ("A message was opened", _PAIR),
    "/webhook/converted": ("A user reached the goal", _PAIR),
    "/webhook/opted-out": ("A user wants no more messages", {"example": {"user_id": "usr_123"}}),
}


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """Add the webhooks to a generated description, once."""
    for path, (summary, body) in _BODIES.items():
        document["paths"].setdefault(path, {"post": _operation(summary, body)})
    return document


def _operation(summary: str, body: dict[str, Any]) -> dict[str, Any]:
    refusals = {
        "400": "Not JSON: kept in quarantine",
        "401": "Wrong credentials: nothing is kept",
        "403": "Not from here, or not in the secret's scope",
        "413": "Too large",
        "503": "Nothing was stored: send it again",
    }
    results = {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": _RESULT}},
    }
    return {
        "tags": ["webhooks"],
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {
                "description": "Durable; one result per event, in their order",
                "content": {"application/json": {"schema": results}},
            },
            **{
                status: {
                    "description": meaning,
                    "content": {"application/json": {"schema": _ERROR}},
                }
                for status, meaning in refusals.items()
            },
        },
    }
