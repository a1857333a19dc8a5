"""Signing in and out: guesses are limited, a session that was ended is ended everywhere."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from tests.support.clock import FakeClock
from tests.support.configuration import COHORT
from tests.support.engine import RunningEngine, running_engine

from experiment_engine.entrypoints.dashboard.app import SIGNED_OUT

TOKENS = {"API_TOKEN": "master-token,stats:looks-only,trigger:no-looks"}
AS_BROWSER = {"accept": "text/html,*/*", "sec-fetch-site": "same-origin"}


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[RunningEngine]:
    """Return an engine with tokens that nobody has guessed at yet."""
    with running_engine(tmp_path, environ=TOKENS) as engine:
        yield engine


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Return what closes every browser of a test."""
    with ExitStack() as stack:
        yield stack


def browser(engine: RunningEngine, opened: ExitStack) -> httpx2.Client:
    """Return somebody who has no cookie yet."""
    client = httpx2.Client(base_url=engine.url, headers=AS_BROWSER, trust_env=False, verify=False)
    return opened.enter_context(client)


def sign_in(visitor: httpx2.Client, token: str = "master-token") -> int:
    return visitor.post("/login", data={"token": token, "back": "/users"}).status_code


def sign_out(visitor: httpx2.Client) -> int:
    page = visitor.get(f"/results/{COHORT}").text
    (token,) = set(re.findall(r'name="form_token" value="(\w+)"', page))
    return visitor.post("/logout", data={"form_token": token}).status_code


def test_of_a_thousand_guesses_five_are_looked_at(
    closed: RunningEngine, opened: ExitStack
) -> None:
    """1,000 guesses of one address over eight connections; the right token waits its minute."""
    visitors = [browser(closed, opened) for _ in range(8)]
    with ThreadPoolExecutor(len(visitors)) as threads:
        statuses = list(
            threads.map(lambda n: sign_in(visitors[n % 8], f"guess-{n}"), range(1_000))
        )
    assert (statuses.count(401), statuses.count(429)) == (5, 995)
    answer = visitors[0].post("/login", data={"token": "master-token"})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "60"
    assert "Try again in 60 seconds" in answer.text
    assert "set-cookie" not in answer.headers
    closed.clock.advance("1min")
    assert sign_in(visitors[0]) == 303


def test_guessing_stops_neither_who_is_in_nor_programs(
    closed: RunningEngine, opened: ExitStack
) -> None:
    """A stranger who guesses can shut out new sign-ins for a while, and nothing else."""
    inside, stranger = browser(closed, opened), browser(closed, opened)
    assert sign_in(inside) == 303
    assert [sign_in(stranger, "guess") for _ in range(6)] == [401] * 5 + [429]
    assert inside.get("/users").status_code == 200
    bearer = {"Authorization": "Bearer master-token"}
    assert closed.client.get("/api/stats", headers=bearer).status_code == 200
    assert closed.client.post("/api/pause", headers=bearer).status_code == 200


def test_an_address_in_a_header_is_not_believed(closed: RunningEngine, opened: ExitStack) -> None:
    """X-Forwarded-For gets nobody another five guesses."""
    visitor = browser(closed, opened)
    statuses = []
    for n in range(10):
        visitor.headers["X-Forwarded-For"] = f"192.0.2.{n}"
        statuses.append(sign_in(visitor, "guess"))
    assert statuses == [401] * 5 + [429] * 5


def test_a_token_for_something_else_looks_like_a_wrong_one(
    closed: RunningEngine, opened: ExitStack
) -> None:
    """Who guesses does not learn that a token exists."""
    visitor = browser(closed, opened)
    wrong = visitor.post("/login", data={"token": "nobody's"})
    unfit = visitor.post("/login", data={"token": "no-looks"})
    assert (wrong.status_code, wrong.text) == (unfit.status_code, unfit.text)


@pytest.mark.parametrize("token", ["\ud800", "\x00", "ü" * 10_000, " "])
def test_an_odd_token_is_a_wrong_one(closed: RunningEngine, opened: ExitStack, token: str) -> None:
    body = b"token=" + token.encode("utf-8", "surrogatepass")
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert browser(closed, opened).post("/login", content=body, headers=form).status_code in (
        401,
        413,
    )


def test_a_session_that_was_there_before_is_not_taken_over(
    closed: RunningEngine, opened: ExitStack
) -> None:
    """Signing in gives a new session, whatever cookie came along (no fixation)."""
    attacker, victim = browser(closed, opened), browser(closed, opened)
    assert sign_in(attacker, "looks-only") == 303
    planted = attacker.cookies["session"]
    victim.cookies.set("session", planted)
    answer = victim.post("/login", data={"token": "master-token"})
    assert f"session={planted}" not in answer.headers["set-cookie"]


def test_signing_out_leaves_an_entry_that_names_no_id(
    closed: RunningEngine, opened: ExitStack
) -> None:
    visitor = browser(closed, opened)
    sign_in(visitor)
    value = visitor.cookies["session"]
    assert sign_out(visitor) == 303
    (newest,) = closed.engine.pages.reading.audit(1)
    assert newest.what == SIGNED_OUT
    assert re.fullmatch(r"session [0-9a-f]{16}", newest.target)
    assert newest.target.removeprefix("session ") not in value


def test_after_a_restart_a_session_stays_ended(tmp_path: Path, opened: ExitStack) -> None:
    clock = FakeClock()
    with running_engine(tmp_path, environ=TOKENS, clock=clock) as engine:
        stays, leaves = browser(engine, opened), browser(engine, opened)
        sign_in(stays)
        sign_in(leaves)
        cookie = {"cookie": f"session={leaves.cookies['session']}"}
        kept = {"cookie": f"session={stays.cookies['session']}"}
        sign_out(leaves)
    with running_engine(tmp_path, environ=TOKENS, clock=clock) as engine:
        assert engine.client.get("/users", headers=AS_BROWSER | cookie).status_code == 303
        assert engine.client.get("/users", headers=AS_BROWSER | kept).status_code == 200


def test_signed_out_here_is_signed_out_there(
    tmp_path: Path, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL every process refuses a session that was ended at another."""
    monkeypatch.setitem(os.environ, "TEST_DATABASE", "postgresql")
    with (
        running_engine(tmp_path, environ=TOKENS) as here,
        running_engine(tmp_path, environ=TOKENS, clock=here.clock) as there,
    ):
        visitor = browser(here, opened)
        sign_in(visitor)
        cookie = {"cookie": f"session={visitor.cookies['session']}"}
        assert there.client.get("/users", headers=AS_BROWSER | cookie).status_code == 200
        assert sign_out(visitor) == 303
        assert there.client.get("/users", headers=AS_BROWSER | cookie).status_code == 303
        assert there.client.get("/overview.json", headers=cookie).status_code == 401


def test_the_api_page_loads_nothing_from_elsewhere(shared: RunningEngine) -> None:
    """`/docs` draws the description by itself, under the dashboard's strict policy."""
    answer = shared.client.get("/docs", headers=AS_BROWSER)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "://" not in answer.text.replace("http://www.w3.org", "")
    paths = shared.get("/openapi.json")["paths"]
    for path, operations in paths.items():
        for method in operations:
            assert f"<code>{method.upper()} {path}</code>" in answer.text
    assert len(paths) > 15
