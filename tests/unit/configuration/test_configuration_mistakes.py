"""A mistake in the configuration is told in one line: file, key and mend."""

from pathlib import Path

import pytest
from tests.unit.configuration.small_folder import SMALL, Files, write

from experiment_engine.configuration.loading import load
from experiment_engine.domain.errors import ConfigurationError

ENGINE, COHORT, COPY = "engine.toml", "cohorts/leavers.toml", "copy/en.toml"

# file, what stands in it, what somebody makes of it, and what the one line must say
MISTAKES = [
    # keys
    (ENGINE, "timezone", "timezon", ("timezon", 'did you mean "timezone"?', "quiet_hours,")),
    (ENGINE, 'start = "23', 'strat = "23', ("quiet_hours.strat", '"start"', "start, end")),
    (ENGINE, "expires_after", "expires", ("delivery.expires", '"expires_after"')),
    (ENGINE, "[holdout]", "[hold_out]", ("hold_out", '"holdout"')),
    (ENGINE, "[channels.push]", "[channels.psh]", ("channels.psh", '"push"', "push, whatsapp")),
    (ENGINE, "batch = 500", "bach = 500", ("channels.push.bach", '"batch"', "max_in_flight")),
    (ENGINE, "batch = 500", 'endpoint = "whatsapp"', ("channels.push.endpoint", "Allowed here")),
    (ENGINE, "per_day", "per_dya", ("offers.rupee_1_trial.per_dya", '"per_day"')),
    (ENGINE, "raw_events", "raw events", ("line ", "column ", "not TOML")),
    (COHORT, "[trigger]", "[triger]", ("triger", '"trigger"', "goal, combos, policy, prior")),
    (COHORT, 'event = "left"', 'evnt = "left"', ("trigger.evnt", '"event"')),
    (COHORT, 'window = "3d"', 'windw = "3d"', ("goal.windw", '"window"')),
    (COHORT, "angle = [", "angel = [", ("combos.angel", '"angle"')),
    (COHORT, "epsilon = 0.3", "epsilom = 0.3", ("policy.epsilom", '"epsilon"')),
    (COHORT, "rate = 0.05", "rat = 0.05", ("prior.rat", '"rate"')),
    (COPY, 'title = "Now"', 'tilte = "Now"', ("push.urgency.*.tilte", '"title"')),
    # values
    (ENGINE, '"Asia/Kolkata"', '"Asia/Kolkatta"', ("timezone", "Kolkatta", "IANA")),
    (ENGINE, '"Asia/Kolkata"', "5.5", ("timezone", "5.5", "IANA")),
    (ENGINE, '"23:00"', '"25:00"', ("quiet_hours.start", "25:00", '"23:59"')),
    (ENGINE, '"08:00"', '"23:00"', ("quiet_hours.end", "start too", "no quiet hours")),
    (ENGINE, "messages = 3", "messages = 0", ("frequency_cap.messages", "from 1 to 1000")),
    (ENGINE, "messages = 3", "messages = true", ("frequency_cap.messages", "true", "number")),
    (ENGINE, "messages = 3", "messages = 3.0", ("frequency_cap.messages", "whole number")),
    (ENGINE, 'per = "7d"', 'per = "a week"', ("frequency_cap.per", "a week", '"15min"')),
    (ENGINE, 'per = "7d"', "per = 7", ("frequency_cap.per", "s, min, h, d")),
    (ENGINE, 'min_gap = "1h"', 'min_gap = "-1h"', ("frequency_cap.min_gap", "s, min, h, d")),
    (ENGINE, '"30min"', '"0s"', ("delivery.expires_after", "above 0")),
    (ENGINE, '"30min"', '"9e99d"', ("delivery.expires_after", "s, min, h, d")),
    (ENGINE, '"30min"', f'"{"9" * 400}d"', ("delivery.expires_after", "3650d")),
    (ENGINE, "share = 0.05", "share = 1", ("holdout.share", "below 1")),
    (ENGINE, "share = 0.05", "share = -0.1", ("holdout.share", "at least 0")),
    (ENGINE, "share = 0.05", "share = nan", ("holdout.share", "nan", "number")),
    (ENGINE, "share = 0.05", 'share = "5%"', ("holdout.share", '"5%"', "number")),
    (ENGINE, '"required"', '"assume"', ("channels.push.consent", '"assumed" or "required"')),
    (ENGINE, "batch = 500", "batch = 1001", ("channels.push.batch", "from 1 to 1000")),
    (ENGINE, "max_in_flight = 2", "max_in_flight = 0", ("channels.push.max_in_flight", "100")),
    (ENGINE, "batch = 500", 'provider = "webhok"', ("channels.push.provider", '"clevertap" or')),
    (ENGINE, "batch = 500", 'batch = 2\nprovider = "webhook"', ("channels.push.batch", "write 1")),
    (
        ENGINE,
        "batch = 500",
        'provider = "webhook"\naddress = "phone"',
        ("channels.push.address", "user_properties.<name>"),
    ),
    (ENGINE, "{experiment_id}", "{xp}", ("channels.push.deep_link", "{experiment_id}")),
    (ENGINE, '"whatsapp"', '"wa"', ("channels.whatsapp.endpoint", '"externaltrigger"')),
    (ENGINE, '"*|*|*"', '"*|*"', ('campaigns."*|*"', "language|angle|offer")),
    (ENGINE, "hi|urgency", "hii|urgency", ("campaigns", '"hii"', "language code")),
    (ENGINE, "hi|urgency", "Hindi|urgency", ("campaigns", 'write "hi"')),
    (ENGINE, "hi|urgency", "hi|urgent", ("campaigns", '"urgent"', 'mean "urgency"')),
    (ENGINE, "urgency|none", "urgency|nun", ("campaigns", '"nun"', 'mean "none"')),
    (ENGINE, '"1700000000"', '""', ('campaigns."*|*|*"', "campaign id")),
    (ENGINE, '"event_properties.', '"event.', ("placeholders.show_name.from", "user_properties.")),
    (ENGINE, '"event_properties.show_name"', '"event_properties."', ("show_name.from", "<name>")),
    (ENGINE, '"your show"', '""', ("placeholders.show_name.default", "text in quotes")),
    (ENGINE, '"your show"', '"{show}"', ("placeholders.show_name.default", "without braces")),
    (ENGINE, 'hi = "आ', 'Hindi = "आ', ("placeholders.show_name.defaults.Hindi", 'write "hi"')),
    (ENGINE, "[offers.rupee_1_trial]", "[offers.rupee_trial]", ('"rupee_1_trial"', "offer")),
    (ENGINE, "per_day = 5000", "per_day = 0", ("offers.rupee_1_trial.per_day", "from 1")),
    (ENGINE, "per_second = 200", "per_second = 0", ("send_rate.per_second", "above 0")),
    (ENGINE, '"90d"', '"0d"', ("retention.raw_events", "above 0")),
    (ENGINE, '"400d"', '"5d"', ("retention.experiments", "look back", '"9d" or more')),
    (ENGINE, '["push_on"]', '["push_off"]', ("opt_in.events", "opt_out too")),
    (ENGINE, '["push_on"]', '"push_on"', ("opt_in.events", "list")),
    (ENGINE, 'default = "en"', 'default = "fr"', ("languages.default", "copy/fr.toml", "en, hi")),
    (ENGINE, 'bho = "hi"', 'bho = "hindi"', ("languages.fallback.bho", 'write "hi"')),
    (ENGINE, 'bho = "hi"', 'bho = "hi"\nhi = "bho"', ("languages.fallback", "circle", "hi ->")),
    (COHORT, 'event = "left"', 'event = ""', ("trigger.event", "name in quotes")),
    (COHORT, 'event = "left"\n', "", ("trigger.event", "missing")),
    (COHORT, 'within = "7d"\n', "", ("trigger.within", "missing", "count = 3", '"7d"')),
    (COHORT, "count = 3\n", "", ("trigger.within", "without count", "take within out")),
    (COHORT, "count = 3", "count = 0", ("trigger.count", "from 1")),
    (COHORT, 'max_age = "6h"', 'max_age = "0s"', ("trigger.max_age", "above 0")),
    (COHORT, '"bought"', '"left"', ("goal.event", "the trigger's event too")),
    (COHORT, 'window = "3d"\n', "", ("goal.window", "missing", '"15min"')),
    (COHORT, 'window = "3d"', 'window = "90min"', ("goal.window", "twice", '"2h" or more')),
    (COHORT, '"2min", "1h"', '"60min", "1h"', ("combos.delay", '"60min" and "1h"', "same delay")),
    (COHORT, '"2min", "1h"', '"2min", "2min"', ("combos.delay", "each entry once")),
    (COHORT, '"2min", "1h"', '"2 min"', ("combos.delay", "without blanks")),
    (COHORT, '"2min", "1h"', '"soon"', ("combos.delay", '"soon"', '"15min"')),
    (COHORT, '"2min", "1h"', '"0min"', ("combos.delay", "above 0")),
    (COHORT, '["push", "whatsapp"]', '["sms"]', ("combos.channel", '"sms"', "push, whatsapp")),
    (COHORT, '["urgency", "helpful"]', "[]", ("combos.angle", "empty list", "each entry once")),
    (COHORT, '["urgency", "helpful"]', '["a|b"]', ("combos.angle", "without | and *")),
    (COHORT, '["urgency", "helpful"]', '["a", 3]', ("combos.angle", "name in quotes")),
    (COHORT, 'offer = ["none", "rupee_1_trial"]\n', "", ("combos.offer", "missing")),
    (COHORT, '"epsilon_greedy"', '"thompsn"', ("policy.name", '"epsilon_greedy"')),
    (COHORT, '"epsilon_greedy"', '"uniform"', ("policy.epsilon", "no such key", "name")),
    (COHORT, "epsilon = 0.3", "epsilon = 20", ("policy.epsilon", "at most 1")),
    (COHORT, "rate = 0.05", "rate = 5", ("prior.rate", "below 1")),
    (COHORT, "weight = 40", "weight = 0", ("prior.weight", "above 0")),
    (COHORT, "urgency = 1.3", "urgnecy = 1.3", ("prior.lean.angle.urgnecy", '"urgency"')),
    (COHORT, "urgency = 1.3", "urgency = -1", ("prior.lean.angle.urgency", "above 0")),
    (COHORT, "[prior.lean.angle]", "[prior.lean.angel]", ("prior.lean.angel", '"angle"')),
    # texts
    (COPY, 'title = "Now"\n', "", ("push.urgency.*.title", "missing")),
    (COPY, 'title = "Now"', 'title = ""', ("push.urgency.*.title", "not empty")),
    (COPY, 'body = "It waits."\n', "", ("leavers.whatsapp.helpful.none.body", "missing")),
    (COPY, '"It waits."', "7", ("leavers.whatsapp.helpful.none.body", "7", "text in quotes")),
    (COPY, "{order_id}", "{order.id}", ("push.helpful.*.body", "plain name", "{show_name}")),
    (COPY, "{order_id}", "{order_id", ("push.helpful.*.body", "malformed placeholder")),
    (COPY, "{order_id}", "{{order_id}}", ("push.helpful.*.body", "literal brace")),
    (COPY, "{order_id}", "{ordr_id}", ("push.helpful.*.body", "{ordr_id}", '"order_id"')),
    (COPY, "It waits", "{order_id}", ("placeholders.order_id.default", "helpful", "leavers")),
    (COPY, "[push.urgency", "[pus.urgency", ("pus", '"push"', "leavers, push, whatsapp")),
    (COPY, "[leavers.whatsapp.helpful.none]", "[leaver.whatsapp.helpful.none]", ('"leavers"',)),
    (COPY, "[leavers.whatsapp.helpful.none]", "[leavers.wa.helpful.none]", ("leavers.wa",)),
    (COPY, "[push.urgency", "[push.urgnecy", ("push.urgnecy", '"urgency"', "urgency, helpful")),
    (COPY, "helpful.none]", "helpful.nono]", ("leavers.whatsapp.helpful.nono", '"none"', "*")),
    (COPY, '[push.urgency."*"]', "[push.urgency]", ("push.urgency.title", "not a table")),
    (COPY, '[push.urgency."*"]', '[push."*"."*"]', ("push.*", "angle in any cohort")),
]


def edited(file: str, old: str, new: str) -> Files:
    """Return the small folder with one edit."""
    assert old in SMALL[file]
    return {**SMALL, file: SMALL[file].replace(old, new)}


def refusal(folder: Path) -> str:
    """Return what the refusal of the folder says, which is always one line."""
    with pytest.raises(ConfigurationError) as failure:
        load(folder)
    line = str(failure.value)
    assert line.isprintable()
    return line


@pytest.mark.parametrize(("file", "old", "new", "says"), MISTAKES)
def test_mistake(tmp_path: Path, file: str, old: str, new: str, says: tuple[str, ...]) -> None:
    """A mistake is refused with its file, its key and how to mend it."""
    line = refusal(write(tmp_path, edited(file, old, new)))

    named = ENGINE if says[0].startswith("placeholders.order_id") else file
    assert line.startswith(f"{named}: ")
    for words in says:
        assert words in line.replace('"*".', "*.").replace('."*":', ".*:"), line


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("[leavers.whatsapp.helpful.rupee_1_trial]", ("helpful", "rupee_1_trial", "whatsapp")),
        ('[push.helpful."*"]', ("push", "helpful", "none")),
    ],
)
def test_combo_without_text(tmp_path: Path, gone: str, says: tuple[str, ...]) -> None:
    """A combo without text in the default language is named, with the file to add it to."""
    before, _, after = SMALL[COPY].partition(gone)
    rest = after.split("\n[", 1)
    text = before + ("[" + rest[1] if len(rest) > 1 else "")

    line = refusal(write(tmp_path, {**SMALL, COPY: text}))

    assert line.startswith(f"{COPY}: leavers.")
    assert "cohort leavers has no text" in line
    for words in (*says, "add [leavers.", "title and body"):
        assert words in line


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        (ENGINE, b"a = \xff\n", ("line 1", "UTF-8")),
        (COPY, "x = 1\ny = é\n".encode("latin-1"), ("line 2", "save the file as UTF-8")),
        (ENGINE, b"\n\nper = 7d\n", ("line 3, column 8", "quotes")),
        (ENGINE, b'a = "x', ("line 1, column 7", "not TOML")),
        (ENGINE, b"[holdout]\n[holdout]\n", ("line 2", "twice")),
        (ENGINE, b"a = " + b"[" * 5000, ("nest too deeply",)),
        (ENGINE, b"a = " + b"9" * 5000, ("too long",)),
        (ENGINE, b"timezone = 0x" + b"f" * 5000, ("timezone", "huge number")),
        (ENGINE, b'"a\\nb" = 1', ("no such key", "Allowed here")),
        (ENGINE, b"holdout = 5", ("holdout", "5 is not a table", "[holdout]")),
        (ENGINE, b"quiet_hours = {}", ("quiet_hours.start", "missing")),
        (COHORT, b"", ("trigger.event", "missing")),
        (COHORT, b"trigger = []", ("trigger", "not a table")),
        (COPY, b"", ("leavers.push.urgency.none", "no text")),
        ("cohorts/Bad-Name.toml", b"", ("small letters",)),
        ("cohorts/push.toml", b"", ("name of a channel",)),
        ("copy/Hindi.toml", b"", ("language code", "copy/hi.toml")),
        ("copy/EN.toml", b"", ("language code", "copy/en.toml")),
        ("copy/zz.toml", b"", ("language code", "copy/hi.toml")),
    ],
)
def test_content_of_a_file(
    tmp_path: Path, file: str, content: bytes, says: tuple[str, ...]
) -> None:
    """Whatever stands in a file, its name and the mend are told in one line."""
    line = refusal(write(tmp_path, {**SMALL, file: content}))

    assert line.startswith(f"{file}: ")
    for words in says:
        assert words in line


def test_too_many_combos(tmp_path: Path) -> None:
    """A cohort whose combos nobody could ever tell apart is refused, not built."""
    offers = ", ".join(f'"offer_{number}"' for number in range(10_000))
    old = '"none", "rupee_1_trial"'

    line = refusal(write(tmp_path, edited(COHORT, old, offers)))

    assert line.startswith(f"{COHORT}: combos: 80000 combos are too many")


@pytest.mark.parametrize("name", [ENGINE, COHORT, COPY])
def test_folder_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    """A folder with the name of a file is named as such."""
    files = {other: text for other, text in SMALL.items() if other != name}
    (write(tmp_path, files) / name).mkdir(parents=True)

    assert refusal(tmp_path) == f"{name}: this is a folder: put a TOML file of this name here"


@pytest.mark.parametrize("name", ["cohorts", "copy"])
def test_file_in_place_of_a_folder(tmp_path: Path, name: str) -> None:
    """A file with the name of a folder is named as such."""
    files = {other: text for other, text in SMALL.items() if not other.startswith(name)}

    line = refusal(write(tmp_path, {**files, name: ""}))

    assert line == f"{name}: this is a file: make it a folder of .toml files"


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("engine.toml", "engine.toml: the file is missing"),
        ("cohorts/", "cohorts/: there is no cohort: add a file such as"),
        ("copy/", "copy/en.toml"),
    ],
)
def test_missing_parts(tmp_path: Path, missing: str, says: str) -> None:
    """A folder that lacks a part says which, and what to put there."""
    files = {name: text for name, text in SMALL.items() if not name.startswith(missing)}

    assert says in refusal(write(tmp_path, files))


@pytest.mark.parametrize(
    ("folder", "says"), [("nowhere", "does not exist"), ("engine.toml", "is no folder")]
)
def test_no_folder(tmp_path: Path, folder: str, says: str) -> None:
    """A path that is no folder is told with the setting that names it."""
    line = refusal(write(tmp_path, SMALL) / folder)

    assert line.startswith("ENGINE_CONFIG: ")
    assert says in line
