"""The JSON Schema that editors get says what the readers say, as far as a schema can."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from tests.unit.configuration.small_folder import SMALL
from tests.unit.configuration.test_configuration_any_content import JUNK
from tests.unit.configuration.test_configuration_mistakes import COHORT, COPY, ENGINE, MISTAKES

from experiment_engine.configuration import kinds
from experiment_engine.configuration.loading import bundled_example
from experiment_engine.configuration.schema import schemas

VALIDATORS = {name: Draft7Validator(schema) for name, schema in schemas().items()}

# What a schema cannot see: it knows one file, no other, no zones and languages, and no sums.
UNSEEN = {
    (ENGINE, '"Asia/Kolkatta"'),
    (ENGINE, '"23:00"'),
    (ENGINE, "messages = 3.0"),  # JSON has no other 3
    (ENGINE, "share = nan"),  # JSON has none
    (ENGINE, 'batch = 2\nprovider = "webhook"'),
    (ENGINE, "hii|urgency"),
    (ENGINE, "Hindi|urgency"),
    (ENGINE, "hi|urgent"),
    (ENGINE, "urgency|nun"),
    (ENGINE, 'Hindi = "आ'),
    (ENGINE, "[offers.rupee_trial]"),
    (ENGINE, '"5d"'),
    (ENGINE, '["push_off"]'),
    (ENGINE, 'default = "fr"'),
    (ENGINE, 'bho = "hindi"'),
    (ENGINE, 'bho = "hi"\nhi = "bho"'),
    (COHORT, ""),  # count without within, and the other way about
    (COHORT, '"left"'),
    (COHORT, 'window = "90min"'),
    (COHORT, '"60min", "1h"'),
    (COHORT, "urgnecy = 1.3"),
    (COPY, "{ordr_id}"),
    (COPY, "{order_id}"),
    (COPY, "[leaver.whatsapp.helpful.none]"),
    (COPY, "[push.urgnecy"),
    (COPY, "helpful.nono]"),
    (COPY, '[push."*"."*"]'),
}


def kind_of(file: str) -> str:
    return "engine" if file == ENGINE else file.partition("/")[0].replace("cohorts", "cohort")


def is_valid(file: str, values: dict[str, Any]) -> bool:
    return bool(VALIDATORS[kind_of(file)].is_valid(values))


@pytest.mark.parametrize("name", sorted(VALIDATORS))
def test_it_is_a_schema(name: str) -> None:
    """Each is itself valid, by the draft that editors read."""
    Draft7Validator.check_schema(VALIDATORS[name].schema)


@pytest.mark.parametrize("path", sorted(bundled_example().rglob("*.toml")), ids=lambda p: p.stem)
def test_the_example_is_valid(path: Path) -> None:
    """Every file of the bundled example fits its schema."""
    file = path.relative_to(bundled_example()).as_posix()
    errors = VALIDATORS[kind_of(file)].iter_errors(tomllib.loads(path.read_text()))
    assert [error.message for error in errors] == []


@pytest.mark.parametrize("file", sorted(SMALL))
def test_every_key_is_valid(file: str) -> None:
    """A folder in which every key stands fits."""
    assert is_valid(file, tomllib.loads(SMALL[file]))


def test_mistakes_are_refused() -> None:
    """Every mistake that the engine refuses is refused by the schema too, or listed as unseen."""
    seen, unseen = 0, set()
    for file, old, new, _ in MISTAKES:
        try:
            values = tomllib.loads(SMALL[file].replace(old, new))
        except tomllib.TOMLDecodeError:
            continue  # editors say so by themselves
        if is_valid(file, values):
            unseen.add((file, new))
        else:
            seen += 1
    assert unseen == UNSEEN
    assert seen > 70


KINDS = [
    kinds.TEXT,
    kinds.ANY_TEXT,
    kinds.NAME,
    kinds.PART,
    kinds.STAND_IN,
    kinds.ZONE,
    kinds.TIME,
    kinds.DURATION,
    kinds.SPAN,
    kinds.DEEP_LINK,
    kinds.CAMPAIGN,
    kinds.PROPERTY,
    kinds.whole(1, 1000),
    kinds.number(0, 1, above=True),
    kinds.number(0, 1, below=True),
    kinds.choice(("a", "b")),
    kinds.list_of(kinds.NAME),
    kinds.list_of(kinds.whole(0, 3), may_be_empty=True),
]
LIKELY = st.one_of(
    JUNK,
    st.integers(-1, 1001),
    st.floats(-1, 2),
    st.from_regex(r"\s*[0-9]{1,10}(\.[0-9]{1,3})?\s*(s|min|h|d)\s*", fullmatch=True),
    st.from_regex(r"[0-9]{1,2}:[0-9]{2}", fullmatch=True),
    st.text("ab {}experiment_id|*\n", max_size=20),
    st.lists(st.text(max_size=3) | st.integers(0, 4), max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), LIKELY)
def test_what_the_engine_takes_is_valid(kind: kinds.Kind[Any], value: object) -> None:
    """The schema of a kind of value never refuses what the engine takes."""
    if _is_json(value) and kind.read(value) is not None and not _is_refused_template(kind, value):
        assert Draft7Validator(dict(kind.schema)).is_valid(value), value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.expected[:30])
def test_examples_are_of_their_kind(kind: kinds.Kind[Any]) -> None:
    """What is offered as an example is taken, and valid."""
    assert kind.read(kind.stand_in) is not None
    assert Draft7Validator(dict(kind.schema)).is_valid(kind.stand_in)


def _is_json(value: object) -> bool:
    return isinstance(value, str | int | float | list | bool)


def _is_refused_template(kind: kinds.Kind[Any], value: object) -> bool:
    """Texts with a stray brace are refused a step later than by their kind."""
    return kind in (kinds.TEXT, kinds.ANY_TEXT) and bool(set("{}") & set(str(value)))
