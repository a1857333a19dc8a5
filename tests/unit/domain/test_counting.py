"""Triggers that count distinct events inside a window."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.cohorts.cohort import Trigger
from experiment_engine.domain.cohorts.counting import Counted, events_that_start
from experiment_engine.domain.identifiers import EventName
from experiment_engine.domain.moments import DAY, Duration, Instant

EVENT = EventName("paywall_viewed")
# Few moments, so that events share them and stand on the window's edge.
EVENTS = st.lists(st.integers(0, 12), max_size=8).map(
    lambda moments: [Counted(f"key-{number}", Instant(at)) for number, at in enumerate(moments)]
)
TRIGGERS = st.builds(
    lambda count, within: Trigger(event=EVENT, count=count, within=Duration(within)),
    st.integers(2, 4),
    st.integers(1, 10),
)


@given(trigger=TRIGGERS, waiting=EVENTS)
def test_the_window_ends_with_the_newest(trigger: Trigger, waiting: list[Counted]) -> None:
    """They start one exactly if enough lie in the window that ends with the newest of them."""
    newest = max((event.at for event in waiting), default=0)
    inside = [event for event in waiting if event.at >= newest - (trigger.within or 0)]

    starting = events_that_start(trigger, waiting)

    if len(inside) < trigger.count:
        assert starting is None
    else:
        assert starting is not None
        assert sorted(starting, key=lambda event: event.key) == inside
        assert [event.at for event in starting] == sorted(event.at for event in inside)


@given(trigger=TRIGGERS, waiting=EVENTS, data=st.data())
def test_order_of_arrival_does_not_matter(
    trigger: Trigger, waiting: list[Counted], data: st.DataObject
) -> None:
    """The same events start the same experiment, in whatever order they came."""
    turned = data.draw(st.permutations(waiting))

    assert events_that_start(trigger, turned) == events_that_start(trigger, waiting)


@given(trigger=TRIGGERS, steps=st.lists(st.integers(0, 6), min_size=1, max_size=10))
def test_in_order_the_last_one_completes_the_count(trigger: Trigger, steps: list[int]) -> None:
    """Where events come in order, the newest is the one whose time the experiment has."""
    moments = [Instant(at) for at in accumulate(steps)]
    waiting = [Counted(f"key-{number:02}", at) for number, at in enumerate(moments)]

    starting = events_that_start(trigger, waiting)

    if starting is not None:
        assert starting[-1].at == moments[-1]
        assert len(starting) >= trigger.count


def test_three_in_seven_days() -> None:
    """Two events are not three; the third counts until exactly seven days after the first."""
    trigger = Trigger(event=EVENT, count=3, within=Duration(7 * DAY))
    one, two = Counted("a", Instant(0)), Counted("b", Instant(DAY))

    assert events_that_start(trigger, [one, two]) is None
    assert events_that_start(trigger, [one, two, Counted("c", Instant(7 * DAY + 1))]) is None
    assert events_that_start(trigger, [one, two, Counted("c", Instant(7 * DAY))]) is not None


def test_nothing_waits() -> None:
    """No event starts nothing."""
    assert events_that_start(Trigger(event=EVENT, count=1), []) is None
