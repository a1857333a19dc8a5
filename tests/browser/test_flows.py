"""The main ways through the dashboard, by role and by text, as people go them."""

from pathlib import Path

from playwright.sync_api import Browser, expect
from tests.support.browsers import Visitor, visiting
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT
from tests.support.engine import RunningEngine, running_engine
from tests.support.history import written_to
from tests.support.start import live

from experiment_engine.application.changes import Changes, Quarantined
from experiment_engine.configuration.loading import bundled_example
from experiment_engine.domain.events import Source


def test_from_the_first_run_to_the_first_event(browser: Browser, tmp_path: Path) -> None:
    """The checklist listens; the command it shows is heard without loading the page again."""
    with (
        running_engine(tmp_path, config=bundled_example()) as engine,
        visiting(browser, engine.url) as visitor,
    ):
        page = visitor.page
        page.goto("/")
        expect(
            page.get_by_role("heading", name="Three steps to the first message")
        ).to_be_visible()
        expect(page.get_by_text("Listening. No event yet.")).to_be_visible()
        command = page.get_by_label("Command").text_content() or ""
        assert f"{engine.url}/webhook/amplitude" in command
        body = command.rpartition("-d '")[2].rstrip("'")
        assert engine.post("/webhook/amplitude", body.encode()).json()["results"][0]["status"] in (
            "scheduled",
            "holdout",
        )
        expect(page.get_by_text("Heard checkout_abandoned")).to_be_visible()
        page.get_by_role("link", name="Go on").click()
        expect(page.get_by_role("heading", name="What the engine is doing")).to_be_visible()
        page.get_by_role("link", name="Checkout abandoners").click()
        expect(page.get_by_role("heading", name="Checkout abandoners")).to_be_visible()


def test_one_users_story_explains_itself(browser: Browser, tmp_path: Path) -> None:
    """Chances, what was not allowed and why, the text, the provider's answer, the credit."""
    with (
        CleverTapDouble(tmp_path / "ledger.jsonl", fsync=False) as clevertap,
        running_engine(tmp_path, config=bundled_example(), environ=live(clevertap)) as engine,
        visiting(browser, engine.url) as visitor,
    ):
        user = written_to(engine, "usr_77")
        said = {"language": "en", "show_name": "Lakdi ka Pul"}
        experiment = engine.sent(user, event_properties=said)
        engine.opened(user_id=user, experiment_id=experiment)
        engine.clock.advance("2h")
        engine.converted(user_id=user, experiment_id=experiment)
        page = visitor.page
        page.goto("/users")
        page.get_by_label("User id").fill(user)
        page.get_by_role("button", name="Find").click()
        story = page.get_by_role("region", name="What happened and why")
        headings = story.get_by_role("heading", level=3).all_text_contents()
        assert headings[:3] == ["Reached the goal", "Opened", "Sent on Push"]
        assert headings[3].startswith("Decided: Push")
        assert headings[4] == "Checkout abandoned"
        expect(story.get_by_text("Chances when it chose, out of 160")).to_be_visible()
        expect(story.get_by_role("row", name="chosen")).to_be_visible()
        expect(story.get_by_text("no WhatsApp campaign or template fits")).to_be_visible()
        expect(story.get_by_text("Try 1: CleverTap accepted")).to_be_visible()
        expect(story.get_by_text("Credited to Push")).to_be_visible()
        page.get_by_role("link", name="Preview next decision").click()
        preview = page.get_by_role("region", name="If it happened now")
        expect(preview).to_contain_text("Nothing: the user had reached the goal.")
        expect(preview.get_by_text("of 48 allowed").first).to_be_visible()
        sent = engine.experiment(experiment)["message"]
        expect(story.get_by_text(sent["body"])).to_be_visible()


def test_pause_and_resume_of_a_cohort_and_of_a_channel(
    window: Visitor, lived_in: RunningEngine
) -> None:
    page = window.page
    page.goto("/guardrails")
    page.get_by_role("button", name="Pause Payment failed").click()
    expect(page.get_by_role("status")).to_contain_text("Paused: Payment failed")
    assert lived_in.get("/ready")["paused"] == ["payment_failed"]
    page.get_by_role("button", name="Pause WhatsApp").click()
    expect(page.get_by_role("status")).to_contain_text("WhatsApp")
    expect(page.get_by_role("row", name="paused WhatsApp")).to_be_visible()
    page.goto("/results/payment_failed")
    page.get_by_role("button", name="Resume sends").click()
    expect(page.get_by_role("button", name="Pause sends")).to_be_visible()
    page.goto("/guardrails")
    page.get_by_role("button", name="Resume WhatsApp").click()
    expect(page.get_by_role("button", name="Pause WhatsApp")).to_be_visible()
    assert lived_in.get("/ready")["paused"] == []


def test_one_combination_and_a_level_can_be_paused(
    window: Visitor, lived_in: RunningEngine
) -> None:
    """What is paused is not drawn any more, and what waited for it is cancelled."""
    page = window.page
    page.goto(f"/combinations/{COHORT}")
    page.get_by_role("button", name="Pause Scarcity").click()
    expect(page.get_by_role("button", name="Resume Scarcity")).to_be_visible()
    page.get_by_role("button", name="Pause Push · 2 min · Helpful · No offer").click()
    expect(
        page.get_by_role("button", name="Resume Push · 2 min · Helpful · No offer")
    ).to_be_visible()
    lived_in.clock.advance("2d")
    decided = lived_in.experiment(lived_in.scheduled(written_to(lived_in, "usr_after")))[
        "decision"
    ]
    refused = decided["not_eligible"]["paused"]
    assert "2min|push|helpful|none" in refused
    assert {key.split("|")[2] for key in refused} >= {"scarcity"}
    assert not any("scarcity" in key for key in decided["eligible"])
    page.get_by_role("button", name="Resume Push · 2 min · Helpful · No offer").click()
    page.get_by_role("button", name="Resume Scarcity").click()
    assert lived_in.get("/ready")["paused"] == []


def test_two_combinations_are_compared(window: Visitor) -> None:
    page = window.page
    page.goto(f"/combinations/{COHORT}?angle=helpful&channel=whatsapp")
    boxes = page.get_by_role("checkbox")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_role("button", name="Compare two").click()
    expect(page.get_by_role("heading", name="Two side by side")).to_be_visible()
    expect(page.get_by_role("region", name="Comparison").get_by_role("row")).to_have_count(3)


def test_what_was_not_understood_is_tried_again(window: Visitor, lived_in: RunningEngine) -> None:
    """A body that an older version could not read is taken in, and leaves the quarantine."""
    event = b'{"user_id": "usr_late", "event_type": "trial_activated", "insert_id": "late-1"}'
    keep_in_quarantine(lived_in, event)
    page = window.page
    page.goto("/events")
    page.get_by_role("link", name="Quarantine").click()
    kept = page.get_by_role("listitem").filter(has_text="usr_late")
    kept.get_by_role("button", name="Try again", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("Understood now")
    assert lived_in.get("/api/users/usr_late")["timeline"][0]["name"] == "trial_activated"
    broken = page.get_by_role("listitem").filter(has_text="this is not JSON")
    broken.get_by_role("button", name="Try again", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("Still not understood")


def test_events_appear_by_themselves(window: Visitor, lived_in: RunningEngine) -> None:
    page = window.page
    page.goto("/events")
    expect(page.get_by_text("Live: new ones appear on top.")).to_be_visible()
    lived_in.clock.advance("5s")
    lived_in.event("usr_just_now", "paywall_viewed")
    newest = page.get_by_role("listitem").filter(has_text="usr_just_now")
    expect(newest).to_contain_text("more of its kind are needed")
    newest.get_by_role("link", name="as it came").click()
    expect(page.get_by_label("Payload")).to_contain_text('"user_id": "usr_just_now"')


def test_a_user_opts_out_and_is_forgotten(window: Visitor, lived_in: RunningEngine) -> None:
    lived_in.event("usr_goes", "checkout_abandoned")
    page = window.page
    page.goto("/users?id=usr_goes")
    page.get_by_role("button", name="Opt out").click()
    expect(page.get_by_text("Opted out", exact=True)).to_be_visible()
    lived_in.clock.advance("1min")
    page.get_by_role("button", name="Opt in again").click()
    expect(page.get_by_role("button", name="Opt out")).to_be_visible()
    page.get_by_label("Type the id to confirm").fill("usr_goes")
    page.get_by_role("button", name="Forget this user").click()
    expect(page.get_by_role("status").first).to_contain_text("This user is forgotten")
    expect(page.get_by_text("Nothing is known of usr_goes")).to_be_visible()
    assert lived_in.get("/api/users/usr_goes")["timeline"] == []


def test_signing_in_and_out(browser: Browser, tmp_path: Path) -> None:
    with (
        running_engine(tmp_path, environ={"API_TOKEN": "a-token"}) as engine,
        visiting(browser, engine.url) as visitor,
    ):
        page = visitor.page
        page.goto("/guardrails")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_label("Token").fill("a-token")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="What keeps messages back")).to_be_visible()
        page.get_by_role("button", name="Pause Everything").click()
        expect(page.get_by_role("button", name="Resume Everything")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        page.goto("/guardrails")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def keep_in_quarantine(engine: RunningEngine, raw: bytes) -> None:
    """Keep a body as a version that could not read it would have."""
    changes = Changes()
    changes.quarantined.append(
        Quarantined(Source.AMPLITUDE, engine.clock.now(), "unknown_shape", raw)
    )
    engine.engine.storage.run(lambda tx: tx.store(changes))
