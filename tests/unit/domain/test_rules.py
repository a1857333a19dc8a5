"""What follows from the configuration as a whole."""

from datetime import time
from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import PUSH, WHATSAPP, a_cohort, some_rules

from experiment_engine.domain.delivery.limits import FrequencyCap
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.moments import DAY, HOUR, Duration
from experiment_engine.domain.rules import ChannelRules, Rules

KEYS = [
    (language, angle, offer)
    for language, angle, offer in product(
        ("hi", "en", "*"), ("urgency", "other", "*"), ("none", "x", "*")
    )
]


@given(known=st.lists(st.sampled_from(KEYS), unique=True))
def test_the_most_specific_campaign_wins(known: list[tuple[str, str, str]]) -> None:
    """Of the campaigns that fit, one with the fewest `*` is taken; none that does not fit."""
    rules = ChannelRules(campaigns={key: "|".join(key) for key in known})
    wanted = ("hi", "urgency", "none")
    fitting = [
        key
        for key in known
        if all(part in (own, "*") for part, own in zip(key, wanted, strict=True))
    ]

    found = rules.campaign(*wanted)

    if not fitting:
        assert found is None
    else:
        assert found is not None
        assert tuple(found.split("|")) in fitting
        assert found.count("*") == min(key.count("*") for key in fitting)


def test_between_equals_the_language_decides() -> None:
    """Of two with as many `*`, the one that names the language wins."""
    rules = ChannelRules(campaigns={("hi", "*", "*"): "language", ("*", "urgency", "*"): "angle"})

    assert rules.campaign("hi", "urgency", "none") == "language"
    assert rules.campaign("en", "urgency", "none") == "angle"
    assert rules.campaign("en", "other", "none") is None


def test_a_channel_s_own_quiet_hours() -> None:
    """A channel's own quiet hours stand instead of the general ones."""
    general, own = QuietHours(time(23), time(8)), QuietHours(time(20), time(10))
    rules = some_rules(
        channels={PUSH: ChannelRules(), WHATSAPP: ChannelRules(quiet_hours=own)},
        quiet_hours=general,
    )

    assert rules.quiet_hours_of(PUSH) == general
    assert rules.quiet_hours_of(WHATSAPP) == own


SPANS = st.integers(0, 60 * DAY).map(Duration)


@given(again_after=SPANS, window=SPANS, per=SPANS, own_per=SPANS, gap=SPANS)
def test_memory_reaches_every_rule(
    again_after: Duration, window: Duration, per: Duration, own_per: Duration, gap: Duration
) -> None:
    """What is read of a user reaches back as far as any rule of the configuration looks."""
    rules: Rules = some_rules(
        a_cohort(window=window, again_after=again_after),
        channels={PUSH: ChannelRules(frequency_cap=FrequencyCap(1, own_per))},
        frequency_cap=FrequencyCap(1, per, gap),
    )

    assert rules.memory() >= max(again_after, window, per, own_per, gap) + HOUR
