"""Headers on every answer of the dashboard: nothing inline, nothing from elsewhere, no frames."""

from collections.abc import Awaitable, Callable
from typing import Any

from experiment_engine.entrypoints.http.bodies import Message, Receive, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'"
)

_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Headers:
    """Adds the headers to whatever the application answers."""

    def __init__(self, application: Callable[[Any, Receive, Send], Awaitable[None]]) -> None:
        """Answer through the application."""
        self._application = application

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._application(scope, receive, with_headers)
