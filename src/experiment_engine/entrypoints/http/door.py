"""The webhooks: one thin ASGI door ahead of the ordinary application.

With group commit the web framework is the slowest part of a webhook's path, so nothing of it is
on this one: authenticate, read, parse, hand over, answer.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from experiment_engine.adapters.json_input import MAX_EVENTS, TooManyEvents
from experiment_engine.application.results import Result
from experiment_engine.application.take_in import Taken
from experiment_engine.domain.errors import NotUnderstood, Overloaded, StorageUnavailable
from experiment_engine.domain.events import Fact, Source, Unreadable
from experiment_engine.entrypoints.http.access import Gate, Headers, Refused, Scope
from experiment_engine.entrypoints.http.bodies import (
    MAX_BODY,
    ClientGone,
    Receive,
    Send,
    TooLarge,
    answer,
    declared_length,
    encode,
    error_body,
    read_body,
)

log = structlog.get_logger()

App = Callable[[Any, Receive, Send], Awaitable[None]]

_TOO_LARGE = error_body(
    "too_large", "A request may have at most 1 MiB and 2,000 events: send several."
)
_BUSY = error_body("busy", "More events wait than can be stored now. Send it again in a moment.")
_NOT_STORED = error_body(
    "not_stored", "The database cannot be written now and nothing was stored. Send it again."
)
_FAILED = error_body("engine_error", "The engine failed; nothing was stored. Send it again.")
_STRANGER = error_body("forbidden", "The verify token is missing or wrong.")
_METHODS = error_body("method_not_allowed", "Use POST.")
_RETRY = (b"retry-after", b"1")
_SHOW = (b"www-authenticate", b'Bearer, Basic realm="webhook"')  # no browser asks here


class Lane(Protocol):
    """Where facts are taken in."""

    @property
    def is_full(self) -> bool:
        """Say whether requests must be refused now."""

    async def submit(self, facts: Sequence[Fact]) -> Taken:
        """Take facts in and return after the commit."""


class Greeting(Protocol):
    """Answers a partner's question whether the address is ours."""

    def answer(self, query: bytes) -> bytes | None:
        """Return what the partner wants to hear; None for anybody else."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One route of the door."""

    gate: Gate
    scope: Scope
    source: Source
    parse: Callable[[bytes, Headers], list[Fact]]
    methods: frozenset[str] = frozenset({"POST"})
    max_body: int = MAX_BODY
    greeting: Greeting | None = None  # where the partner tries out the address with a GET


class Door:
    """Answers the webhooks itself and passes everything else on."""

    def __init__(self, webhooks: Mapping[str, Webhook], lane: Lane, application: App) -> None:
        """Serve `webhooks` by their exact path."""
        self._webhooks, self._lane, self._application = webhooks, lane, application

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        webhook = self._webhooks.get(scope.get("path", "")) if scope["type"] == "http" else None
        if webhook is None:
            await self._pass_on(scope, receive, send)
            return
        try:
            await self._webhook(webhook, scope, receive, send)
        except ClientGone:
            return
        except StorageUnavailable:
            await answer(send, 503, _NOT_STORED, _RETRY)
        except Overloaded:
            await answer(send, 503, _BUSY, _RETRY)
        except Exception:
            log.exception("webhook_failed", path=scope["path"])
            await answer(send, 503, _FAILED, _RETRY)

    async def _pass_on(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and declared_length(dict(scope["headers"])) > MAX_BODY:
            await answer(send, 413, _TOO_LARGE)
        else:
            await self._application(scope, receive, send)

    async def _webhook(self, webhook: Webhook, scope: Any, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET" and webhook.greeting is not None:
            await self._greet(webhook.greeting, scope, send)
            return
        if scope["method"] not in webhook.methods:
            allowed = ", ".join(sorted(webhook.methods)).encode()
            await answer(send, 405, _METHODS, (b"allow", allowed))
            return
        headers = dict(scope["headers"])
        refused = webhook.gate.refusal(headers, webhook.scope)
        if refused is not None:
            await _refuse(send, refused)
            return
        if self._lane.is_full:  # before reading: a refusal must cost less than an event
            await answer(send, 503, _BUSY, _RETRY)
            return
        try:
            body = await read_body(headers, receive, webhook.max_body)
            refused = webhook.gate.refusal_of_body(headers, body, webhook.scope)
            if refused is not None:
                await _refuse(send, refused)
                return
            facts = webhook.parse(body, headers)
        except (TooLarge, TooManyEvents):
            await answer(send, 413, _TOO_LARGE)
        except NotUnderstood as error:
            kept = Unreadable("not_json", body, webhook.source)
            await self._lane.submit([kept])
            await answer(send, 400, error_body("not_json", f"Kept in quarantine: {error}"))
        else:
            await answer(send, 200, encode({"results": await self._take(facts)}))

    async def _greet(self, greeting: Greeting, scope: Any, send: Send) -> None:
        said = greeting.answer(scope.get("query_string", b""))
        if said is None:
            await answer(send, 403, _STRANGER)
            return
        await answer(send, 200, said)

    async def _take(self, facts: Sequence[Fact]) -> list[Result]:
        """Take facts in, at most so many in one transaction as others can wait for."""
        results: list[Result] = []
        for start in range(0, len(facts), MAX_EVENTS):
            some = facts[start : start + MAX_EVENTS]
            results += (await self._lane.submit(some)).results
        return results


async def _refuse(send: Send, refused: Refused) -> None:
    said = error_body(refused.code, refused.message)
    extra = [_SHOW] if refused.status == 401 else []  # noqa: PLR2004
    await answer(send, refused.status, said, *extra)
