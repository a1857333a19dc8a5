"""Routes for what partners tell afterwards; nothing that comes here is the beginning of a message.

`reconcile` uses them where a server has the embedded database.
"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from experiment_engine.adapters.amplitude.payload import MAX_EVENTS, parse
from experiment_engine.domain.errors import NotUnderstood
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import Instant, to_instant
from experiment_engine.domain.past import ToldLater
from experiment_engine.entrypoints.http.access import Scope
from experiment_engine.entrypoints.http.api import (
    UNKNOWN,
    EngineHere,
    UserPath,
    require_source,
    requires,
    routes,
    who,
)
from experiment_engine.entrypoints.http.errors import ApiError

__all__ = ["routes"]  # the routes of the API, with those of this module


class PastEvents(BaseModel):
    """Events as Amplitude exports them."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[list[dict[str, Any]], Field(max_length=MAX_EVENTS)]


class PastReport(BaseModel):
    """One record of CleverTap's events API."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=1_024)]
    user_id: UserPath
    at: AwareDatetime
    properties: dict[str, Any] = {}


class PastReports(BaseModel):
    """Records of CleverTap's events API."""

    model_config = ConfigDict(extra="forbid")

    reports: Annotated[list[PastReport], Field(max_length=MAX_EVENTS)]


class PastSpan(BaseModel):
    """A span that a partner has told of afterwards."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime
    until: AwareDatetime


def _moment(at: datetime) -> Instant:
    return max(Instant(0), to_instant(at))  # nothing was told before 1970


@routes.post("/api/reconcile/amplitude", dependencies=[requires(Scope.ADMIN)])
async def past_events(body: PastEvents, request: Request, engine: EngineHere) -> dict[str, int]:
    """Take in goals, opt-outs and opt-ins that never arrived; triggers start nothing."""
    del body  # its bytes are kept as they are
    try:
        facts = parse(await request.body())
    except NotUnderstood as error:
        raise ApiError(400, "not_understood", str(error)) from None
    return await run_in_threadpool(lambda: dict(engine.traffic.reconcile(facts, ())))


@routes.post("/api/reconcile/clevertap", dependencies=[requires(Scope.ADMIN)])
def past_reports(body: PastReports, engine: EngineHere) -> dict[str, int]:
    """Take in goals and opens, and settle unknown messages by delivery reports."""
    reports = [
        ToldLater(one.name, UserId(one.user_id.strip()), _moment(one.at), one.properties)
        for one in body.reports
    ]
    return dict(engine.traffic.reconcile((), reports))


@routes.post(
    "/api/sources/{source}/filled", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)]
)
def filled(source: str, body: PastSpan, request: Request, engine: EngineHere) -> dict[str, Any]:
    """Let go of the silences of a source inside a span of which all has been told since."""
    require_source(source)
    span = _moment(body.since), _moment(body.until)
    number = engine.hands.fill_silences(source, span, who=who(request))
    return {"source": source, "filled": number}
