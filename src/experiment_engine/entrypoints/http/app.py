"""The whole HTTP application: the door of the webhooks in front of the ordinary API."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from experiment_engine import __version__
from experiment_engine.adapters.clevertap import callbacks as clevertap
from experiment_engine.adapters.meta.signature import Greeting
from experiment_engine.application.ports import Clock
from experiment_engine.domain.events import Source
from experiment_engine.entrypoints.http.access import Gate, Scope
from experiment_engine.entrypoints.http.api import open_routes, scopes_of
from experiment_engine.entrypoints.http.bodies import MAX_BODY
from experiment_engine.entrypoints.http.description import describe
from experiment_engine.entrypoints.http.door import App, Door, Webhook
from experiment_engine.entrypoints.http.errors import add_error_handlers
from experiment_engine.entrypoints.http.partners import META_PATH, PARTNERS, by_body
from experiment_engine.entrypoints.http.past_routes import routes
from experiment_engine.entrypoints.http.running import Running
from experiment_engine.settings import Settings

# Makes whatever answers beside the API, from what gives the API's description.
Pages = Callable[[Callable[[], dict[str, Any]]], App]


def build_app(running: Running, doors: Mapping[str, Webhook], pages: Pages | None = None) -> Door:
    """Return the ASGI application; what it runs starts and stops with its lifespan."""
    return Door(doors, running.lane, _api(running, doors, pages))


def webhooks(settings: Settings, clock: Clock) -> dict[str, Webhook]:
    """Return the webhooks by path, each with its secret, scope and reader.

    A partner without a secret has none where others can reach the server.
    """
    doors = {
        partner.path: partner.webhook(secrets, clock)
        for partner in PARTNERS
        if (secrets := settings.secrets(partner.setting)) or settings.is_loopback
    }
    if settings.meta_verify_token and META_PATH in doors:
        greeting = Greeting(settings.meta_verify_token)
        doors[META_PATH] = replace(doors[META_PATH], greeting=greeting)
    gate = Gate(settings.clevertap_webhook_secret, "CLEVERTAP_WEBHOOK_SECRET")
    for path, scope, parse in _REPORTS:
        doors[path] = Webhook(gate, scope, Source.CLEVERTAP, by_body(parse))
    return doors


_REPORTS = (
    ("/webhook/opened", Scope.ENGAGEMENT, clevertap.parse_opened),
    ("/webhook/converted", Scope.CONVERSION, clevertap.parse_converted),
    ("/webhook/opted-out", Scope.ENGAGEMENT, clevertap.parse_opted_out),
)


def _api(running: Running, doors: Mapping[str, Webhook], pages: Pages | None) -> FastAPI:
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
        docs_url=None,  # theirs loads its scripts from elsewhere; ours is one of the pages
        redoc_url=None,
    )
    app.state.running = running
    app.include_router(open_routes)
    app.include_router(routes)
    add_error_handlers(app, [*open_routes.routes, *routes.routes, *app.routes])
    generated = app.openapi
    scopes = scopes_of(routes)

    def openapi() -> dict[str, Any]:
        return describe(generated(), doors, scopes)

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    if pages is not None:
        app.router.default = pages(openapi)  # whatever the API does not know
    return app
