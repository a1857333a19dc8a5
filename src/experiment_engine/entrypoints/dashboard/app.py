"""The dashboard as one ASGI application: pages, their data, changes and static files."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from experiment_engine import __version__
from experiment_engine.application.noted import Noted
from experiment_engine.domain.errors import EngineError, StorageUnavailable
from experiment_engine.domain.moments import Instant
from experiment_engine.entrypoints.dashboard import (
    combinations,
    events,
    guardrails,
    health,
    messages,
    overview,
    results,
    schedule,
    truth,
    users,
)
from experiment_engine.entrypoints.dashboard.changes import CHANGES, Change, Form
from experiment_engine.entrypoints.dashboard.guesses import TooManyGuesses
from experiment_engine.entrypoints.dashboard.headers import Headers
from experiment_engine.entrypoints.dashboard.pages import Asked, NoSuchPage, Page, View
from experiment_engine.entrypoints.dashboard.rendering import environment, plain
from experiment_engine.entrypoints.dashboard.sessions import Session, Sessions
from experiment_engine.entrypoints.dashboard.static_files import StaticFiles
from experiment_engine.entrypoints.dashboard.visitors import (
    FORM_TOKEN,
    SIGN_IN,
    WRONG_FORM,
    Doorkeeper,
)
from experiment_engine.entrypoints.http.access import Refused, Scope
from experiment_engine.entrypoints.http.bodies import Receive, Send
from experiment_engine.entrypoints.http.running import Running

log = structlog.get_logger()

PAGES: Sequence[Page] = (
    overview.PAGE,
    results.PAGE,
    combinations.PAGE,
    messages.PAGE,
    schedule.PAGE,
    users.PAGE,
    events.PAGE,
    guardrails.PAGE,
    health.PAGE,
    truth.PAGE,
)
FRAGMENTS: Sequence[Page] = (*overview.FRAGMENTS, *results.FRAGMENTS, *users.FRAGMENTS)

SIGNED_OUT = "signed out"

_Answer = Callable[[Request], Awaitable[Response]]

_UNKNOWN_TOKEN = "This token is not known here, or not for looking at pages."  # noqa: S105 - a text
_SMALL = 1_000  # bytes that are not worth compressing
_FORM_BYTES = 16_384


class Dashboard:
    """Answers every address that the API does not know."""

    def __init__(self, running: Running, document: Callable[[], Mapping[str, Any]]) -> None:
        """Serve the pages of what this process runs, one of which draws the API's description."""
        key = running.engine.key_of("dashboard")
        self._running = running
        self._door = Doorkeeper(
            running.api_gate, Sessions(key), running.engine.clock, key, self._is_ended
        )
        self._document = document
        self._files = StaticFiles()
        self._templates = environment(self._files.address)
        self._app = Headers(self._application())

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        await self._app(scope, receive, send)

    def _application(self) -> Starlette:
        routes = [Route("/static/{name}", self._files.serve)]
        for page in PAGES:
            routes.append(Route(page.data_path, self._data(page)))
            routes.append(Route(page.path, self._html(page)))
        routes += [Route(page.path, self._html(page)) for page in FRAGMENTS]
        routes += [Route(c.path, self._change(c), methods=["POST"]) for c in CHANGES]
        routes += [
            Route("/docs", self._api_page, methods=["GET"]),
            Route("/events/stream", self._stream),
            Route("/login", self._login_page, methods=["GET"]),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._guarded_change(self._logout), methods=["POST"]),
        ]
        handlers = {HTTPException: self._failed, Exception: self._failed}
        return Starlette(
            routes=routes,
            middleware=[Middleware(GZipMiddleware, minimum_size=_SMALL)],
            exception_handlers=handlers,
        )

    def _html(self, page: Page) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            visitor = self._door.visitor(request, page.scope)
            if isinstance(visitor, Refused):
                return self._refused(request, visitor)
            asked = Asked(self._running, visitor, request)
            view = page.view(asked)
            drawn = page.drawn(view, asked)
            response = self._render(page.template, asked, {**view, **drawn, "nav": page.name})
            self._door.renew(response, visitor, request)
            return response

        return self._guarded(answer)

    def _data(self, page: Page) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            visitor = self._door.visitor(request, page.scope)
            if isinstance(visitor, Refused):
                return _json_error(visitor.status, visitor.code, visitor.message)
            view = page.view(Asked(self._running, visitor, request))
            return Response(
                msgspec.json.encode(plain(view)),
                media_type="application/json",
                headers={"cache-control": "no-store"},
            )

        return self._guarded(answer)

    def _change(self, change: Change) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            visitor = await run_in_threadpool(self._door.visitor, request, Scope.ADMIN)
            if isinstance(visitor, Refused):
                return self._refused(request, visitor)
            form = await _form(request)
            if not self._door.is_own_form(request, visitor, form.get(FORM_TOKEN, "")):
                return self._refused(request, WRONG_FORM)
            asked = Asked(self._running, visitor, request)
            return RedirectResponse(await change.make(asked, Form(form)), 303)

        return self._guarded_change(answer)

    async def _stream(self, request: Request) -> Response:
        visitor = await run_in_threadpool(self._door.visitor, request, Scope.STATS)
        if isinstance(visitor, Refused):
            return _json_error(visitor.status, visitor.code, visitor.message)
        asked = Asked(self._running, visitor, request)
        row = self._templates.get_template("_event.html")
        return StreamingResponse(
            events.tail(asked, lambda event: row.render(event=event, zone=events.zone(asked))),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    def _login_page(self, request: Request) -> Response:
        return self._login_form(request, 200, "")

    def _login_form(self, request: Request, status: int, failure: str) -> Response:
        if not self._door.asks_for_token:
            return RedirectResponse("/", 303)
        text = self._templates.get_template("login.html").render(
            failure=failure, back=_back(request.query_params.get("back", "/")), theme="auto"
        )
        return HTMLResponse(text, status, {"cache-control": "no-store"})

    async def _login(self, request: Request) -> Response:
        # No session to bind a token to yet: a login that another site makes is refused by origin.
        form = await _form(request)
        if not self._door.is_same_origin(request):
            return self._refused(request, WRONG_FORM)
        try:
            session = self._door.sign_in(form.get("token", ""), _address(request))
        except TooManyGuesses as error:
            log.warning("sign_in_limited", seconds=error.seconds)
            response = await run_in_threadpool(self._login_form, request, 429, str(error))
            response.headers["retry-after"] = str(error.seconds)
            return response
        if session is None:
            return await run_in_threadpool(self._login_form, request, 401, _UNKNOWN_TOKEN)
        response = RedirectResponse(_back(form.get("back", "/")), 303)
        self._door.keep(response, session, request)
        return response

    async def _logout(self, request: Request) -> Response:
        visitor = await run_in_threadpool(self._door.visitor, request, Scope.STATS)
        form = await _form(request)
        if isinstance(visitor, Refused):
            return RedirectResponse("/login", 303)
        if not self._door.is_own_form(request, visitor, form.get(FORM_TOKEN, "")):
            return self._refused(request, WRONG_FORM)
        if visitor.session is not None:  # its entry in the audit is what ends it everywhere
            noted = Noted(visitor.who, SIGNED_OUT, visitor.session.name())
            await run_in_threadpool(self._running.engine.hands.note, noted)
        response = RedirectResponse("/login", 303)
        self._door.take_back(response)
        return response

    def _is_ended(self, session: Session) -> bool:
        reading, since = self._running.engine.pages.reading, Instant(session.opened_at)
        return reading.was_noted(SIGNED_OUT, session.name(), since)

    def _api_page(self, _request: Request) -> Response:
        """Draw the description that stands at /openapi.json, for people."""
        text = self._templates.get_template("docs.html").render(
            document=self._document(), theme="auto"
        )
        return HTMLResponse(text)

    def _guarded(self, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def guarded(request: Request) -> Response:
            try:
                return answer(request)
            except Exception as error:  # noqa: BLE001 - a page tells of every failure
                return self._error(request, error)

        return guarded

    def _guarded_change(self, answer: _Answer) -> _Answer:
        async def guarded(request: Request) -> Response:
            try:
                return await answer(request)
            except HTTPException:
                raise
            except Exception as error:  # noqa: BLE001 - a page tells of every failure
                return await run_in_threadpool(self._error, request, error)

        return guarded

    def _error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, NoSuchPage):
            return self._message(request, 404, "not_found", str(error))
        if isinstance(error, StorageUnavailable):
            text = "The database does not answer now. Try again in a moment."
            return self._message(request, 503, "not_stored", text)
        if isinstance(error, EngineError):
            return self._message(request, 404, "unknown", str(error))
        log.error("page_failed", path=request.url.path, exc_info=error)
        text = "The engine failed; its log says how. Try again."
        return self._message(request, 500, "engine_error", text)

    async def _failed(self, request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            text = {404: "There is no such page.", 405: "This address takes no such request."}
            code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
            message = text.get(error.status_code, str(error.detail))
            return await run_in_threadpool(
                self._message, request, error.status_code, code, message
            )
        return await run_in_threadpool(self._error, request, error)

    def _refused(self, request: Request, refused: Refused) -> Response:
        if refused is SIGN_IN and request.method == "GET" and _wants_page(request):
            where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?back={quote(where)}", 303)
        return self._message(request, refused.status, refused.code, refused.message)

    def _message(self, request: Request, status: int, code: str, message: str) -> Response:
        if not _wants_page(request):
            return _json_error(status, code, message)
        text = self._templates.get_template("message.html").render(
            status=status, message=message, theme="auto"
        )
        return HTMLResponse(text, status, {"cache-control": "no-store"})

    def _render(self, template: str, asked: Asked, context: View) -> Response:
        text = self._templates.get_template(template).render(**self._shell(asked), **context)
        return HTMLResponse(text, headers={"cache-control": "no-store"})

    def _shell(self, asked: Asked) -> Mapping[str, Any]:
        """Return what every page shows around its content."""
        engine, reading = asked.engine, asked.engine.pages.reading
        theme = asked.query("theme", "auto")
        return {
            "theme": theme if theme in {"light", "dark"} else "auto",
            "mode": engine.mode.value,
            "demo": asked.running.demo,
            "cohorts": list(engine.rules.cohorts),
            "zone": engine.rules.timezone,
            "now": engine.clock.now(),
            "paused_scopes": sorted(engine.report.reading.paused()),
            "version": __version__,
            "database": reading.database(),
            "waiting_count": reading.waiting_up_to(_MANY),
            "many": _MANY,
            "visitor": asked.visitor,
            "may_change": asked.visitor.may(Scope.ADMIN),
            "form_token": asked.visitor.form_token,
            "here": _here(asked.request),
            "cohort_here": asked.request.path_params.get(
                "cohort", next(iter(engine.rules.cohorts))
            ),
        }


_MANY = 999  # waiting messages that are counted for the navigation


async def _form(request: Request) -> dict[str, str]:
    """Read a form; of a field that comes twice the first counts."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _FORM_BYTES:
            raise HTTPException(413, "A form of the dashboard is smaller.")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


def _address(request: Request) -> str:
    """Return where a request comes from: the peer, whatever a header says."""
    return request.client.host if request.client is not None else ""


def _json_error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _here(request: Request) -> str:
    query = request.url.query
    return _back(request.url.path + (f"?{query}" if query else ""))


def _back(where: str) -> str:
    """Return where to go on, which is always a page of ours."""
    is_ours = where.startswith("/") and not where.startswith(("//", "/\\"))
    return where if is_ours and where.isprintable() else "/"
