"""The whole HTTP application: the door of the webhooks in front of the ordinary API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from experiment_engine import __version__
from experiment_engine.adapters.amplitude import payload as amplitude
from experiment_engine.adapters.clevertap import callbacks as clevertap
from experiment_engine.domain.events import Source
from experiment_engine.entrypoints.http.access import Gate, Scope
from experiment_engine.entrypoints.http.api import open_routes, routes
from experiment_engine.entrypoints.http.bodies import MAX_BODY
from experiment_engine.entrypoints.http.description import describe
from experiment_engine.entrypoints.http.door import App, Door, Webhook
from experiment_engine.entrypoints.http.errors import add_error_handlers
from experiment_engine.entrypoints.http.running import Running


def build_app(
    running: Running, amplitude_gate: Gate, clevertap_gate: Gate, pages: App | None = None
) -> Door:
    """Return the ASGI application; what it runs starts and stops with its lifespan."""
    return Door(webhooks(amplitude_gate, clevertap_gate), running.lane, _api(running, pages))


def webhooks(amplitude_gate: Gate, clevertap_gate: Gate) -> dict[str, Webhook]:
    """Return the webhooks by path, each with its secret, scope and reader."""
    return {
        "/webhook/amplitude": Webhook(
            amplitude_gate,
            Scope.TRIGGER,
            Source.AMPLITUDE,
            amplitude.parse,
            frozenset({"POST", "PUT"}),  # Amplitude's page does not name its method
        ),
        "/webhook/opened": Webhook(
            clevertap_gate, Scope.ENGAGEMENT, Source.CLEVERTAP, clevertap.parse_opened
        ),
        "/webhook/converted": Webhook(
            clevertap_gate, Scope.CONVERSION, Source.CLEVERTAP, clevertap.parse_converted
        ),
        "/webhook/opted-out": Webhook(
            clevertap_gate, Scope.ENGAGEMENT, Source.CLEVERTAP, clevertap.parse_opted_out
        ),
    }


def _api(running: Running, pages: App | None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running.start()
        yield
        running.stop()

    app = FastAPI(
        title="Experiment engine",
        version=__version__,
        description="Brings users back: decides, sends once, and learns what works.",
        lifespan=lifespan,
        max_body_size=MAX_BODY,
    )
    app.state.running = running
    app.include_router(open_routes)
    app.include_router(routes)
    add_error_handlers(app)
    if pages is not None:
        app.router.default = pages  # whatever the API does not know
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        return describe(generated())

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app
