"""What becomes of a message, whatever the provider does: sent at most once, never stuck."""

import pytest
from tests.support.clevertap_double import BEHAVIOURS, CleverTapDouble, double_sends
from tests.support.configuration import COHORT, cohort
from tests.support.start import Start

SLOW = {"hang", "processed_then_timeout", "drip", "huge_body", "gzip_bomb", "refuse"}
QUICK = [name for name in BEHAVIOURS if name not in SLOW | {"accept_close"}]
TERMINAL = {"sent", "failed", "unknown", "expired"}


def test_every_fault_ends_in_one_state(start: Start, double: CleverTapDouble) -> None:
    """Met with any fault first, a message ends in one state and never goes out twice."""
    engine = start(to=double)
    ids = {}
    for name in QUICK:  # one at a time: the breaker would keep some from meeting their fault
        ids[name] = engine.scheduled(f"met_with_{name}")
        double.configure(user_behaviours={f"met_with_{name}": name})
        engine.deliver(after="2min")
    double.configure(user_behaviours={})
    for _ in range(12):
        engine.deliver(after="3min")

    states = {name: engine.state(experiment_id)[0] for name, experiment_id in ids.items()}
    assert {name: state for name, state in states.items() if state not in TERMINAL} == {}
    assert double_sends(double.ledger()) == {}
    for name, state in states.items():
        reached = f"met_with_{name}" in {user for call in double.ledger() for user in call.users}
        assert reached or state != "sent", name
        if state == "failed":
            assert not reached, name
        if name.startswith("processed_then"):
            assert state == "unknown", name


@pytest.mark.parametrize("behaviour", ["429", "429_seconds", "401", "refuse"])
def test_what_was_provably_not_taken_is_tried_again(
    start: Start, double: CleverTapDouble, behaviour: str
) -> None:
    """Too many requests, wrong credentials or no connection: later the message goes out."""
    double.behaviour = behaviour
    engine = start(to=double)
    experiment_id = engine.scheduled("usr_1")
    engine.deliver(after="2min")
    assert engine.state(experiment_id)[0] == "scheduled"

    double.behaviour = "ok"
    engine.deliver(after="1min")
    assert engine.state(experiment_id) == ("sent", None)
    assert double_sends(double.ledger()) == {}


@pytest.mark.parametrize(
    "behaviour", ["500", "processed_then_503", "html_200", "processed_then_cut"]
)
def test_what_is_uncertain_is_never_repeated(
    start: Start, double: CleverTapDouble, behaviour: str
) -> None:
    """Where the provider may have taken it, the message is shown as unknown and stays so."""
    double.configure(script=[behaviour])
    engine = start(to=double)
    experiment_id = engine.scheduled("usr_1")
    for _ in range(5):
        engine.deliver(after="2min")
    assert engine.state(experiment_id)[0] == "unknown"
    assert len(double.calls()) == 1


@pytest.mark.parametrize("behaviour", ["400", "404", "fail_200"])
def test_a_definite_refusal_fails(start: Start, double: CleverTapDouble, behaviour: str) -> None:
    """A refusal, also one that comes with status 200, fails the message for good."""
    double.configure(script=[behaviour])
    engine = start(to=double)
    experiment_id = engine.scheduled("usr_1")
    for _ in range(3):
        engine.deliver(after="2min")
    assert engine.state(experiment_id)[0] == "failed"
    assert len(double.calls()) == 1


@pytest.mark.parametrize("behaviour", ["redirect_302", "redirect_307"])
def test_redirects_are_not_followed(start: Start, double: CleverTapDouble, behaviour: str) -> None:
    """Where a redirect points, nobody is called."""
    double.behaviour = behaviour
    engine = start(to=double)
    engine.scheduled("usr_1")
    engine.deliver(after="2min")
    assert double.stats().redirect_hits == 0
    assert len(double.calls()) == 1


def test_no_more_than_three_calls_at_once(start: Start, double: CleverTapDouble) -> None:
    """By default three calls of an API are in flight, and connections are used again."""
    double.configure(latency_ms=20)
    engine = start(to=double)
    for number in range(30):
        engine.scheduled(f"usr_{number}")
    engine.deliver(after="2min")
    stats = double.stats()
    assert stats.over_limit == 0
    assert max(stats.max_in_flight.values()) == 3
    assert len(double.ledger()) == 30
    assert stats.connections <= 4


def test_the_send_rate(start: Start, double: CleverTapDouble) -> None:
    """No more messages go out in a second than `[send_rate]` says."""
    engine = start(to=double, send_rate={"per_second": 5})
    for number in range(20):
        engine.scheduled(f"usr_{number}")
    engine.clock.advance("2min")
    counts = []
    for _ in range(6):
        before = len(double.ledger())
        engine.deliver(after="1s")
        counts.append(len(double.ledger()) - before)
    assert max(counts) <= 5
    assert sum(counts) == 20


def test_an_offers_budget(start: Start, double: CleverTapDouble) -> None:
    """No more messages carry an offer on one day than its budget says; the next day it is new."""
    engine = start(
        to=double,
        cohorts={COHORT: cohort(offer=["gift"])},
        offers={"gift": {"per_day": 2}},
    )
    for number in range(4):
        engine.scheduled(f"usr_{number}")
    engine.deliver(after="2min")
    assert len(double.ledger()) == 2
    assert engine.event("usr_5")["status"] == "ignored"

    engine.clock.advance("24h")
    engine.sent("usr_6")


def test_a_refused_message_uses_up_no_budget(start: Start, double: CleverTapDouble) -> None:
    """An offer that the provider did not take is still there for somebody else."""
    double.configure(script=["400"])
    engine = start(
        to=double,
        cohorts={COHORT: cohort(offer=["gift"])},
        offers={"gift": {"per_day": 1}},
    )
    engine.scheduled("usr_1")
    engine.deliver(after="2min")
    engine.sent("usr_2")
