"""A hundred strings that would like to be markup or script: none becomes an element."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser
from tests.support.browsers import visiting
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.engine import RunningEngine, running_engine
from tests.support.events import amplitude_event

_EVIL = "evil"  # the name of the element or attribute that each would make

_SHAPES = (
    "<evil>{0}</evil>",
    "<img src=x evil=1 onerror=alert({0})>",
    "<script evil>alert({0})</script>",
    "</script><evil>{0}",
    "</code></pre><evil>{0}</evil>",
    '"><evil x="{0}">',
    "'><evil x='{0}'>",
    '" evil=1 onmouseover="alert({0})',
    "' evil=1 onfocus='alert({0})' autofocus='",
    "` evil=1 onclick=alert({0}) `",
    "<svg><evil>{0}</evil></svg>",
    "<svg evil onload=alert({0})>",
    "<math><mtext><evil>{0}</evil></mtext></math>",
    "<iframe evil srcdoc='<evil>{0}'></iframe>",
    "<a evil href='javascript:alert({0})'>x</a>",
    "<style evil>*{{color:red}}</style>{0}",
    "<link evil rel=stylesheet href=//x/{0}>",
    "<form evil action=//x/{0}><button>",
    "<template><evil>{0}</evil></template>",
    "<!--><evil>{0}</evil-->",
    "{{{{ 7 * 7 }}}}<evil>{0}</evil>",
    "{{% raw %}}<evil>{0}</evil>{{% endraw %}}",
    "&lt;evil&gt;<evil>{0}</evil>",
    "\\u003cevil\\u003e<evil>{0}</evil>",
    "<EvIl/{0}>",
    "<evil\t{0}>",
    "%3Cevil%3E<evil>{0}</evil>",
    "<object evil data=//x/{0}></object>",
    "<base evil href=//x/{0}/>",
    "<meta evil http-equiv=refresh content='0;url=//x/{0}'>",
    "<details evil open ontoggle=alert({0})>",
    "<evil hx-get=/users?{0} hx-trigger=load>",
    "<div evil hx-on:load='alert({0})'>",
    "data: <evil>{0}</evil>",
)
PAYLOADS = [shape.format(number) for number in range(3) for shape in _SHAPES][:100]

_FOUND = """() => [...document.querySelectorAll("*")].filter((element) =>
  element.localName === "evil" || element.hasAttribute("evil") ||
  [...element.attributes].some((attribute) => attribute.name.startsWith("on")) ||
  (element.localName === "script" && !element.src)).map((element) => element.outerHTML)"""


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """Return an engine whose users, events, properties, texts and garbage are all hostile."""
    folder = tmp_path_factory.mktemp("attacked")
    texts = {
        angle: {"*": {"title": f"{_plain(PAYLOADS[n])}", "body": "{show} " + _plain(PAYLOADS[-n])}}
        for n, angle in enumerate(ANGLES, start=1)
    }
    configuration = write_configuration(
        folder / "configuration",
        cohorts={COHORT: cohort(angle=ANGLES)},
        copy={"push": texts},
        placeholders={"show": {"from": "event_properties.show", "default": "<evil>"}},
    )
    with running_engine(folder, config=configuration) as engine:
        for start in range(0, len(PAYLOADS), 20):
            batch = PAYLOADS[start : start + 20]
            engine.events(*(_hostile(engine, payload) for payload in batch))
        for payload in PAYLOADS:
            engine.post("/webhook/amplitude", payload.encode())
            engine.opened(user_id=payload, experiment_id=payload)
        engine.deliver(after="2min")
        engine.learn()
        yield engine


ANGLES = ["<evil>angle", '"evil=1 x="', "helpful"]


def _plain(payload: str) -> str:
    return payload.replace("{", "(").replace("}", ")")


def _hostile(engine: RunningEngine, payload: str) -> dict[str, object]:
    said = dict.fromkeys(("show", "language", "region", "plan_viewed", "show_name"), payload)
    return amplitude_event(payload, engine.clock.iso(), event_properties=said)


def test_a_hundred_hostile_strings_make_no_element(
    browser: Browser, attacked: RunningEngine
) -> None:
    """Ids, names, copy, errors and raw bodies are text on every page, and nothing else."""
    assert len(set(PAYLOADS)) == 100
    pages = [
        "/",
        f"/results/{COHORT}",
        f"/combinations/{COHORT}",
        "/messages",
        "/schedule",
        "/events",
        "/events?show=quarantine",
        "/guardrails",
        "/health-checks",
        *(f"/users?id={quote(payload, safe='')}" for payload in PAYLOADS),
        *(f"/results/{quote(payload, safe='')}" for payload in PAYLOADS[:8]),
        *(f"/events?name={quote(payload, safe='')}" for payload in PAYLOADS[:8]),
    ]
    with visiting(browser, attacked.url) as visitor:
        page = visitor.page
        seen = 0
        for address in pages:
            page.goto(address, wait_until="domcontentloaded")
            assert page.evaluate(_FOUND) == [], address
            seen += "evil" in (page.text_content("body") or "")
        assert seen > 100, "the strings are there, as text"
        visitor.faults = [f for f in visitor.faults if "404" not in f]  # unknown cohorts
