"""Every token at every route with every method: only what is listed succeeds.

The routes are those of the running engine; what they need is written down here by hand for the
pages, and in the README's table for webhooks and API. A route that is in neither fails the test.
"""

import re
from collections.abc import Iterator, Mapping

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from tests.acceptance.test_access import rows
from tests.support.configuration import COHORT
from tests.support.engine import RunningEngine, running_engine
from tests.support.start import Start
from tests.unit.test_docs import documented_routes

from experiment_engine.entrypoints.dashboard.app import Dashboard
from experiment_engine.entrypoints.http.access import Scope
from experiment_engine.entrypoints.http.api import open_routes, routes, scopes_of
from experiment_engine.entrypoints.http.partners import PARTNERS
from experiment_engine.settings import Settings

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
OPEN = "none"

# What everybody may see or try, besides /health and /ready.
OPEN_PAGES = {
    *(("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/static/{name}")),
    *(("GET", "/login"), ("POST", "/login")),
}
LOOKING = {
    *("/", "/overview.json", "/overview/listening"),
    *("/results/{cohort}", "/results/{cohort}.json", "/results/{cohort}/heat"),
    *("/combinations/{cohort}", "/combinations/{cohort}.json", "/messages", "/messages.json"),
    *("/schedule", "/schedule.json", "/users", "/users.json"),
    *("/events", "/events.json", "/events/stream", "/guardrails", "/guardrails.json"),
    *("/health-checks", "/health-checks.json", "/demo/truth", "/demo/truth.json"),
}
CHANGING = {
    *("/pause", "/resume", "/users/opt-out", "/users/opt-in", "/users/erase"),
    *("/quarantine/again", "/trust"),
}
NEEDED: dict[tuple[str, str], str] = {
    **documented_routes(),
    **dict.fromkeys(OPEN_PAGES, OPEN),
    **{("GET", path): Scope.STATS.value for path in LOOKING},
    **{("POST", path): Scope.ADMIN.value for path in CHANGING},
    ("POST", "/logout"): OPEN,  # without a session it ends none
}

UNSCOPED = ("/login", "/logout")  # who may, is said by the form and not by a scope

DOORS = {partner.path: partner.setting for partner in PARTNERS} | dict.fromkeys(
    ("/webhook/opened", "/webhook/converted", "/webhook/opted-out"), "CLEVERTAP_WEBHOOK_SECRET"
)
SETTINGS = sorted(
    name.upper()
    for name in Settings.model_fields
    if name == "api_token" or name.endswith("_webhook_secret")
)
FILLED = {"experiment_id": "x", "user_id": "usr_x", "cohort": COHORT, "name": "none.css"}
FILLED["source"] = "amplitude"


def secret(setting: str, kind: str) -> str:
    """Return a secret: of a setting, for one scope, for everything, or the one that is coming."""
    return f"{setting.lower()}-{kind}"


KINDS = (*(scope.value for scope in Scope), "all", "next")
SECRETS = {
    setting: ",".join(
        secret(setting, kind) if kind in ("all", "next") else f"{kind}:{secret(setting, kind)}"
        for kind in KINDS
    )
    for setting in SETTINGS
}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine with seven secrets at every door."""
    with running_engine(tmp_path_factory.mktemp("matrix"), environ=SECRETS) as engine:
        yield engine


def served(engine: RunningEngine) -> set[tuple[str, str]]:
    """Return method and path of everything that the running engine answers."""
    pages = Dashboard(engine.running, dict)._application().routes
    found = {
        (method, path)
        for path, operations in engine.get("/openapi.json")["paths"].items()
        for method in map(str.upper, operations)
    }
    for route in (*pages, *FastAPI(docs_url=None, redoc_url=None).routes):
        assert isinstance(route, Route)
        methods = (route.methods or {"GET"}) - {"HEAD"}
        found |= {(method, route.path) for method in methods}
    return found


def filled(path: str) -> str:
    """Return an address of a route; a parameter that is new here has to be thought of."""
    return re.sub(r"\{(\w+)\}", lambda found: FILLED[found[1]], path)


def status_of(engine: RunningEngine, method: str, path: str, headers: Mapping[str, str]) -> int:
    """Return how a request is answered; of an answer that does not end, its beginning."""
    with engine.client.stream(
        method, filled(path), headers={**headers, "accept": "*/*"}, follow_redirects=False
    ) as answer:
        return answer.status_code


def test_every_route_has_a_declared_need(closed: RunningEngine) -> None:
    """A route that is neither in the README's table nor listed here fails this test."""
    assert served(closed) == set(NEEDED)


def test_every_route_of_the_api_declares_its_scope() -> None:
    """Outside of /health and /ready each route has exactly one requirement."""
    declared = scopes_of(routes)
    of_api = [route for route in routes.routes if isinstance(route, APIRoute)]
    assert len(of_api) == len(routes.routes) == len(declared)
    assert {route.path for route in open_routes.routes if isinstance(route, APIRoute)} == {
        "/health",
        "/ready",
    }


@pytest.mark.parametrize(("method", "path"), sorted(NEEDED))
def test_only_the_listed_pairs_succeed(closed: RunningEngine, method: str, path: str) -> None:
    """Each secret of each door at one route: 401 from another door, 403 for another scope."""
    needed, door = NEEDED[method, path], DOORS.get(path, "API_TOKEN")
    for setting in SETTINGS:
        for kind in KINDS:
            bearer = {"Authorization": f"Bearer {secret(setting, kind)}"}
            status = status_of(closed, method, path, bearer)
            if needed == OPEN:
                assert status not in (401, 403) or path in UNSCOPED, (setting, kind, status)
            elif setting != door:
                assert status == 401, (setting, kind, status)
            elif kind in (needed, "all", "next"):
                assert status < 500, (setting, kind, status)
                assert status not in (401, 403, 405) or path in CHANGING, (setting, kind, status)
            else:
                assert status == 403, (setting, kind, status)


@pytest.mark.parametrize(("method", "path"), sorted(NEEDED))
def test_without_a_secret_only_what_is_open_answers(
    closed: RunningEngine, method: str, path: str
) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic Og=="}):
        status = status_of(closed, method, path, headers)
        if NEEDED[method, path] == OPEN:
            assert status < 500
        else:
            assert status == 401


@pytest.mark.parametrize("path", sorted({path for _, path in NEEDED}))
def test_no_other_method_does_anything(closed: RunningEngine, path: str) -> None:
    """Whatever is not listed is refused, with the best of secrets too, and changes no row."""
    listed = {method for method, known in NEEDED if known == path}
    best = secret(DOORS.get(path, "API_TOKEN"), "all")
    before = rows(closed)
    for method in set(METHODS) - listed:
        status = status_of(closed, method, path, {"Authorization": f"Bearer {best}"})
        answers_head = method == "HEAD" and "GET" in listed
        assert status < 500
        assert answers_head or status in (401, 404, 405), (method, status)
    assert rows(closed) == before


def test_looking_changes_no_row(closed: RunningEngine) -> None:
    """No GET of any route changes anything, whoever asks."""
    closed.client.post(
        "/webhook/amplitude",
        content=b"nonsense",
        headers={"Authorization": f"Bearer {secret('AMPLITUDE_WEBHOOK_SECRET', 'all')}"},
    )
    before = rows(closed)
    for method, path in sorted(NEEDED):
        if method == "GET":
            for kind in KINDS:
                bearer = {"Authorization": f"Bearer {secret('API_TOKEN', kind)}"}
                status_of(closed, "GET", path, bearer)
    assert rows(closed) == before


FOREIGN: list[dict[str, str]] = [
    {"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://elsewhere.example"},
    {"origin": "null"},
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
@pytest.mark.parametrize(("method", "path"), sorted(k for k in NEEDED if k[0] != "GET"))
def test_no_other_site_changes_anything(
    shared: RunningEngine, method: str, path: str, foreign: dict[str, str]
) -> None:
    """Without tokens, a page of another site that makes a browser ask is refused everywhere."""
    before = rows(shared)
    status = status_of(shared, method, path, {**foreign, "content-type": "text/plain"})
    # Without tokens there is nobody to sign in or out.
    assert status in ((303, 403) if path in UNSCOPED else (403,))
    assert rows(shared) == before


@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
@pytest.mark.parametrize("path", sorted({*CHANGING, "/logout"}))
def test_no_other_site_uses_a_session(
    closed: RunningEngine, path: str, foreign: dict[str, str]
) -> None:
    """The browser sends the cookie along; without our own form's token nothing happens."""
    with httpx2.Client(base_url=closed.url, trust_env=False, verify=False) as visitor:
        closed.clock.advance("1min")  # the matrix has guessed at the sign-in, too
        signed = visitor.post("/login", data={"token": secret("API_TOKEN", "all")})
        assert signed.status_code == 303
        before = rows(closed)
        for token in ("", "0" * 64):
            form = {"form_token": token, "user_id": "usr_x", "confirm": "usr_x"}
            assert visitor.post(path, data=form, headers=foreign).status_code == 403
        assert rows(closed) == before
        assert visitor.get("/users").status_code == 200


@pytest.mark.parametrize("path", sorted(DOORS))
def test_a_secret_is_changed_without_a_refusal(start: Start, path: str) -> None:
    """First the new one is added, then the partner changes, then the old one is taken out."""
    setting = DOORS[path]

    def status(engine: RunningEngine, which: str) -> int:
        return status_of(engine, "POST", path, {"Authorization": f"Bearer {which}"})

    only_old = start(environ={setting: "old-secret"})
    assert [status(only_old, which) for which in ("old-secret", "new-secret")] == [400, 401]
    both = start(environ={setting: "old-secret,new-secret"})
    assert [status(both, which) for which in ("old-secret", "new-secret")] == [400, 400]
    only_new = start(environ={setting: "new-secret"})
    assert [status(only_new, which) for which in ("old-secret", "new-secret")] == [401, 400]


def test_the_fixture_has_a_secret_for_every_setting_and_scope() -> None:
    """Eight settings or more, seven kinds: none is forgotten when one is added."""
    assert [len(SECRETS[setting].split(",")) for setting in SETTINGS] == [7] * len(SETTINGS)
    assert set(DOORS.values()) | {"API_TOKEN"} == set(SETTINGS)


def test_the_quarantine_is_for_the_same_tokens_on_page_and_api(closed: RunningEngine) -> None:
    """What is not understood may hold anything: a token that only looks does not see it."""
    for path in ("/api/quarantine", "/events?show=quarantine", "/events.json?show=quarantine"):
        looks, changes = (
            {"Authorization": f"Bearer {secret('API_TOKEN', kind)}"} for kind in ("stats", "admin")
        )
        assert closed.client.get(path, headers=looks).status_code in (403, 404)
        if not path.startswith("/events"):
            assert closed.client.get(path, headers=changes).status_code == 200
        everything = {"Authorization": f"Bearer {secret('API_TOKEN', 'all')}"}
        assert closed.client.get(path, headers=everything).status_code == 200
