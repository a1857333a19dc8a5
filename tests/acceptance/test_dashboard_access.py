"""Who sees the dashboard and who changes things: sessions, forms, headers, the audit."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.configuration import COHORT
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import somebody

from experiment_engine.entrypoints.dashboard.static_files import FOLDER

TOKENS = {"API_TOKEN": "master-token,stats:looks-only,trigger:no-looks"}
PAGES = ("/", f"/results/{COHORT}", "/users", "/users?id=usr_1")
AS_BROWSER = {"accept": "text/html,*/*", "sec-fetch-site": "same-origin"}
COOKIE = "session"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine with tokens."""
    with running_engine(tmp_path_factory.mktemp("closed"), environ=TOKENS) as engine:
        yield engine


_OPEN: list[httpx2.Client] = []


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    """Close every browser that a test opened."""
    yield
    while _OPEN:
        _OPEN.pop().close()


def browser(engine: RunningEngine) -> httpx2.Client:
    """Return somebody who has no cookie yet."""
    _OPEN.append(
        httpx2.Client(base_url=engine.url, headers=AS_BROWSER, trust_env=False, verify=False)
    )
    return _OPEN[-1]


def signed_in(engine: RunningEngine, token: str = "master-token") -> httpx2.Client:
    """Return somebody with a session."""
    visitor = browser(engine)
    answer = visitor.post("/login", data={"token": token, "back": "/users"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/users")
    return visitor


def form_token(visitor: httpx2.Client) -> str:
    """Return what the forms of a visitor's pages carry."""
    found = re.search(r'name="form_token" value="(\w+)"', visitor.get(f"/results/{COHORT}").text)
    assert found is not None
    return found[1]


def audited(engine: RunningEngine) -> list[tuple[str, str, str, str, str]]:
    newest = engine.engine.pages.reading.audit(100)
    return [(e.who, e.what, e.target, e.before, e.after) for e in reversed(newest)]


@pytest.mark.parametrize("page", PAGES)
def test_without_tokens_this_machine_sees_every_page(shared: RunningEngine, page: str) -> None:
    answer = shared.client.get(page, headers=AS_BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Via"])
def test_without_tokens_nobody_else_does(shared: RunningEngine, header: str) -> None:
    assert shared.client.get("/", headers={**AS_BROWSER, header: "1.2.3.4"}).status_code == 403


@pytest.mark.parametrize(
    "page", [*PAGES, "/static/none.css", "/login", "/nothing", "/overview.json"]
)
def test_every_answer_has_the_strict_policy(shared: RunningEngine, page: str) -> None:
    """Nothing inline, nothing from elsewhere, no frames, on whatever the dashboard answers."""
    headers = shared.client.get(page, headers=AS_BROWSER).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("page", PAGES)
def test_no_page_has_anything_inline(shared: RunningEngine, page: str) -> None:
    text = shared.client.get(page, headers=AS_BROWSER).text
    assert not re.search(r"<style|style=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", text)


@pytest.mark.parametrize("page", PAGES)
def test_with_tokens_a_page_asks_to_sign_in(closed: RunningEngine, page: str) -> None:
    answer = browser(closed).get(page)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?back=/")


def test_data_and_changes_need_a_session_too(closed: RunningEngine) -> None:
    stranger = browser(closed)
    assert stranger.get("/overview.json").status_code == 401
    assert stranger.post("/pause", data={}).status_code == 401
    assert stranger.get(f"/results/{COHORT}/heat", headers={"accept": "*/*"}).status_code == 401


def test_a_wrong_token_gets_no_session(closed: RunningEngine) -> None:
    visitor = browser(closed)
    answer = visitor.post("/login", data={"token": "wrong-token"})
    assert answer.status_code == 401
    assert "not known here" in answer.text
    assert "set-cookie" not in answer.headers
    assert visitor.post("/login", data={"token": "no-looks"}).status_code == 401


def test_the_cookie_is_kept_from_scripts_and_other_sites(closed: RunningEngine) -> None:
    plain = browser(closed).post("/login", data={"token": "master-token"})
    assert "HttpOnly" in plain.headers["set-cookie"]
    assert "SameSite=lax" in plain.headers["set-cookie"]
    assert "Max-Age=7200" in plain.headers["set-cookie"]
    secure = browser(closed).post(
        "/login", data={"token": "master-token"}, headers={"X-Forwarded-Proto": "https"}
    )
    assert secure.headers["set-cookie"].startswith("__Host-session=")
    assert "Secure" in secure.headers["set-cookie"]


def test_after_signing_in_pages_and_data_are_there(closed: RunningEngine) -> None:
    visitor = signed_in(closed)
    assert [visitor.get(page).status_code for page in PAGES] == [200] * len(PAGES)
    assert visitor.get("/overview.json").json()["live"] is False
    assert visitor.get("/overview.json", headers={"cookie": ""}).status_code == 401


def test_data_opens_for_a_bearer_token_as_well(closed: RunningEngine) -> None:
    asked = {"Authorization": "Bearer looks-only"}
    assert closed.client.get("/overview.json", headers=asked).status_code == 200


def test_a_forged_or_changed_cookie_is_no_session(closed: RunningEngine) -> None:
    value = signed_in(closed).cookies[COOKIE]
    content, _, signature = value.partition(".")
    for forged in (f"{content}.{'0' * 64}", f"x{content}.{signature}", content, "ü.ü", "."):
        answer = browser(closed).get("/", headers={b"cookie": f"{COOKIE}={forged}".encode()})
        assert answer.status_code == 303


def test_a_new_sign_in_is_a_new_session(closed: RunningEngine) -> None:
    assert signed_in(closed).cookies[COOKIE] != signed_in(closed).cookies[COOKIE]


def test_after_signing_out_the_cookie_is_worth_nothing(closed: RunningEngine) -> None:
    visitor = signed_in(closed)
    value = visitor.cookies[COOKIE]
    assert visitor.post("/logout", data={"form_token": form_token(visitor)}).status_code == 303
    assert browser(closed).get("/", headers={"cookie": f"{COOKIE}={value}"}).status_code == 303


def test_a_session_ends_when_it_is_not_used_and_after_half_a_day(tmp_path: Path) -> None:
    with running_engine(tmp_path, environ=TOKENS) as engine:
        idle, busy = signed_in(engine), signed_in(engine)
        for _ in range(11):
            engine.clock.advance("65min")
            assert busy.get("/users").status_code == 200
        assert idle.get("/users").status_code == 303
        engine.clock.advance("65min")
        assert busy.get("/users").status_code == 303


def test_a_session_ends_with_its_token(tmp_path: Path) -> None:
    with running_engine(tmp_path, environ=TOKENS) as engine:
        value = signed_in(engine).cookies[COOKIE]
    with running_engine(tmp_path, environ={"API_TOKEN": "another-token"}) as engine:
        answer = browser(engine).get("/", headers={"cookie": f"{COOKIE}={value}"})
        assert answer.status_code == 303
    with running_engine(tmp_path, environ=TOKENS) as engine:
        answer = browser(engine).get("/", headers={"cookie": f"{COOKIE}={value}"})
        assert answer.status_code == 200


def test_who_only_looks_sees_no_button_and_changes_nothing(closed: RunningEngine) -> None:
    visitor = signed_in(closed, "looks-only")
    page = visitor.get(f"/results/{COHORT}").text
    assert "Pause sends" not in page
    token = re.search(r'name="form_token" value="(\w+)"', page)
    answer = visitor.post("/pause", data={"form_token": token[1] if token else ""})
    assert answer.status_code == 403
    assert "not for `admin`" in answer.text


FOREIGN: list[dict[str, Any]] = [
    {"headers": {"sec-fetch-site": "cross-site"}},
    {"headers": {"sec-fetch-site": "same-site"}},
    {"headers": {"sec-fetch-site": "", "origin": "https://elsewhere.example"}},
    {"token": ""},
    {"token": "0" * 64},
    {"token": "ü"},
]


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("change", ["/pause", "/resume", "/users/opt-out", "/users/erase"])
def test_a_change_that_is_not_our_own_form_is_refused(
    closed: RunningEngine, change: str, foreign: dict[str, Any]
) -> None:
    visitor = signed_in(closed)
    body = {"form_token": foreign.get("token", form_token(visitor)), "user_id": "usr_1"}
    before = audited(closed)
    answer = visitor.post(change, data=body, headers=foreign.get("headers", {}))
    assert answer.status_code == 403
    assert audited(closed) == before


def test_another_sessions_form_is_not_ours(closed: RunningEngine) -> None:
    theirs = form_token(signed_in(closed))
    assert signed_in(closed).post("/pause", data={"form_token": theirs}).status_code == 403


@pytest.mark.parametrize(
    "change", ["/pause", "/resume", "/users/opt-out", "/users/erase", "/logout"]
)
def test_looking_never_changes_anything(shared: RunningEngine, change: str) -> None:
    assert shared.client.get(change, headers=AS_BROWSER).status_code == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
    ],
)
def test_without_tokens_no_other_site_can_use_the_browser(
    shared: RunningEngine, headers: dict[str, str]
) -> None:
    """No cookie is needed to get in, so a page elsewhere could otherwise pause the engine."""
    assert shared.client.post("/api/pause", headers=headers).status_code == 403
    assert shared.client.get("/overview.json", headers=headers).status_code == 403


def test_every_change_leaves_an_entry_with_who_and_what(tmp_path: Path) -> None:
    """By page or by API alike: who, what, on what, before and after."""
    with running_engine(tmp_path, environ=TOKENS) as engine:
        visitor, person = signed_in(engine), somebody()
        own = {"form_token": form_token(visitor)}
        visitor.post("/pause", data={**own, "scope": COHORT, "back": "/"})
        visitor.post("/resume", data={**own, "scope": COHORT})
        visitor.post("/users/opt-out", data={**own, "user_id": person})
        bearer = {"Authorization": "Bearer master-token"}
        engine.post("/api/pause", None, **bearer)
        engine.client.delete(f"/api/users/{person}/opt-out", headers=bearer)
        entries = audited(engine)
        assert [entry[1:3] for entry in entries] == [
            ("paused", COHORT),
            ("resumed", COHORT),
            ("opted out", person),
            ("paused", "*"),
            ("opted in", person),
        ]
        assert entries[0][3:] == ('{"paused":false}', '{"paused":true}')
        assert len({entry[0] for entry in entries}) == 1  # one token, by page or by header
        assert entries[0][0].startswith("API_TOKEN ")
        assert "master-token" not in str(entries)
        visitor.post("/users/erase", data={**own, "user_id": person, "confirm": person})
        assert person not in str(audited(engine))
        assert audited(engine)[-1][1] == "erased"


def test_erasing_asks_for_the_id_again(shared: RunningEngine) -> None:
    shared.scheduled(person := somebody())
    token = re.search(
        r'name="form_token" value="(\w+)"', shared.client.get(f"/users?id={person}").text
    )
    assert token is not None
    body = {"form_token": token[1], "user_id": person, "confirm": "somebody else"}
    answer = shared.client.post("/users/erase", data=body, headers=AS_BROWSER)
    assert answer.status_code == 404
    assert "Nothing was erased" in answer.text
    assert shared.get(f"/api/users/{person}")["timeline"]


def test_nobody_is_led_to_another_site(closed: RunningEngine) -> None:
    for where in ("https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", "x"):
        answer = browser(closed).post("/login", data={"token": "master-token", "back": where})
        assert answer.headers["location"] == "/"


def test_static_files_are_kept_for_good_and_compressed(shared: RunningEngine) -> None:
    page = shared.client.get("/", headers=AS_BROWSER).text
    files = set(re.findall(r'"(/static/[^"]+)"', page))
    assert len(files) >= 5
    for file in files:
        answer = shared.client.get(file, headers={"accept-encoding": "gzip"})
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"


def test_htmx_is_the_released_one() -> None:
    """The file is what its package holds, by the digest that stands beside it."""
    digest, name = (FOLDER / "htmx.sha256").read_text().split()
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    assert "Zero-Clause BSD" in (FOLDER / "htmx.LICENSE").read_text()
