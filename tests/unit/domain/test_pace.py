"""The send rate: messages take their places one behind the other, whoever sends them."""

from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.delivery.pace import UNLIMITED, Pace
from experiment_engine.domain.moments import SECOND, Instant


def test_without_a_rate_everything_may_go_out() -> None:
    """No rate, no limit, and nothing to remember."""
    assert Pace(None, 0).allowance(Instant(0)) == UNLIMITED
    assert Pace(None, 0).after(5, Instant(0)) is None


def test_one_second_at_once_and_then_one_by_one() -> None:
    """After a silence one second's messages may go out together, then each waits its time."""
    now = Instant(1_000_000)
    free_at = Pace(4, 0).after(4, now)
    assert free_at is not None
    assert Pace(4, 0).allowance(now) == 4
    assert [Pace(4, free_at).allowance(Instant(now + later)) for later in (0, 249, 250, 500)] == [
        *(0, 0, 1, 2)
    ]


@given(
    per_second=st.floats(0.01, 5_000),
    waits=st.lists(st.integers(0, 5 * SECOND), min_size=1, max_size=60),
)
def test_no_more_than_the_rate_and_one_second(per_second: float, waits: list[int]) -> None:
    """However the claims fall, in any span go out no more than the rate and one second of it."""
    now, free_at, sent = Instant(1_700_000_000_000), 0, []
    for wait in waits:
        now = Instant(now + wait)
        pace = Pace(per_second, free_at)
        messages = pace.allowance(now)
        free_at = pace.after(messages, now) or free_at
        sent.append((now, messages))
    for place, (since, _) in enumerate(sent):
        total = 0
        for at, messages in sent[place:]:
            total += messages
            assert total <= per_second * ((at - since) / SECOND + 1) + 1
