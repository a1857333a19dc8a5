"""Every error of the API has one shape, and its message tells a person what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from experiment_engine.domain.errors import (
    EngineError,
    Overloaded,
    StorageUnavailable,
    UnknownCohort,
    UnknownExperiment,
    UnknownScope,
)

_STATUS: Mapping[type[EngineError], tuple[int, str]] = {
    UnknownCohort: (404, "unknown_cohort"),
    UnknownExperiment: (404, "unknown_experiment"),
    UnknownScope: (404, "unknown_scope"),
    Overloaded: (503, "busy"),
    StorageUnavailable: (503, "not_stored"),
}


class ApiError(Exception):
    """An answer other than success, ready to be given."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep what is answered."""
        super().__init__(message)
        self.status, self.code = status, code


def add_error_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every kind of error in the one shape."""
    app.state.routes = [route for route in routes if isinstance(route, Route)]
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    for kind in _STATUS:
        app.add_exception_handler(kind, _engine_error)


def _shape(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body = {"error": {"code": code, "message": message}}
    if status == 503:  # noqa: PLR2004
        headers = {"Retry-After": "1"}
    if status == 401:  # noqa: PLR2004 - and not Basic, for which a browser would ask
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse(body, status_code=status, headers=headers)


async def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for nothing else
    return _shape(error.status, error.code, str(error))


async def _engine_error(_request: Request, error: Exception) -> JSONResponse:
    status, code = next(told for kind, told in _STATUS.items() if isinstance(error, kind))
    return _shape(status, code, str(error))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    if error.status_code == 400:  # noqa: PLR2004 - how FastAPI answers a body it cannot read
        return _shape(422, "invalid", "The body cannot be read: send JSON in UTF-8.")
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    named = code.get(error.status_code, "refused")
    headers = error.headers
    if error.status_code == 405:  # noqa: PLR2004
        headers = {"Allow": _allowed(request)}
    return _shape(error.status_code, named, str(error.detail), headers)


def _allowed(request: Request) -> str:
    """Return the methods of a path: Starlette names those of its first route only."""
    of_api: Sequence[Route] = request.app.state.routes
    found = [route for route in of_api if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in found for method in route.methods or ()}))


async def _failed(_request: Request, _error: Exception) -> JSONResponse:
    return _shape(500, "engine_error", "The engine failed; its log says how. Try again.")


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    faults = [_fault(fault) for fault in error.errors()]
    if "json" not in request.headers.get("content-type", "json"):
        faults.insert(0, "send the header `Content-Type: application/json`")
    return _shape(422, "invalid", "; ".join(faults))


def _fault(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "json_invalid":
        return f"body: not JSON, at character {fault['loc'][-1]}"
    places = [str(place) for place in fault["loc"] if place != "body"]
    return f"{'.'.join(places) or 'body'}: {fault['msg']}"
