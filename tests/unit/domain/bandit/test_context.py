"""Contexts: bounded levels, and a text that stands for them."""

from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.bandit.context import FEATURES, MOST_LEVELS, ContextLevels

TEXTS = st.text(min_size=1, max_size=8)
VALUES = st.dictionaries(st.sampled_from(FEATURES), TEXTS)
NAMES = st.lists(TEXTS, max_size=MOST_LEVELS, unique=True).map(tuple)
LEVELS = st.tuples(*(NAMES for _ in FEATURES)).map(ContextLevels)


@given(levels=LEVELS, values=VALUES)
def test_any_value_has_a_level(levels: ContextLevels, values: dict[str, str]) -> None:
    """Whatever an event brings, or leaves out, is one of the levels; the unknown is `other`."""
    context = levels.bucket(values)

    for place, (feature, names, size) in enumerate(
        zip(FEATURES, levels.names, levels.sizes, strict=True)
    ):
        assert 0 <= context[place] < size <= MOST_LEVELS + 1
        known = values.get(feature) in names
        assert (names[context[place]] == values[feature]) if known else context[place] == size - 1


@given(levels=LEVELS, values=VALUES)
def test_a_key_is_read_back(levels: ContextLevels, values: dict[str, str]) -> None:
    """The text of a context gives the same levels, whatever signs the values contain."""
    context = levels.bucket(values)

    assert levels.parse(levels.key(context)) == context


@given(before=LEVELS, after=LEVELS, values=VALUES)
def test_a_key_outlives_its_levels(
    before: ContextLevels, after: ContextLevels, values: dict[str, str]
) -> None:
    """Counts under a key move with the names of the levels, and to `other` without one."""
    key = before.key(before.bucket(values))

    context = after.parse(key)

    for feature, old, new, level in zip(FEATURES, before.names, after.names, context, strict=True):
        value = values.get(feature)
        kept = value in old and value in new
        assert level == (new.index(str(value)) if kept else len(new))


@given(levels=LEVELS, recent=st.lists(VALUES, max_size=60))
def test_levels_stay_bounded(levels: ContextLevels, recent: list[dict[str, str]]) -> None:
    """However many values come, a feature has at most sixteen names, each once."""
    for names in levels.refreshed(recent).names:
        assert len(names) <= MOST_LEVELS
        assert len(set(names)) == len(names)


def test_a_frequent_value_becomes_a_level() -> None:
    """What is seen ten times gets a level; what is seen less often stays `other`."""
    recent = [{"region": "bihar"}] * 10 + [{"region": "goa"}] * 9

    assert ContextLevels().refreshed(recent).names[0] == ("bihar",)


def test_a_value_that_comes_no_more_makes_room() -> None:
    """With sixteen names taken, a new frequent value takes the place of one not seen any more."""
    names = tuple(f"r{number}" for number in range(MOST_LEVELS))
    levels = ContextLevels((names, (), (), ()))
    recent = [{"region": name} for name in names if name != "r3"] + [{"region": "new"}] * 10

    assert levels.refreshed(recent).names[0] == tuple("new" if n == "r3" else n for n in names)


def test_nobody_is_pushed_out_by_a_crowd() -> None:
    """With sixteen names in use, a seventeenth value stays `other`."""
    names = tuple(f"r{number}" for number in range(MOST_LEVELS))
    recent = [{"region": name} for name in names] + [{"region": "new"}] * 50

    assert ContextLevels((names, (), (), ())).refreshed(recent).names[0] == names
