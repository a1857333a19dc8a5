"""How often one user may be written to, against counting by hand."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.delivery.limits import FrequencyCap
from experiment_engine.domain.moments import DAY, HOUR, Duration, Instant

# Small numbers, so that moments fall on the edges of windows and gaps.
MOMENTS = st.integers(1_000, 1_030).map(Instant)
CAPS = st.builds(
    FrequencyCap,
    messages=st.integers(1, 4),
    per=st.integers(1, 20).map(Duration),
    min_gap=st.integers(0, 6).map(Duration),
)


def is_kept(cap: FrequencyCap, sent: list[Instant]) -> bool:
    """Say whether every window of `per` holds at most `messages`, and every gap is kept."""
    ordered = sorted(sent)
    crowded = any(
        sum(start <= moment < start + cap.per for moment in ordered) > cap.messages
        for start in range(1_000 - cap.per, 1_031)
    )
    gaps = [later - earlier for earlier, later in pairwise(ordered)]
    return not crowded and all(gap >= cap.min_gap for gap in gaps)


@given(cap=CAPS, moments=st.lists(MOMENTS, max_size=12))
def test_no_window_is_ever_crowded(cap: FrequencyCap, moments: list[Instant]) -> None:
    """Sending whenever the cap allows keeps it in every rolling window, and never needlessly."""
    sent: list[Instant] = []
    for moment in sorted(moments):
        allowed = cap.allows(moment, sent)
        assert allowed == is_kept(cap, [*sent, moment])
        if allowed:
            sent.append(moment)


@given(cap=CAPS, at=MOMENTS, taken=st.lists(MOMENTS, max_size=8), data=st.data())
def test_order_does_not_matter(
    cap: FrequencyCap, at: Instant, taken: list[Instant], data: st.DataObject
) -> None:
    """In which order earlier messages are known makes no difference."""
    assert cap.allows(at, taken) == cap.allows(at, data.draw(st.permutations(taken)))


def test_a_place_is_free_again_after_the_window() -> None:
    """Three a week: the fourth may go exactly a week after the first, and not before."""
    cap = FrequencyCap(3, Duration(7 * DAY))
    taken = [Instant(0), Instant(DAY), Instant(2 * DAY)]

    assert not cap.allows(Instant(7 * DAY - 1), taken)
    assert cap.allows(Instant(7 * DAY), taken)


def test_the_gap_is_kept_to_the_millisecond() -> None:
    """A message may follow another exactly `min_gap` later, and not before."""
    cap = FrequencyCap(10, Duration(DAY), min_gap=HOUR)

    assert not cap.allows(Instant(HOUR - 1), [Instant(0)])
    assert cap.allows(HOUR_LATER, [Instant(0)])


HOUR_LATER = Instant(HOUR)
