"""The space of all combos of a cohort."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.cohorts.combo import DIMENSIONS, ComboSpace
from experiment_engine.domain.identifiers import ComboKey
from experiment_engine.domain.moments import HOUR, MINUTE

DELAYS = st.lists(
    st.sampled_from(["2min", "15min", "1h", "90min", "6h", "1d"]), min_size=1, unique=True
)
LEVELS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True)


@given(delays=DELAYS, channels=LEVELS, angles=LEVELS, offers=LEVELS)
def test_every_combination_once(
    delays: list[str], channels: list[str], angles: list[str], offers: list[str]
) -> None:
    """A space has each value of each dimension with each of the others, once."""
    space = ComboSpace.of(delays, channels, angles, offers)

    assert len(space) == len(delays) * len(channels) * len(angles) * len(offers)
    assert len(space.by_key) == len(space)
    told = {tuple(combo.levels().values()) for combo in space.combos}
    assert len(told) == len(space)


@given(delays=DELAYS, channels=LEVELS, angles=LEVELS, offers=LEVELS)
def test_places_keys_and_levels_agree(
    delays: list[str], channels: list[str], angles: list[str], offers: list[str]
) -> None:
    """A combo is found by its place and by its key, and its key tells its levels in order."""
    space = ComboSpace.of(delays, channels, angles, offers)

    for place, combo in enumerate(space.combos):
        levels = combo.levels()
        assert space[place] is combo is space.by_key[combo.key]
        assert combo.index == place
        assert tuple(levels) == DIMENSIONS
        assert levels == {
            "delay": combo.levels()["delay"],
            "channel": combo.channel,
            "angle": combo.angle,
            "offer": combo.offer,
        }


@given(delays=DELAYS, channels=LEVELS)
def test_delays_and_channels(delays: list[str], channels: list[str]) -> None:
    """Delays are told shortest first, channels in the order of the configuration."""
    space = ComboSpace.of(delays, channels, ["a"], ["none"])

    assert list(space.delays) == sorted({combo.delay for combo in space.combos})
    assert list(space.channels) == channels
    assert space.shortest == min(combo.delay for combo in space.combos)


def test_the_contract_s_example() -> None:
    """The key is the values joined by a bar, in the order delay, channel, angle, offer."""
    space = ComboSpace.of(["2min", "1h"], ["whatsapp"], ["scarcity"], ["rupee_1_trial"])

    first = space.by_key[ComboKey("2min|whatsapp|scarcity|rupee_1_trial")]

    assert (first.index, first.delay) == (0, 2 * MINUTE)
    assert space.delays == (2 * MINUTE, HOUR)


def test_an_unknown_key_is_no_combo() -> None:
    """A combo that left the configuration is not found."""
    with pytest.raises(KeyError):
        ComboSpace.of(["2min"], ["push"], ["a"], ["none"]).by_key[ComboKey("1h|push|a|none")]
