"""The routes of the API: parse, call one use case, answer."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self

import msgspec
from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from experiment_engine import __version__
from experiment_engine.application import described
from experiment_engine.application.noted import Noted
from experiment_engine.domain.delivery.copy import clean
from experiment_engine.domain.events import Chosen, Requested, Source, Terms
from experiment_engine.domain.identifiers import (
    EVERY_CHANNEL,
    Channel,
    CohortName,
    ComboKey,
    UserId,
)
from experiment_engine.domain.measurement.silence import ENGINE
from experiment_engine.domain.moments import iso, to_instant
from experiment_engine.domain.pausing import of_channel, of_combo, of_level
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.http.access import Scope
from experiment_engine.entrypoints.http.door import Lane
from experiment_engine.entrypoints.http.errors import ApiError
from experiment_engine.entrypoints.http.running import Running

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NO_CONTROL = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"

UserPath = Annotated[str, Field(min_length=1, max_length=256, pattern=_NO_CONTROL)]


class TriggerBody(BaseModel):
    """Who is to be written to, and in which cohort."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "usr_123"}]})

    user_id: UserPath
    cohort: Annotated[str, Field(min_length=1, max_length=256)]
    attributes: Annotated[
        dict[str, Any],
        Field(description="What an event's properties would say: language, show_name, ..."),
    ] = {}


def _only(*names: str) -> dict[str, JsonValue]:
    """Return the schema of a scope that is named by these, and by nothing else."""
    places = ("cohort", "channel", "combo_key", "level")
    several = len(names) > 1
    named: JsonValue = {"type": "string"} if several else {"type": ["string", "null"]}
    return {place: named if place in names else {"type": "null"} for place in places}


def _no_number(value: object) -> object:
    """Refuse what pydantic would take for seconds since 1970."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("write ISO 8601, such as 2026-11-22T10:00:00Z")
    return value


class ScopeBody(BaseModel):
    """One cohort, one channel, or of one cohort a combo or a level; without it, everything."""

    model_config = ConfigDict(
        extra="forbid",  # a mistyped name must not mean "all"
        json_schema_extra={
            "anyOf": [
                {"properties": _only("cohort")},
                {"properties": _only("channel")},
                {"properties": _only("cohort", "combo_key"), "required": ["cohort", "combo_key"]},
                {"properties": _only("cohort", "level"), "required": ["cohort", "level"]},
            ]
        },
    )

    cohort: str | None = None
    channel: Annotated[str | None, Field(description="In every cohort.")] = None
    combo_key: Annotated[str | None, Field(description="Of the cohort.")] = None
    level: Annotated[
        str | None,
        Field(description="Of the cohort: every combo with it, such as `angle=scarcity`."),
    ] = None

    @model_validator(mode="after")
    def _is_one_scope(self) -> Self:
        of_cohort = [value for value in (self.combo_key, self.level) if value is not None]
        alone = self.channel is None or (self.cohort is None and not of_cohort)
        if not alone or len(of_cohort) > 1 or (of_cohort and self.cohort is None):
            raise ValueError(
                "name a cohort, or a channel, or a cohort with a combo_key or a level"
            )
        return self

    def scope(self) -> str | None:
        """Return the scope that is meant; None for everything."""
        if self.channel is not None:
            return of_channel(Channel(self.channel))
        if self.combo_key is not None:
            return of_combo(CohortName(self.cohort or ""), self.combo_key)
        if self.level is not None:
            dimension, _, named = self.level.partition("=")
            return of_level(CohortName(self.cohort or ""), dimension, named)
        return self.cohort


class ChannelBody(BaseModel):
    """One channel; without it, all of them. The rest is kept as the record of a consent."""

    model_config = ConfigDict(extra="forbid")  # a mistyped name must not mean "all"

    channel: str | None = None
    at: Annotated[
        datetime | None, Field(description="When the user said so (ISO 8601); else it is now.")
    ] = None
    text_version: Annotated[
        str | None, Field(max_length=200, description="Of what the user read and agreed to.")
    ] = None
    purpose: Annotated[
        str | None, Field(max_length=200, description="What the user agreed to it for.")
    ] = None


def running(request: Request) -> Running:
    """Return what this process runs."""
    found: Running = request.app.state.running
    return found


def _engine(request: Request) -> Engine:
    return running(request).engine


def who(request: Request) -> str:
    """Return who asks, for the audit."""
    here = running(request)
    return here.api_gate.who(dict(request.scope["headers"]), here.engine.key_of("dashboard"))


def _lane(request: Request) -> Lane:
    return running(request).lane


@dataclass(frozen=True, slots=True)
class Requirement:
    """Lets in only secrets of one scope."""

    scope: Scope

    async def __call__(self, request: Request) -> None:
        """Refuse whoever has no such secret."""
        refused = running(request).api_gate.refusal(dict(request.scope["headers"]), self.scope)
        if refused is not None:
            raise ApiError(refused.status, refused.code, refused.message)


def requires(scope: Scope) -> Any:
    """Return the dependency that every guarded route declares."""
    return Depends(Requirement(scope))


def scopes_of(router: APIRouter) -> dict[tuple[str, str], Scope]:
    """Return what each route asks for, by method and path; what asks for nothing is left out."""
    return {
        (method, route.path): needed.dependency.scope
        for route in router.routes
        if isinstance(route, APIRoute)
        for needed in route.dependencies
        if isinstance(needed.dependency, Requirement)
        for method in route.methods or ()
    }


EngineHere = Annotated[Engine, Depends(_engine)]
LaneHere = Annotated[Lane, Depends(_lane)]

_Answers = dict[int | str, dict[str, Any]]
UNKNOWN: _Answers = {404: {"description": "Nothing has this name; the message says what there is"}}
IGNORED: _Answers = {200: {"description": "Ignored, with the reason"}}
NOT_READY: _Answers = {503: {"description": "It cannot do its work now; each check says why"}}

open_routes = APIRouter(tags=["state"])
routes = APIRouter(tags=["api"])


@open_routes.head("/health", include_in_schema=False)  # as some monitors ask
@open_routes.get("/health")
def health(engine: EngineHere) -> dict[str, Any]:
    """Answer while the process lives."""
    return {
        "status": "ok",
        "version": __version__,
        "mode": engine.mode.value,
        "configuration": engine.rules.fingerprint,
    }


@open_routes.head("/ready", include_in_schema=False)
@open_routes.get("/ready", responses=NOT_READY)
def ready(request: Request) -> JSONResponse:
    """Answer 200 when events can be taken in and messages sent, else 503 with what is wrong."""
    answer = running(request).readiness()
    return JSONResponse(answer, status_code=200 if answer["ready"] else 503)


@routes.get("/metrics", response_class=PlainTextResponse, dependencies=[requires(Scope.STATS)])
def metrics(request: Request) -> Response:
    """Answer Prometheus' text format."""
    return Response(running(request).metrics_text(), media_type="text/plain; version=0.0.4")


@routes.post(
    "/api/trigger",
    status_code=201,
    responses=UNKNOWN | IGNORED,
    dependencies=[requires(Scope.TRIGGER)],
)
async def trigger(
    body: TriggerBody, request: Request, engine: EngineHere, lane: LaneHere
) -> JSONResponse:
    """Start an experiment for a user by hand: every guardrail holds, nobody is held out."""
    engine.rules.require_cohort(body.cohort)
    fact = Requested(
        UserId(body.user_id.strip()),
        CohortName(body.cohort),
        await request.body(),
        body.attributes,
    )
    taken = await lane.submit([fact])
    (result,) = taken.results
    if result.status != "scheduled" or result.experiment_id is None:
        return JSONResponse(msgspec.to_builtins(result), status_code=200)
    return JSONResponse(described.decided(*taken.decided[result.experiment_id]), 201)


@routes.get("/api/stats", responses=UNKNOWN, dependencies=[requires(Scope.STATS)])
def stats(
    engine: EngineHere,
    cohort: str | None = None,
    since: Annotated[
        datetime | None,
        BeforeValidator(_no_number),
        Query(description="Only experiments decided from then on (ISO 8601)."),
    ] = None,
) -> dict[str, Any]:
    """Answer the plain live counts, the best and the worst combos."""
    return engine.report.statistics(cohort, None if since is None else to_instant(since))


@routes.get("/api/outcomes", responses=UNKNOWN, dependencies=[requires(Scope.STATS)])
def outcomes(engine: EngineHere, cohort: str | None = None) -> dict[str, Any]:
    """Answer how deliveries ended: every state and reason with its number."""
    return engine.report.outcomes(cohort)


@routes.get(
    "/api/experiments/{experiment_id}", responses=UNKNOWN, dependencies=[requires(Scope.STATS)]
)
def experiment(experiment_id: str, engine: EngineHere) -> dict[str, Any]:
    """Answer one experiment with everything that explains it."""
    return engine.report.experiment(experiment_id)


@routes.get("/api/quarantine", dependencies=[requires(Scope.ADMIN)])
def quarantine(
    engine: EngineHere, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """Answer what was authenticated and not understood, byte for byte, newest first."""
    return engine.report.quarantine(limit)


@routes.get("/api/users/{user_id}", dependencies=[requires(Scope.STATS)])
def user(user_id: UserPath, engine: EngineHere) -> dict[str, Any]:
    """Answer the user's timeline, newest first, with what was not sent and why."""
    return engine.report.user(user_id)


@routes.delete("/api/users/{user_id}", dependencies=[requires(Scope.ADMIN)])
def erase(user_id: UserPath, request: Request, engine: EngineHere) -> dict[str, Any]:
    """Forget the user: what waits is cancelled, what is personal removed, the counts stay."""
    engine.hands.erase(UserId(user_id), who=who(request))
    return {"status": "erased", "user_id": user_id}


@routes.post(
    "/api/users/{user_id}/opt-out", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)]
)
async def opt_out(
    user_id: UserPath,
    request: Request,
    engine: EngineHere,
    lane: LaneHere,
    body: Annotated[ChannelBody | None, Body()] = None,
) -> dict[str, Any]:
    """Write to the user no more, on one channel or on all."""
    return await _choose(user_id, body, request, engine, lane, allowed=False)


@routes.delete(
    "/api/users/{user_id}/opt-out", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)]
)
async def opt_in(
    user_id: UserPath,
    request: Request,
    engine: EngineHere,
    lane: LaneHere,
    body: Annotated[ChannelBody | None, Body()] = None,
) -> dict[str, Any]:
    """Record that the user agrees to messages again, on one channel or on all."""
    return await _choose(user_id, body, request, engine, lane, allowed=True)


@routes.post("/api/pause", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)])
def pause(
    request: Request, engine: EngineHere, body: Annotated[ScopeBody | None, Body()] = None
) -> dict[str, Any]:
    """Stop deciding and sending, for everything or a part; holds when this is answered."""
    return _pause(request, engine, body, paused=True)


@routes.post("/api/resume", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)])
def resume(
    request: Request, engine: EngineHere, body: Annotated[ScopeBody | None, Body()] = None
) -> dict[str, Any]:
    """Go on deciding and sending."""
    return _pause(request, engine, body, paused=False)


@routes.post(
    "/api/cohorts/{cohort}/unfreeze", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)]
)
def unfreeze(cohort: str, request: Request, engine: EngineHere) -> dict[str, Any]:
    """Trust a cohort's feedback again after it looked forged or broken, and go on learning."""
    name = engine.rules.require_cohort(cohort).name
    was_frozen = engine.hands.unfreeze(name, who=who(request))
    return {"cohort": cohort, "was_frozen": was_frozen}


def require_source(source: str) -> None:
    """Refuse the name of a source that there is not."""
    if source not in {*Source, ENGINE}:
        known = ", ".join(sorted({*Source, ENGINE}))
        raise ApiError(404, "unknown_source", f'There is no source "{source}". Known: {known}.')


@routes.get("/api/sources", dependencies=[requires(Scope.STATS)])
def sources(engine: EngineHere) -> dict[str, Any]:
    """Answer which sources are or were silent, as long as trials are held for it."""
    return engine.report.sources()


@routes.post(
    "/api/sources/{source}/release", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)]
)
def release(source: str, request: Request, engine: EngineHere) -> dict[str, Any]:
    """Count trials whole again that a silent source holds, and let its rhythm begin anew."""
    require_source(source)
    return {"source": source, "released": engine.hands.release_source(source, who=who(request))}


class ComboBody(BaseModel):
    """One combo of the cohort."""

    model_config = ConfigDict(extra="forbid")

    combo_key: Annotated[str, Field(min_length=1, max_length=1024)]


@routes.post(
    "/api/cohorts/{cohort}/cancel", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)]
)
def cancel_combo(
    cohort: str, body: ComboBody, request: Request, engine: EngineHere
) -> dict[str, Any]:
    """Cancel every message that waits for a combo."""
    key = ComboKey(body.combo_key)
    cancelled = engine.hands.cancel_combo(CohortName(cohort), key, who=who(request))
    return {"cohort": cohort, "combo_key": key, "cancelled": cancelled}


@routes.post(
    "/api/cohorts/{cohort}/reset", responses=UNKNOWN, dependencies=[requires(Scope.ADMIN)]
)
def reset_combo(
    cohort: str, body: ComboBody, request: Request, engine: EngineHere
) -> dict[str, Any]:
    """Let a combo's past count no more for learning; its counts stay and are shown."""
    key = ComboKey(body.combo_key)
    begins = engine.hands.reset_combo(CohortName(cohort), key, who=who(request))
    return {"cohort": cohort, "combo_key": key, "learns_from": iso(begins)}


def _pause(
    request: Request, engine: Engine, body: ScopeBody | None, *, paused: bool
) -> dict[str, Any]:
    engine.hands.pause(body.scope() if body else None, paused=paused, who=who(request))
    return {
        "paused": {scope: iso(since) for scope, since in engine.report.reading.paused().items()}
    }


async def _choose(
    user_id: str,
    body: ChannelBody | None,
    request: Request,
    engine: Engine,
    lane: Lane,
    *,
    allowed: bool,
) -> dict[str, Any]:
    channel = body.channel if body and body.channel else EVERY_CHANNEL
    if channel != EVERY_CHANNEL and channel not in engine.rules.channels:
        known = ", ".join(sorted(engine.rules.channels))
        raise ApiError(404, "unknown_channel", f'There is no channel "{channel}". Known: {known}.')
    told = body or ChannelBody()
    chosen = Chosen(
        UserId(user_id),
        allowed,
        engine.clock.now() if told.at is None else to_instant(told.at),
        await request.body(),
        Source.API,
        Channel(channel),
        terms=Terms(clean(told.text_version), clean(told.purpose)),
    )
    (result,) = (await lane.submit([chosen])).results
    after = {"channel": channel, "allowed": allowed}
    what = "opted in" if allowed else "opted out"
    noted = Noted(who(request), what, user_id, after=after)
    await run_in_threadpool(engine.hands.note_about, UserId(user_id), noted)
    answer: dict[str, Any] = msgspec.to_builtins(result)
    return answer
