"""What an experiment counts for (CONTRACT R1, R2), and its states."""

from dataclasses import astuple
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import NOW, an_experiment

from experiment_engine.application.changes import Changes
from experiment_engine.domain.bandit.reward import Counts, Group, contribution, group_of
from experiment_engine.domain.delivery.experiment import (
    MOVES,
    WAITING,
    Experiment,
    State,
)
from experiment_engine.domain.moments import DAY, Instant
from experiment_engine.domain.reasons import Reason

NOTHING = (0, 0, 0, 0, 0)  # trials, successes, sent, opened, converted
WAITING_TRIAL = (1, 0, 0, 0, 0)  # the trial it will be, taken back if it ends in another way
CASES = [
    # state, reason, opened, converted -> what it counts
    (State.SCHEDULED, None, False, False, WAITING_TRIAL),
    (State.SCHEDULED, None, False, True, WAITING_TRIAL),  # converted while claimed, not taken
    (State.CLAIMED, None, False, False, WAITING_TRIAL),
    (State.CLAIMED, None, True, True, WAITING_TRIAL),
    (State.SENT, None, False, False, (1, 0, 1, 0, 0)),
    (State.SENT, None, True, False, (1, 0, 1, 1, 0)),
    (State.SENT, None, False, True, (1, 1, 1, 0, 1)),
    (State.SENT, None, True, True, (1, 1, 1, 1, 1)),
    (State.HELD_OUT, None, False, False, (1, 0, 0, 0, 0)),
    (State.HELD_OUT, None, False, True, (1, 1, 0, 0, 1)),
    (State.CANCELLED, Reason.CONVERTED, False, True, (1, 1, 0, 0, 0)),
    (State.CANCELLED, Reason.CONVERTED, False, False, NOTHING),  # before the trigger
    *(
        (State.CANCELLED, reason, False, False, NOTHING)
        for reason in Reason
        if reason is not Reason.CONVERTED
    ),
    *(
        (state, reason, opened, converted, NOTHING)
        for (state, reason), opened, converted in product(
            [
                (State.FAILED, "http_400"),
                (State.UNKNOWN, "timed_out"),
                (State.EXPIRED, Reason.EXPIRED),
                (State.CANCELLED, Reason.OPTED_OUT),
                (State.CANCELLED, Reason.ERASED),
            ],
            (False, True),
            (False, True),
        )
    ),
]


def told(state: State, reason: str | None, opened: int, converted: int) -> Experiment:
    return an_experiment(
        state,
        reason=reason,
        opened_at=NOW if opened else None,
        converted_at=NOW if converted else None,
    )


@pytest.mark.parametrize(("state", "reason", "opened", "converted", "counts"), CASES)
def test_what_counts(
    *, state: State, reason: str | None, opened: bool, converted: bool, counts: tuple[int, ...]
) -> None:
    """A trial is what was sent, held out, stopped by its own conversion, or still waits."""
    assert astuple(contribution(told(state, reason, opened, converted))) == (*counts, 0)


STATES = st.sampled_from(State)
ANY = st.builds(
    told,
    STATES,
    st.sampled_from([None, "http_400", *Reason]),
    st.booleans(),
    st.booleans(),
)


@given(experiment=ANY)
def test_counts_make_sense(experiment: Experiment) -> None:
    """No success without a trial, no open or conversion without a message or the holdout."""
    counts = contribution(experiment)

    assert 0 <= counts.successes <= counts.trials <= 1
    assert counts.opened <= counts.sent <= counts.trials
    assert counts.converted <= counts.successes
    assert counts.sent == (experiment.state is State.SENT)


@pytest.mark.parametrize(
    ("held_out", "postponed", "group"),
    [
        (False, False, Group.COMBO),
        (False, True, Group.POSTPONED),
        (True, False, Group.HOLDOUT),
        (True, True, Group.HOLDOUT),
    ],
)
def test_whose_counts(*, held_out: bool, postponed: bool, group: Group) -> None:
    """Postponed messages count in no combo's rate, the holdout by itself (R8, R3)."""
    assert group_of(an_experiment(held_out=held_out, postponed=postponed)) is group


EDITS = st.lists(
    st.tuples(st.sampled_from(["open", "convert", "postpone", *State]), st.integers(0, 3 * DAY)),
    max_size=12,
)


@given(edits=EDITS, held_out=st.booleans())
def test_counters_follow_every_change(*, edits: list[tuple[str, int]], held_out: bool) -> None:
    """After any changes the counters are what the experiment counts for as it stands."""
    experiment, changes = an_experiment(held_out=held_out), Changes()
    sums = {group: Counts() for group in Group}
    sums[group_of(experiment)] = contribution(experiment)

    for what, after in edits:
        at = Instant(NOW + after)
        changes.change(experiment, lambda e, what=what, at=at: _edit(e, what, at))  # type: ignore[misc]

    for (*_, group), counts in changes.counts.items():
        sums[group] += counts
    assert sums.pop(group_of(experiment)) == contribution(experiment)
    assert set(sums.values()) == {Counts()}


def _edit(experiment: Experiment, what: str, at: Instant) -> None:
    if what == "open":
        experiment.opened_at = at
    elif what == "convert":
        experiment.converted_at, experiment.value = at, 1_000
    elif what == "postpone":
        experiment.postponed = True
    elif State(what) in MOVES[experiment.state]:
        experiment.move(State(what), Reason.CONVERTED)


COUNTS = st.builds(Counts, *[st.integers(-5, 5)] * 6)


@given(one=COUNTS, two=COUNTS, three=COUNTS)
def test_counts_add(one: Counts, two: Counts, three: Counts) -> None:
    """Sums do not depend on order or grouping, and a difference takes back what was added."""
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert (one + two) - two == one
    assert one - one == Counts()


# States

ENDS = frozenset(State) - WAITING - {State.UNKNOWN}


@given(moves=st.lists(STATES, max_size=12))
def test_no_moves_leave_an_end(moves: list[State]) -> None:
    """Whatever is tried, a delivery that has ended stays as it is."""
    experiment = an_experiment()
    for state in moves:
        before = experiment.state
        if state in MOVES[before]:
            experiment.move(state)
            assert before not in ENDS
        else:
            with pytest.raises(AssertionError, match="cannot move"):
                experiment.move(state)
            assert experiment.state is before


def test_what_may_follow_what() -> None:
    """An unknown is settled by proof only; a claim ends in a state of its own or waits again."""
    assert MOVES[State.UNKNOWN] == {State.SENT, State.FAILED}
    assert MOVES[State.CLAIMED] == {State.SENT, State.FAILED, State.UNKNOWN, State.SCHEDULED}
    assert all(not MOVES[state] for state in ENDS)
    assert set(MOVES) == set(State)


@pytest.mark.parametrize(
    ("after", "holds"), [(-1, False), (0, True), (3 * DAY, True), (3 * DAY + 1, False)]
)
def test_the_window_runs_from_the_trigger(*, after: int, holds: bool) -> None:
    """A conversion at the trigger's own time counts, and until the window's last millisecond."""
    assert an_experiment().window_holds(Instant(NOW + after)) is holds
