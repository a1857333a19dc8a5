"""What FastAPI does not know of the OpenAPI description: webhooks, scopes, refusals."""

from collections.abc import Mapping
from typing import Any

from experiment_engine.entrypoints.http.access import Scope
from experiment_engine.entrypoints.http.door import Webhook

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
_CODES = {
    "401": "Wrong credentials: nothing is kept",
    "403": "Not from here, or not in the secret's scope",
    "413": "Too large",
    "503": "Nothing was stored: send it again",
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
            "schema": {"type": "object"},
            "example": {
                "cohort_name": "Stuck in checkout",
                "cohort_id": "7khm89cz",
                "in_cohort": True,
                "computed_time": "1795341600",
                "message_id": "0b7c::enter::0",
                "users": [{"user_id": "usr_123", "user_properties": {"language": "Bhojpuri"}}],
            },
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
    "/webhook/meta": (
        "Reports of Meta about messages, and users' choices",
        {"example": {"object": "whatsapp_business_account", "entry": []}},
    ),
    "/webhook/opened": ("A message was opened", _PAIR),
    "/webhook/converted": ("A user reached the goal", _PAIR),
    "/webhook/opted-out": ("A user wants no more messages", {"example": {"user_id": "usr_123"}}),
}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-Webhook-Secret"},
    "basic": {"type": "http", "scheme": "basic", "description": "The secret is the password."},
}
_ANY_SCHEME: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]


def describe(
    document: dict[str, Any],
    webhooks: Mapping[str, Webhook],
    scopes: Mapping[tuple[str, str], Scope],
) -> dict[str, Any]:
    """Add to a generated description the webhooks, and what each route asks for and refuses."""
    if "securitySchemes" in document.get("components", {}):
        return document  # FastAPI keeps what it generated
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, webhook in webhooks.items():
        for method in sorted(webhook.methods):
            operations = document["paths"].setdefault(path, {})
            operations[method.lower()] = _webhook(path, method, webhook.scope)
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's shape of an error
        document["components"].get("schemas", {}).pop(unused, None)
    for (method, path), scope in scopes.items():
        _guard(document["paths"][path][method.lower()], scope)
    return document


def _guard(operation: dict[str, Any], scope: Scope) -> None:
    operation |= {"security": _ANY_SCHEME, "x-scope": scope.value}
    for code, meaning in _CODES.items():
        operation["responses"].setdefault(code, _error(meaning))
    answers = operation["responses"]
    if "422" in answers:  # FastAPI describes its own shape; ours is another
        answers["422"] = _error("A body or parameter that does not fit")
    if "404" in answers:
        answers["404"] = _error(answers["404"]["description"])


def _webhook(path: str, method: str, scope: Scope) -> dict[str, Any]:
    summary, body = _BODIES[path]
    results = {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": _RESULT}},
    }
    operation = {
        "tags": ["webhooks"],
        "summary": summary,
        "operationId": f"{method.lower()}{path.replace('/', '_').replace('-', '_')}",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": ["object", "array"]}, **body}},
        },
        "responses": {
            "200": {
                "description": "Durable; one result per event, in their order",
                "content": {"application/json": {"schema": results}},
            },
            "400": _error("Not JSON: kept in quarantine"),
        },
    }
    _guard(operation, scope)
    return operation


def _error(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "content": {"application/json": {"schema": _ERROR}}}
