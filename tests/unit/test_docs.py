"""What the pages for readers say exists: reasons, states, settings, routes, tables, files."""

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import SecretStr
from tests.support.clock import FakeClock
from tests.support.column_classes import CLASSES

from experiment_engine.adapters.storage.tables import metadata
from experiment_engine.domain.delivery.experiment import State
from experiment_engine.domain.reasons import Reason
from experiment_engine.entrypoints.group_commit import GroupCommit
from experiment_engine.entrypoints.http.access import Gate, Scope
from experiment_engine.entrypoints.http.api import open_routes, routes
from experiment_engine.entrypoints.http.app import build_app, webhooks
from experiment_engine.entrypoints.http.door import Door
from experiment_engine.entrypoints.http.running import Running
from experiment_engine.settings import SETTINGS, Credential, Settings

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "experiment_engine"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))

_ROW = re.compile(r"^ *\| (.*) \|$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"[a-z_./-]+\.(?:py|md|toml|lock)|(?:[a-z_]+/)+")

# In two pieces, or this file would name them.
_FOREIGN = [
    "/" + "work/",
    "/" + "root/",
    "/" + "farm/",
    "/home" + "/",
    "/Users" + "/",
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "yarn" + "pkg.com",
    "crates" + ".io",
    "proxy.go" + "lang.org",
]


def read(page: str) -> str:
    """Return a page of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of its kind or a higher one."""
    text = read(page)
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"{page} has no heading {heading}"
    rest = text[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def rows(text: str) -> Iterator[list[str]]:
    """Return the cells of every row of every table, head rows and rulers apart."""
    lines = _ROW.findall(text)
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        cells = re.split(r"(?<!\\) \| ", line)
        if not set(line) <= set("|- ") and not (following and set(following) <= set("|- ")):
            yield cells


def codes(text: str) -> list[str]:
    """Return what stands in code style in the first cell of every row."""
    return [code for cells in rows(text) for code in _CODE.findall(cells[0])]


def test_every_reason_is_in_the_glossary() -> None:
    """The table of reasons has each of them once, and nothing else."""
    assert sorted(codes(section("docs/glossary.md", "Reasons"))) == sorted(Reason)


def test_every_delivery_state_is_in_the_glossary() -> None:
    """The table of states has each of them once, and nothing else."""
    assert sorted(codes(section("docs/glossary.md", "Delivery states"))) == sorted(State)


def test_no_word_stands_in_the_glossary_twice() -> None:
    """A word has one meaning, and one place to look it up."""
    words = read("docs/glossary.md").partition("## Delivery states")[0]
    explained = [cells[0] for cells in rows(words)]
    assert len(explained) > 50
    assert len(set(explained)) == len(explained)


def test_every_setting_is_described() -> None:
    """The table of settings has each of them once, and nothing else."""
    names = sorted(SETTINGS)
    described = section("docs/settings.md", "Settings: environment or `.env`")
    assert sorted(codes(described)) == names


def test_every_table_is_described() -> None:
    """The architecture names each table of the database once, and nothing else."""
    described = codes(section("ARCHITECTURE.md", "How state is stored"))
    assert sorted(described) == sorted(metadata.tables)


def test_test_files_have_names_of_their_own() -> None:
    """Two of one name cannot be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_every_column_has_a_class() -> None:
    """Whoever adds a column says what it holds of a person, and so what an erasure does to it."""
    columns = {(t.name, column.name) for t in metadata.sorted_tables for column in t.columns}
    assert columns == set(CLASSES)


def a_door() -> Door:
    """Return the whole application, on nothing, with one secret that is for no scope at all."""
    secret = Credential(SecretStr("useless"), frozenset({"nothing"}))
    names = [name for name in Settings.model_fields if name.endswith("_webhook_secret")]
    settings = Settings.model_validate(dict.fromkeys(names, (secret,)))
    nothing = cast("Any", None)
    running = Running(nothing, GroupCommit(nothing), None, Gate([secret], "API_TOKEN"))
    return build_app(running, webhooks(settings, FakeClock()))


def routes_of(door: Door) -> set[tuple[str, str]]:
    """Return method and path of every route but `HEAD`'s; FastAPI's own pages are not ours."""
    found = {("POST", path) for path in door._webhooks}
    document = cast("FastAPI", door._application).openapi()
    for path, operations in document["paths"].items():
        found |= {(method.upper(), path) for method in operations}
    ours = (*open_routes.routes, *routes.routes)
    hidden = [r for r in ours if isinstance(r, APIRoute) and not r.include_in_schema]
    hidden_ones = {(method, route.path) for route in hidden for method in route.methods or ()}
    return found | {(method, path) for method, path in hidden_ones if method != "HEAD"}


def documented_routes() -> dict[tuple[str, str], str]:
    """Return the README's table of routes: method and path to scope."""
    table = {}
    for cells in rows(section("README.md", "API")):
        method, _, path = cells[0].strip("`").partition(" ")
        if path.startswith("/"):
            table[method, path] = cells[1].strip("`")
    return table


def test_every_route_is_in_the_readme() -> None:
    """The README's table has each route of the webhooks and the API, and nothing else."""
    assert set(documented_routes()) == routes_of(a_door())


@pytest.mark.parametrize(
    "route", documented_routes().items(), ids=lambda route: " ".join(route[0])
)
def test_the_scope_of_a_route(route: tuple[tuple[str, str], str]) -> None:
    """A secret for nothing is refused, naming the scope that the README's table says."""
    (method, path), scope = route
    answer = asyncio.run(ask(method, re.sub(r"\{\w+\}", "x", path)))
    if scope == "none":
        assert answer.status_code != 403
    else:
        assert scope in set(Scope)
        assert answer.status_code == 403
        assert f"`{scope}`" in answer.json()["error"]["message"]


async def ask(method: str, path: str) -> httpx2.Response:
    """Ask an application that has nothing behind its doors."""
    transport = httpx2.ASGITransport(a_door(), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        headers = {"Authorization": "Bearer useless", "Content-Type": "application/json"}
        return await client.request(method, path, headers=headers, content=b"{}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file finds it, and every link to a heading finds the heading."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    names = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {name.replace(" ", "-") for name in names}


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", *DECISIONS], ids=str)
def test_files_that_are_named_exist(page: str | Path) -> None:
    """Pages about the code name files that are there, from the root or from the package."""
    for code in _CODE.findall((ROOT / page).read_text(encoding="utf-8")):
        if _PATH.fullmatch(code):
            places = (ROOT / code, SOURCE / code, ROOT / "docs" / code)
            named = [*places, *SOURCE.rglob(code)] if "/" not in code else [*places]
            assert any(place.exists() for place in named), f"{page} names {code}"


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_is_one_page(page: Path) -> None:
    """A decision has its four parts and its number, and is one page."""
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert _HEADING.findall(text)[1:] == ["Context", "Decision", "Consequences", "Alternatives"]
    assert 40 <= len(text.splitlines()) <= 60


def test_examples_can_be_read() -> None:
    """What the pages show as JSON, or send with curl, is JSON."""
    shown, sent = [], []
    for page in PAGES:
        for kind, text in _FENCE.findall(page.read_text(encoding="utf-8")):
            shown += [text] if kind == "json" else []
            sent += re.findall(r"-d '([^']*)'", text)
    for text in sent:
        json.loads(text)
    for text in shown:
        # "..." stands for what was left out, alone or as the last member.
        whole = re.sub(r",?\s*\.\.\.(?=\s*[}\]])", "", text)
        for value in filter(None, whole.split("\n\n")):
            json.loads(value)
    assert len(sent) > 3
    assert len(shown) > 5


def test_nothing_names_this_machine_or_a_registry() -> None:
    """No file of the repository depends on where it was written, or on whose packages it took."""
    for name in tracked_files():
        content = (ROOT / name).read_bytes()
        for foreign in (*_FOREIGN, *own_places()):
            assert foreign.encode() not in content, f"{name} names {foreign}"


def tracked_files() -> list[str]:
    """Return the files of the repository, and those about to become so."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    names = filter(None, listed.stdout.split("\0"))
    return [name for name in names if (ROOT / name).is_file()]


def own_places() -> list[str]:
    """Return where this checkout lies, unless that is too short to mean anything."""
    return [str(ROOT)] if len(ROOT.parts) > 3 else []
