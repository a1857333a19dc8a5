"""What is known of a user: choices, goals, places in the caps, and what is credited."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import CHECKOUT, NOW, PAYMENT, PUSH, USER, WHATSAPP, an_experiment

from experiment_engine.domain.cohorts.user import Choice, User
from experiment_engine.domain.delivery.experiment import Experiment, Mode, State
from experiment_engine.domain.identifiers import EVERY_CHANNEL, EventName, ExperimentId
from experiment_engine.domain.moments import DAY, HOUR, Instant

CHOICES = st.lists(
    st.tuples(st.sampled_from([PUSH, WHATSAPP, EVERY_CHANNEL]), st.booleans(), st.integers(0, 6)),
    max_size=8,
)


def user_who_chose(choices: Sequence[tuple[str, bool, int]]) -> User:
    user = User(USER)
    for channel, allowed, at in choices:
        choice = user.choices.setdefault(channel, Choice())  # type: ignore[arg-type]
        if allowed:
            choice.yes_at = max(choice.yes_at, Instant(at))
        else:
            choice.no_at = max(choice.no_at, Instant(at))
    return user


@given(choices=CHOICES)
def test_a_no_stands_until_a_newer_yes(choices: list[tuple[str, bool, int]]) -> None:
    """The newest word about a channel, or about all, holds; of two at the same time the no."""
    user = user_who_chose(choices)

    said = [(at, not allowed) for channel, allowed, at in choices if channel in (PUSH, "*")]
    newest = max(said, default=None)

    assert user.opted_out(PUSH) == (newest is not None and newest[1])
    assert user.consented(PUSH) == (newest is not None and not newest[1])


@given(choices=CHOICES, data=st.data())
def test_the_order_of_choices_does_not_matter(
    choices: list[tuple[str, bool, int]], data: st.DataObject
) -> None:
    """Choices that arrive late or twice lead to the same answer."""
    turned = data.draw(st.permutations([*choices, *choices[:2]]))

    assert user_who_chose(turned).opted_out(PUSH) == user_who_chose(choices).opted_out(PUSH)


def test_a_choice_for_one_channel() -> None:
    """A no to one channel leaves the other as it is."""
    user = user_who_chose([("whatsapp", False, 5)])

    assert user.opted_out(WHATSAPP)
    assert not user.opted_out(PUSH)


@pytest.mark.parametrize(
    ("since", "reached"), [(-5, True), (0, True), (NOW, True), (NOW + 1, False)]
)
def test_a_goal_reached_since(*, since: int, reached: bool) -> None:
    """A goal counts as reached at or after its own time, however early the question begins."""
    user = User(USER, goals={EventName("purchase"): NOW})

    assert user.reached(EventName("purchase"), Instant(since)) is reached
    assert not user.reached(EventName("other"), Instant(since))


def test_places_in_the_caps() -> None:
    """Claimed, sent, unknown and held out take a place in their mode; nothing else does."""
    states = [an_experiment(state, placed_at=NOW) for state in State]
    elsewhere = [
        an_experiment(State.SENT, placed_at=NOW, mode=Mode.DRY_RUN),
        an_experiment(State.SENT, placed_at=None),
    ]
    user = User(USER, experiments=[*states, *elsewhere])

    assert len(user.places_taken(Mode.LIVE)) == 4
    assert len(user.places_taken(Mode.LIVE, PUSH)) == 4
    assert not user.places_taken(Mode.LIVE, WHATSAPP)
    assert len(user.places_taken(Mode.DRY_RUN)) == 1


def test_last_decision_of_a_cohort() -> None:
    """Cooldown looks at the newest decision of the same cohort and mode."""
    user = User(
        USER,
        experiments=[
            an_experiment(decided_at=Instant(NOW - 2 * DAY)),
            an_experiment(decided_at=Instant(NOW - DAY)),
            an_experiment(decided_at=NOW, cohort=PAYMENT),
            an_experiment(decided_at=NOW, mode=Mode.DRY_RUN),
        ],
    )

    assert user.last_decided(CHECKOUT, Mode.LIVE) == NOW - DAY
    assert user.last_decided(PAYMENT, Mode.DRY_RUN) is None


# R6: which experiment a conversion without id belongs to


def triggered(number: int, hours_ago: int, state: State, **changes: object) -> Experiment:
    at = Instant(NOW - hours_ago * HOUR)
    return an_experiment(
        state,
        id=ExperimentId(f"id-{number}"),
        triggered_at=at,
        decided_at=at,
        window_ends_at=Instant(at + 3 * DAY),
        **changes,
    )


def credited(user: User, at: int = NOW) -> str | None:
    found = user.credited(CHECKOUT, Instant(at), Mode.LIVE)
    return None if found is None else found.id


def test_the_most_recent_that_was_reached() -> None:
    """Of several sent or held out the one triggered last is credited, inside its window only."""
    user = User(
        USER,
        experiments=[
            triggered(1, 50, State.SENT),
            triggered(2, 20, State.HELD_OUT),
            triggered(3, 1, State.EXPIRED),
            triggered(4, 1, State.UNKNOWN),
            triggered(5, 1, State.SCHEDULED),
            triggered(6, 1, State.SENT, mode=Mode.DRY_RUN),
            triggered(7, 1, State.SENT, cohort=PAYMENT),
        ],
    )

    assert credited(user) == "id-2"
    assert credited(user, NOW - 21 * HOUR) == "id-1"  # before the second was triggered
    assert credited(user, NOW - 51 * HOUR) is None
    assert credited(user, NOW + 3 * DAY) is None


def test_one_that_is_being_sent_counts_as_sent() -> None:
    """A conversion while the call is under way finds the message that is on its way."""
    user = User(USER, experiments=[triggered(1, 50, State.SENT), triggered(2, 1, State.CLAIMED)])

    assert credited(user) == "id-2"


def test_a_converted_one_is_not_passed_over() -> None:
    """What has converted already is found again, and no earlier one in its place."""
    user = User(
        USER,
        experiments=[triggered(1, 50, State.SENT), triggered(2, 1, State.SENT, converted_at=NOW)],
    )

    assert credited(user) == "id-2"
