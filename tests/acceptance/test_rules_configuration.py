"""R15 and R16: what an edited configuration keeps and cancels; what happens to missing values."""

from typing import Any

import pytest
from tests.support.clevertap_double import CleverTapDouble
from tests.support.configuration import COHORT, GOAL, cohort
from tests.support.events import somebody
from tests.support.start import Start

A, B = "2min|push|helpful|none", "2min|push|urgency|none"
USER = "usr_1"


def angles(*names: str) -> dict[str, Any]:
    return {COHORT: cohort(angle=list(names))}


def test_r15_a_removed_combo_cancels_what_waits(start: Start, double: CleverTapDouble) -> None:
    """Messages of a combo that is gone do not go out; the others do."""
    engine = start(to=double, cohorts=angles("helpful", "urgency"))
    ids = {engine.scheduled(somebody()) for _ in range(8)}
    combos = {
        experiment_id: engine.experiment(experiment_id)["combo_key"] for experiment_id in ids
    }
    assert set(combos.values()) == {A, B}

    engine = start(to=double, cohorts=angles("helpful"))
    engine.deliver(after="2min")
    for experiment_id, combo in combos.items():
        expected = ("sent", None) if combo == A else ("cancelled", "combo_removed")
        assert engine.state(experiment_id) == expected


def test_r15_a_removed_cohort_cancels_what_waits(start: Start, double: CleverTapDouble) -> None:
    """Without its cohort a message does not go out."""
    other = {"payment_failed": cohort(trigger={"event": "payment_failed"})}
    engine = start(to=double, cohorts=angles("helpful") | other)
    experiment_id = engine.scheduled(USER, name="payment_failed")
    engine = start(to=double, cohorts=angles("helpful"))
    engine.deliver(after="2min")
    assert engine.state(experiment_id) == ("cancelled", "combo_removed")
    assert double.calls() == []


def test_r15_what_was_cancelled_with_its_combo_teaches_nothing(start: Start) -> None:
    """A combo that was taken out and comes back is neither better nor worse for it."""
    engine = start(cohorts=angles("helpful", "urgency"))
    combo = engine.experiment(engine.scheduled(USER))["combo_key"]
    engine = start(cohorts=angles("helpful" if combo == B else "urgency"))
    engine = start(cohorts=angles("helpful", "urgency"))
    assert engine.chances() == pytest.approx({A: 0.5, B: 0.5})


def test_r15_unchanged_combos_keep_what_is_known(start: Start) -> None:
    """Removing and adding combos leaves the others' statistics and lessons."""
    engine = start(cohorts=angles("helpful", "urgency"))
    combo = engine.experiment(engine.sent(USER))["combo_key"]
    engine.event(USER, GOAL)
    kept = combo.split("|")[2]

    engine = start(cohorts=angles("brand_new", kept, "newer"))
    assert engine.chances()[combo] == pytest.approx(0.8 + 0.2 / 3)
    (entry,) = engine.get("/api/stats")["top_combinations"]
    assert (entry["combo_key"], entry["sent_count"], entry["converted_count"]) == (combo, 1, 1)


def test_r15_changed_copy_keeps_the_statistics(start: Start) -> None:
    """New words for a combo do not make it another combo."""
    engine = start()
    engine.sent(USER)
    engine = start(copy={"push": {"helpful": {"*": {"title": "New", "body": "Words"}}}})
    assert engine.trigger("usr_2").json()["message"]["title"] == "New"
    assert engine.get("/api/stats")["top_combinations"][0]["sent_count"] == 1


def test_r15_what_waits_keeps_its_words(start: Start) -> None:
    """A message goes out as it was decided, also after its copy changed."""
    engine = start()
    experiment_id = engine.scheduled(USER)
    before = engine.experiment(experiment_id)["message"]
    engine = start(copy={"push": {"helpful": {"*": {"title": "New", "body": "Words"}}}})
    engine.deliver(after="2min")
    assert engine.experiment(experiment_id)["message"] == before


# R16

PLACEHOLDERS = {
    "show": {"from": "event_properties.show"},
    "plan": {"from": "event_properties.plan", "default": "your plan"},
    "city": {"from": "user_properties.city", "default": "your city"},
}
COPY = {
    "push": {
        "helpful": {
            "none": {"title": "{plan} in {city}", "body": "Come back."},
            "gift": {"title": "{show} waits", "body": "{show} and {plan}"},
        }
    }
}
FACTS: dict[str, Any] = {
    "cohorts": {COHORT: cohort(offer=["none", "gift"])},
    "placeholders": PLACEHOLDERS,
    "copy": COPY,
}
PLAIN, NEEDS_SHOW = "2min|push|helpful|none", "2min|push|helpful|gift"


def test_r16_a_value_is_taken(start: Start) -> None:
    """A placeholder takes its value, from the event or the profile."""
    engine = start(**FACTS)
    facts = {"show": "Mahabharat", "plan": "Gold"}
    titles = set()
    for _ in range(12):
        experiment_id = engine.scheduled(
            somebody(), event_properties=facts, user_properties={"city": "Pune"}
        )
        titles.add(engine.experiment(experiment_id)["message"]["title"])
    assert titles == {"Gold in Pune", "Mahabharat waits"}


@pytest.mark.parametrize(
    "missing", [{}, {"show": ""}, {"show": "  "}, {"show": None}, {"show": []}, {"show": {"a": 1}}]
)
def test_r16_without_value_and_default_not_eligible(start: Start, missing: dict[str, Any]) -> None:
    """A combo whose words cannot be completed is not drawn; the default fills the others."""
    engine = start(**FACTS)
    shown = engine.experiment(engine.scheduled(somebody(), event_properties=missing))
    assert shown["decision"]["eligible"] == {PLAIN: 1.0}
    assert shown["decision"]["not_eligible"] == {"missing_value": [NEEDS_SHOW]}
    assert shown["message"]["title"] == "your plan in your city"


@pytest.mark.parametrize(
    "value", ["{plan}", "{{ Event.x }}", "}{", "{% raw %}", "a\nb", "\u202eevil", "x" * 10_000, 7]
)
def test_r16_never_a_literal_brace(start: Start, value: object) -> None:
    """Whatever a user's value holds, no brace, line break or hidden sign reaches the message."""
    engine = start(**FACTS)
    facts = {"show": value, "plan": value}
    for _ in range(6):
        experiment_id = engine.scheduled(somebody(), event_properties=facts)
        message = engine.experiment(experiment_id)["message"]
        text = message["title"] + message["body"]
        assert not set("{}\n\u202e") & set(text)
        assert len(text) < 2_000


def test_r16_when_nothing_can_be_completed(start: Start) -> None:
    """If no combo is left the event starts nothing."""
    engine = start(**FACTS, offers={"none": {"per_day": 1}})
    engine.sent(somebody())
    result = engine.event(somebody())
    assert (result["status"], result["reason"]) == ("ignored", "no_eligible_combo")
