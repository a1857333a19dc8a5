"""When a message is tried again, and when a provider rests."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.delivery.retry import (
    REFUSALS_UNTIL_FAILING,
    Breaker,
    next_attempt,
)
from experiment_engine.domain.moments import MINUTE, SECOND, Duration, Instant

NOW = Instant(1_000_000)
JITTER = st.floats(0, 1, exclude_max=True)
WAITS = st.none() | st.integers(0, 60 * MINUTE).map(Duration)


@given(attempts=st.integers(1, 10_000), jitter=JITTER, retry_after=WAITS)
def test_never_too_soon(attempts: int, jitter: float, retry_after: Duration | None) -> None:
    """The next try lies ahead, and not before the provider asked for it."""
    later = next_attempt(NOW, attempts, jitter, retry_after)

    assert later >= NOW + 2 * SECOND
    assert later >= NOW + (retry_after or 0)
    assert later <= NOW + max(7.5 * MINUTE, retry_after or 0)


def test_waits_double() -> None:
    """Without chance: 2, 4, 8 ... seconds, and never more than five minutes."""
    waits = [next_attempt(NOW, attempt, 0.0) - NOW for attempt in range(1, 12)]

    assert waits[:4] == [2_000, 4_000, 8_000, 16_000]
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert waits[-1] == 5 * MINUTE


@given(attempts=st.integers(1, 20), one=JITTER, other=JITTER)
def test_jitter_spreads(attempts: int, one: float, other: float) -> None:
    """Chance adds up to half of the wait, more for a larger number."""
    low, high = sorted((one, other))
    plain = next_attempt(NOW, attempts, 0.0) - NOW
    less, more = (next_attempt(NOW, attempts, jitter) - NOW for jitter in (low, high))

    assert plain <= less <= more <= plain * 1.5


# The breaker

OUTCOMES = st.lists(
    st.tuples(st.sampled_from(["accepted", "refused", "troubled"]), st.integers(0, 60_000)),
    max_size=60,
)


def tell(breaker: Breaker, outcome: str, now: Instant) -> None:
    if outcome == "accepted":
        breaker.accepted()
    elif outcome == "refused":
        breaker.refused(now)
    else:
        breaker.troubled(now)


@given(outcomes=OUTCOMES, free=st.integers(0, 5), later=st.integers(0, 120_000))
def test_never_more_than_is_free_and_a_probe_at_most_30_s_away(
    outcomes: list[tuple[str, int]], free: int, later: int
) -> None:
    """A closed breaker lets all through, an open one a single probe, in time for every history."""
    breaker, now = Breaker(), NOW
    for outcome, span in outcomes:
        now = Instant(now + span)
        tell(breaker, outcome, now)

    allowed = breaker.allows(Instant(now + later), free)

    assert allowed == free if not breaker.is_open else allowed <= min(1, free)
    if later >= 30 * SECOND:
        assert allowed >= min(1, free)


@given(outcomes=OUTCOMES, free=st.integers(0, 5))
def test_one_accepted_call_closes_it(outcomes: list[tuple[str, int]], free: int) -> None:
    """Whatever went wrong before, after a call that was taken everything goes through."""
    breaker, now = Breaker(), NOW
    for outcome, span in outcomes:
        now = Instant(now + span)
        tell(breaker, outcome, now)
    breaker.accepted()

    assert not breaker.is_open
    assert breaker.allows(now, free) == free


@given(outcomes=OUTCOMES)
def test_opens_on_troubles_or_refusals_in_a_row(outcomes: list[tuple[str, int]]) -> None:
    """It is open exactly after 5 troubles, or 20 refusals, in a row since a call was taken."""
    breaker, now = Breaker(), NOW
    opened = False
    troubles = refusals = 0
    for outcome, span in outcomes:
        now = Instant(now + span)
        tell(breaker, outcome, now)
        troubles = troubles + 1 if outcome == "troubled" else 0
        refusals = refusals + (outcome == "refused")
        if outcome == "accepted":
            opened, refusals = False, 0
        opened = opened or troubles >= 5 or refusals >= REFUSALS_UNTIL_FAILING
        assert breaker.is_open == opened


def test_one_probe_at_a_time() -> None:
    """While a probe is on its way no other starts, and failed probes are made ever more seldom."""
    breaker = Breaker()
    for _ in range(5):
        breaker.troubled(NOW)
    due = Instant(NOW + 5 * SECOND)

    assert breaker.allows(Instant(due - 1), 3) == 0
    assert breaker.allows(due, 3) == 1
    breaker.probing(due)
    assert breaker.allows(due, 2) == 0
    breaker.troubled(due)
    assert breaker.allows(Instant(due + 10 * SECOND - 1), 3) == 0
    assert breaker.allows(Instant(due + 10 * SECOND), 3) == 1


def test_a_closed_breaker_knows_no_probes() -> None:
    """Noting an ordinary call changes nothing."""
    breaker = Breaker()
    breaker.probing(NOW)

    assert breaker.allows(NOW, 3) == 3
