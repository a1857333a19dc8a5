"""What the configuration folder says is what the engine goes by."""

from collections.abc import Mapping
from datetime import time
from pathlib import Path

import pytest
from tests.unit.configuration.small_folder import SMALL, write

from experiment_engine.configuration.loading import bundled_example, load
from experiment_engine.domain.cohorts.cohort import Prior, Trigger
from experiment_engine.domain.delivery.limits import FrequencyCap, OfferBudget
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.identifiers import Channel, CohortName, EventName
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration
from experiment_engine.domain.rules import ChannelRules, Retention, Rules

PUSH, WHATSAPP = Channel("push"), Channel("whatsapp")
LEAVERS = CohortName("leavers")

SMALLEST = {
    "engine.toml": "",
    "cohorts/leavers.toml": """
[trigger]
event = "left"
[goal]
event = "bought"
window = "3d"
[combos]
delay = ["2min"]
channel = ["push"]
angle = ["helpful"]
offer = ["none"]
""",
    "copy/en.toml": '[push.helpful.none]\ntitle = "Hello"\nbody = "It waits."\n',
}


@pytest.fixture(scope="module")
def example() -> Rules:
    """Load the configuration that comes with the engine."""
    return load(bundled_example())


def test_bundled_example(example: Rules) -> None:
    """The bundled example has three cohorts, with 160, 48 and 48 combos."""
    sizes = {name: len(cohort.space) for name, cohort in example.cohorts.items()}

    assert sizes == {"checkout_abandoners": 160, "payment_failed": 48, "paywall_bouncers": 48}


def test_bundled_example_speaks_five_languages(example: Rules) -> None:
    """Every combo of the example has a text of its own in each of five languages."""
    combos = {
        (cohort.name, combo.channel, combo.angle, combo.offer)
        for cohort in example.cohorts.values()
        for combo in cohort.space.combos
    }

    assert set(example.catalogue.texts) == {
        (language, *combo) for language in ("en", "hi", "bho", "bgc", "raj") for combo in combos
    }


def test_bundled_example_needs_no_facts(example: Rules) -> None:
    """An event with nothing but a user in it gets every text of the example."""
    assert not any(
        example.catalogue.missing(text, {}) for text in example.catalogue.texts.values()
    )


def test_whole_engine_file(tmp_path: Path) -> None:
    """Every key of engine.toml arrives."""
    rules = load(write(tmp_path, SMALL))

    assert rules.timezone == "Asia/Kolkata"
    assert rules.quiet_hours == QuietHours(start=time(23), end=time(8))
    assert rules.frequency_cap == FrequencyCap(3, Duration(7 * DAY), HOUR)
    assert rules.expires_after == 30 * MINUTE
    assert rules.holdout_share == 0.05
    assert rules.opt_out_events == {"push_off"}
    assert rules.opt_in_events == {"push_on"}
    assert rules.offers == {"rupee_1_trial": OfferBudget(per_day=5000)}
    assert rules.send_per_second == 200
    assert rules.retention == Retention(raw_events=Duration(90 * DAY))
    assert rules.channels[PUSH] == ChannelRules(
        consent="required",
        batch=500,
        max_in_flight=2,
        frequency_cap=FrequencyCap(2, DAY),
    )
    assert rules.channels[WHATSAPP] == ChannelRules(
        quiet_hours=QuietHours(start=time(21), end=time(9)),
        endpoint="whatsapp",
        campaigns={("*", "*", "*"): "1700000000", ("hi", "urgency", "none"): "1700000001"},
    )


def test_whole_cohort_file(tmp_path: Path) -> None:
    """Every key of a cohort's file arrives."""
    cohort = load(write(tmp_path, SMALL)).cohorts[LEAVERS]

    assert cohort.trigger == Trigger(
        event=EventName("left"), count=3, within=Duration(7 * DAY), max_age=Duration(6 * HOUR)
    )
    assert (cohort.goal.event, cohort.goal.window) == ("bought", 3 * DAY)
    assert [combo.key for combo in cohort.space.combos][:2] == [
        "2min|push|urgency|none",
        "2min|push|urgency|rupee_1_trial",
    ]
    assert (cohort.policy.name, cohort.policy.options) == ("epsilon_greedy", {"epsilon": 0.3})
    assert cohort.prior == Prior(rate=0.05, weight=40, lean={"angle": {"urgency": 1.3}})


def test_texts_and_placeholders(tmp_path: Path) -> None:
    """A text for every cohort and offer serves where no closer one stands."""
    catalogue = load(write(tmp_path, SMALL)).catalogue

    general = catalogue.find(LEAVERS, WHATSAPP, "urgency", "none", ("hi", "en"))
    own = catalogue.find(LEAVERS, PUSH, "urgency", "none", ("hi", "en"))

    assert general is not None
    assert own is not None
    assert catalogue.render(general, {}) == ("", "Go on with your show.")
    assert catalogue.render(own, {}) == ("अभी", "आपका शो: आगे बढ़िए।")
    assert catalogue.placeholders["order_id"].path == ("user_properties", "order_id")


def test_smallest_folder_has_the_usual_rules(tmp_path: Path) -> None:
    """An empty engine.toml and a cohort's bare needs are enough; the rest is as documented."""
    rules = load(write(tmp_path, SMALLEST))

    assert rules.timezone == "Asia/Kolkata"
    assert (rules.quiet_hours, rules.frequency_cap, rules.send_per_second) == (None, None, None)
    assert (rules.holdout_share, rules.expires_after) == (0.05, 30 * MINUTE)
    assert rules.languages.default == "en"
    assert rules.languages.fallback == {"bho": "hi", "bgc": "hi", "raj": "hi"}
    assert rules.channels == {PUSH: ChannelRules(), WHATSAPP: ChannelRules()}
    assert rules.cohorts[LEAVERS].policy.name == "epsilon_greedy"
    assert rules.cohorts[LEAVERS].prior == Prior()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('again_after = "24h"', 'again_after = "0s"'),
        ('converted_quiet = "30d"', 'converted_quiet = "0s"'),
        ('count = 3\nwithin = "7d"', "count = 1"),
        ('window = "3d"', 'window = "2h"'),  # exactly twice the longest delay
        ("epsilon = 0.3", "epsilon = 0"),
        ("epsilon = 0.3", "epsilon = 1"),
        ('name = "epsilon_greedy"\nepsilon = 0.3', 'name = "uniform"'),
    ],
)
def test_edges_of_a_cohort_that_are_allowed(tmp_path: Path, old: str, new: str) -> None:
    """Values at the edge of what is allowed load."""
    text = SMALL["cohorts/leavers.toml"]
    assert old in text

    load(write(tmp_path, {**SMALL, "cohorts/leavers.toml": text.replace(old, new)}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("share = 0.05", "share = 0"),
        ('min_gap = "1h"', 'min_gap = "0s"'),
        ('start = "23:00"', "start = 23:00:00"),  # a time of TOML's own
        ('deep_link = "app://open?xp={experiment_id}"', 'deep_link = ""'),
        ('events = ["push_off"]', "events = []"),
        ("batch = 500", "batch = 1000"),
    ],
)
def test_edges_of_the_engine_that_are_allowed(tmp_path: Path, old: str, new: str) -> None:
    """Values at the edge of what is allowed load."""
    text = SMALL["engine.toml"]
    assert old in text

    load(write(tmp_path, {**SMALL, "engine.toml": text.replace(old, new)}))


def test_cohorts_may_share_trigger_and_goal(tmp_path: Path) -> None:
    """Two cohorts may be started by the same event and have the same goal."""
    twin = {"cohorts/twin.toml": SMALLEST["cohorts/leavers.toml"]}

    assert len(load(write(tmp_path, {**SMALLEST, **twin})).cohorts) == 2


def test_texts_of_a_channel_that_is_switched_off_may_stay(tmp_path: Path) -> None:
    """To switch a channel off for a cohort, its name in the combos is all to be taken out."""
    cohort = SMALL["cohorts/leavers.toml"].replace('["push", "whatsapp"]', '["whatsapp"]')

    rules = load(write(tmp_path, {**SMALL, "cohorts/leavers.toml": cohort}))

    assert rules.cohorts[LEAVERS].space.channels == (WHATSAPP,)
    assert PUSH in rules.channels


def test_files_of_windows_editors(tmp_path: Path) -> None:
    """A byte order mark and Windows' line ends are no mistake."""
    files = {
        name: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() for name, text in SMALL.items()
    }

    load(write(tmp_path, files))


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """Notes, back-ups and hidden files beside the configuration mean nothing."""
    others = {"README.md": "hello", "copy/en.toml.bak": "[[[", "cohorts/.#leavers.toml": "[[["}

    assert load(write(tmp_path, {**SMALL, **others})).fingerprint == _fingerprint(tmp_path, SMALL)


def test_fingerprint_tells_content_apart(tmp_path: Path) -> None:
    """Two folders agree in their fingerprint if, and only if, their TOML files are the same."""
    renamed = {name.replace("leavers", "goers"): text for name, text in SMALLEST.items()}
    edited = {**SMALLEST, "engine.toml": "# a remark"}
    prints = {_fingerprint(tmp_path, files) for files in (SMALL, SMALLEST, renamed, edited)}

    assert len(prints) == 4
    assert _fingerprint(tmp_path, SMALL) in prints


def _fingerprint(tmp_path: Path, files: Mapping[str, str]) -> str:
    folder = tmp_path / f"folder{len(list(tmp_path.iterdir()))}"
    return load(write(folder, files)).fingerprint
