"""`preview`: the text is the one that the user then gets."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.server import Command, Ended, run_commands
from tests.support.start import Start

from experiment_engine.configuration.loading import bundled_example

PLACEHOLDERS = {
    "show": {"from": "event_properties.show"},
    "city": {"from": "user_properties.city", "default": "your city"},
}
COPY = {
    "push": {
        "helpful": {
            "none": {"title": "Back to {city}", "body": "Come back."},
            "gift": {"title": "{show} waits", "body": "{show} in {city}"},
        }
    }
}
FACTS: dict[str, Any] = {
    "cohorts": {COHORT: cohort(offer=["none", "gift"])},
    "placeholders": PLACEHOLDERS,
    "copy": COPY,
}


def run(config: Path, *commands: list[str]) -> list[Ended]:
    environ = {"ENGINE_CONFIG": str(config), "COLUMNS": "200"}
    folder = config.parent
    return run_commands([Command(["preview", *words], folder, environ) for words in commands])


def texts(ended: Ended) -> list[dict[str, Any]]:
    assert ended.status == 0, ended.errors
    found: list[dict[str, Any]] = json.loads(ended.output)
    return found


def test_it_is_what_users_get(start: Start) -> None:
    """For the attributes of a trigger it renders the very words that the trigger schedules."""
    engine = start(**FACTS)
    told = {"show": "Ramayan", "user_properties": {"city": "Pune"}}
    sent = engine.trigger("usr_1", attributes=told).json()

    as_json, by_name = run(
        start.folder / "configuration",
        [sent["combo_key"], "--attributes", json.dumps(told), "--json"],
        [sent["combo_key"], "-a", "show=Ramayan", "-a", "user_properties.city=Pune", "--json"],
    )

    (text,) = texts(as_json)
    assert {key: text[key] for key in ("title", "body", "language")} == sent["message"]
    assert texts(by_name) == [text]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """What stands in for a value is named, and a text that cannot be completed has no words."""
    config = write_configuration(tmp_path / "configuration", **FACTS)
    as_json, page = run(config, ["--json"], [])

    gift, none = sorted(texts(as_json), key=lambda text: str(text["offer"]))
    assert (none["title"], none["stand_ins"]) == ("Back to your city", ["city"])
    assert (gift["title"], gift["missing"]) == ("", ["show"])
    assert "not eligible without show" in page.output
    assert "stand-ins for city" in page.output


def test_every_text_in_every_language() -> None:
    """The whole of the bundled example is rendered, each text once in each language."""
    (every,) = run(bundled_example(), ["--language", "all", "--json"])
    found = texts(every)
    places = {
        (one["cohort"], one["channel"], one["angle"], one["offer"], one["asked_language"])
        for one in found
    }
    assert len(found) == len(places) == 5 * 64
    assert {one["language"] for one in found} == {"en", "hi", "bho", "bgc", "raj"}
    assert all(one["body"] and not set("{}") & set(one["title"] + one["body"]) for one in found)


def test_a_language_falls_back() -> None:
    """A language is understood by its name, and one without texts of its own falls back."""
    named, unknown = run(
        bundled_example(),
        ["push|scarcity|none", "--language", "Bhojpuri", "--json"],
        ["push|scarcity|none", "-a", "language=Klingon", "--json"],
    )
    assert {one["language"] for one in texts(named)} == {"bho"}
    assert {one["language"] for one in texts(unknown)} == {"en"}


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["push"], 2, "channel|angle|offer"),
        (["sms|*|*"], 1, "channel: push, whatsapp"),
        (["--cohort", "nobody"], 1, "checkout_abandoners"),
        (["--language", "xx"], 1, "bgc, bho, en, hi, raj"),
        (["-a", "show"], 2, "NAME=VALUE"),
        (["--attributes", "[]"], 2, "JSON object"),
    ],
)
def test_wrong_words(arguments: list[str], status: int, says: str) -> None:
    """A mistake ends with 2, or 1 where the folder could have had it, and says what to write."""
    (ended,) = run(bundled_example(), arguments)
    assert ended.status == status
    assert says in ended.errors
