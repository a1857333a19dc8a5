"""Every page, light, dark and on a phone: nothing complains, and axe finds nothing."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from tests.support.browsers import LOOKS, Look, Visitor, visiting
from tests.support.engine import RunningEngine

PAGES = {
    "overview": "/",
    "results": "/results/checkout_abandoners",
    "traffic": "/results/payment_failed?pair=angle:delay&measure=traffic&by=angle",
    "combinations": "/combinations/paywall_bouncers?angle=curiosity&sort=best",
    "messages": "/messages?cohort=payment_failed&language=bho&angle=retry",
    "schedule": "/schedule",
    "find a user": "/users",
    "user": "/users?id=usr_waiting",
    "nobody": "/users?id=who%20is%20this",
    "events": "/events",
    "quarantine": "/events?show=quarantine",
    "guardrails": "/guardrails",
    "api": "/docs",
    "health": "/health-checks",
}
CUT_OFF = """[...document.querySelectorAll(".scroll")]
  .filter((box) => box.scrollWidth > box.clientWidth).length"""
TIMES = "\N{MULTIPLICATION SIGN}"
TIMELESS = {"api", "messages", "find a user", "user", "nobody", "quarantine"}  # nothing of sending


def broken_rules(page: Page) -> list[str]:
    """Return what axe finds, with the elements."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"][:3]]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_clean(browser: Browser, lived_in: RunningEngine, name: str, look: Look) -> None:
    """No error on the console, no violation of the policy, nothing that axe finds."""
    with visiting(browser, lived_in.url, look) as visitor:
        answer = visitor.page.goto(PAGES[name])
        assert answer is not None
        assert answer.status == 200
        assert broken_rules(visitor.page) == []
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not visitor.page.evaluate(wide), "the page itself scrolls sideways"
        if look != "phone":
            assert not visitor.page.evaluate(CUT_OFF), "a table hides columns on the right"
        if name not in TIMELESS:
            expect(visitor.page.get_by_text("Dry run").first).to_be_visible()


def test_the_keyboard_reaches_everything(window: Visitor) -> None:
    """The skip link comes first, and the chart is read with the arrow keys."""
    page = window.page
    page.goto("/results/checkout_abandoners")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.get_by_role("img", name="Line chart of conversions").focus()
    page.keyboard.press("End")
    expect(page.locator("[data-tip]").get_by_text("Engine")).to_be_visible()
    shown = page.locator("[data-day]").text_content()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-day]")).not_to_have_text(shown or "")


def test_the_theme_stays_chosen(window: Visitor) -> None:
    page = window.page
    page.goto("/")
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto("/guardrails")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_pages_work_without_scripts(browser: Browser, lived_in: RunningEngine) -> None:
    """Everything but live updates: choosing, filtering, comparing."""
    context = browser.new_context(base_url=lived_in.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/results/checkout_abandoners")
    page.get_by_role("button", name=f"Angle {TIMES} offer").click()
    expect(page.get_by_role("heading", name=f"Angle {TIMES} offer")).to_be_visible()
    page.get_by_role("button", name="Traffic").click()
    expect(page.get_by_text("Share of the last seven days' messages.")).to_be_visible()
    page.goto("/events")
    page.get_by_label("What followed").select_option("recorded")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".event").first).to_contain_text("recorded")
    context.close()
