"""R9 and R10: a channel that fails, and calls for many users."""

from collections.abc import Iterable

import pytest
from tests.support.clevertap_double import ACCOUNT_ID, PASSCODE, CleverTapDouble, double_sends
from tests.support.configuration import COHORT, cohort
from tests.support.engine import RunningEngine
from tests.support.events import amplitude_event, somebody
from tests.support.start import Start

from experiment_engine.adapters.clevertap.sender import Account, CleverTapSender, open_client

PUSH_ONLY = {COHORT: cohort()}
BOTH = {COHORT: cohort(channel=["push", "whatsapp"])}
CAMPAIGN = {"whatsapp": {"campaigns": {"*|*|*": "1700000000"}}}
TOGETHER = {"push": {"batch": 1000}}


def schedule(engine: RunningEngine, users: Iterable[str]) -> dict[str, str]:
    """Have experiments started for users in one batch; return their ids by user."""
    named = list(users)
    results = engine.events(*(amplitude_event(user, engine.clock.iso()) for user in named))
    return dict(zip(named, (result["experiment_id"] for result in results), strict=True))


def states(engine: RunningEngine, ids: dict[str, str]) -> dict[str, str]:
    return {user: engine.state(experiment_id)[0] for user, experiment_id in ids.items()}


def fail(engine: RunningEngine, double: CleverTapDouble, times: int) -> None:
    """Have the provider definitely refuse so many pushes in a row."""
    double.behaviour = "400"
    ids = schedule(engine, [somebody() for _ in range(times)])
    engine.deliver(after="2min")
    assert set(states(engine, ids).values()) == {"failed"}


def test_r9_twenty_refusals(start: Start, double: CleverTapDouble) -> None:
    """After 20 definite failures in a row the channel is not eligible; 19 are not enough."""
    engine = start(to=double)
    fail(engine, double, 19)
    assert engine.event(somebody())["status"] == "scheduled"
    engine.deliver(after="2min")
    result = engine.event(somebody())
    assert (result["status"], result["reason"]) == ("ignored", "channel_failing")
    assert engine.get("/ready")["provider"]["channels"]["push"]["failing"] is True


def test_r9_in_a_row(start: Start, double: CleverTapDouble) -> None:
    """One accepted message in between starts the count anew."""
    engine = start(to=double)
    fail(engine, double, 19)
    double.behaviour = "ok"
    engine.sent(somebody())
    fail(engine, double, 19)
    assert engine.event(somebody())["status"] == "scheduled"


def test_r9_other_channels_go_on(start: Start, double: CleverTapDouble) -> None:
    """While push fails, WhatsApp is drawn, and the reason stands beside."""
    engine = start(to=double)
    fail(engine, double, 20)
    engine = start(to=double, cohorts=BOTH, channels=CAMPAIGN)
    shown = engine.experiment(engine.scheduled(somebody()))
    assert set(shown["decision"]["eligible"]) == {"2min|whatsapp|helpful|none"}
    assert shown["decision"]["not_eligible"] == {"channel_failing": ["2min|push|helpful|none"]}


def test_r9_until_a_probe_succeeds(start: Start, double: CleverTapDouble) -> None:
    """However much time passes, at most a probe goes out while the provider still refuses."""
    engine = start(to=double)
    fail(engine, double, 20)
    for _ in range(6):
        engine.clock.advance("10min")
        assert engine.get("/ready")["provider"]["channels"]["push"]["failing"] is True
        answers = [engine.event(somebody()) for _ in range(5)]
        assert sum(answer["status"] == "scheduled" for answer in answers) <= 1
        assert {answer.get("reason") for answer in answers} <= {None, "channel_failing"}
        engine.deliver(after="2min")


def test_r9_recovers_by_itself(start: Start, double: CleverTapDouble) -> None:
    """When the provider takes the probe, the channel is back without hands."""
    engine = start(to=double)
    fail(engine, double, 20)
    double.behaviour = "ok"
    for _ in range(6):
        engine.clock.advance("10min")
        engine.event(somebody())
        engine.deliver(after="2min")
    assert [engine.event(somebody())["status"] for _ in range(5)] == ["scheduled"] * 5
    assert engine.get("/ready")["provider"]["channels"]["push"]["failing"] is False


# R10


def test_r10_equal_messages_share_a_call(start: Start, double: CleverTapDouble) -> None:
    """Messages that are due together with identical content go out in one call."""
    engine = start(to=double, channels=TOGETHER)
    ids = schedule(engine, [somebody() for _ in range(50)])
    engine.deliver(after="2min")
    (call,) = double.ledger()
    assert sorted(call.users) == sorted(ids)
    assert call.experiment_ids == ()
    assert set(states(engine, ids).values()) == {"sent"}


def test_r10_different_messages_do_not(start: Start, double: CleverTapDouble) -> None:
    """Any field that differs makes another call."""
    engine = start(
        to=double,
        channels=TOGETHER,
        copy={"push": {"helpful": {"*": {"title": "Back?", "body": "{show} waits"}}}},
        placeholders={"show": {"from": "event_properties.show", "default": "it"}},
    )
    for show in ("Mahabharat", "Ramayan", "Mahabharat"):
        engine.scheduled(somebody(), event_properties={"show": show})
    engine.deliver(after="2min")
    assert sorted(len(call.users) for call in double.ledger()) == [1, 2]


def test_r10_never_two_messages_of_one_user_in_a_call(
    start: Start, double: CleverTapDouble
) -> None:
    """Two cohorts that write the same words to a user do so in two calls."""
    other = cohort(trigger={"event": "payment_failed"})
    engine = start(to=double, channels=TOGETHER, cohorts={**PUSH_ONLY, "payment_failed": other})
    engine.scheduled("usr_1")
    engine.scheduled("usr_1", name="payment_failed")
    engine.scheduled("usr_2")
    engine.deliver(after="2min")
    calls = double.ledger()
    assert all(len(set(call.users)) == len(call.users) for call in calls)
    assert sorted(user for call in calls for user in call.users) == ["usr_1", "usr_1", "usr_2"]


def test_r10_found_again_by_user(start: Start, double: CleverTapDouble) -> None:
    """Feedback about a shared call finds the experiment by its user."""
    engine = start(to=double, channels=TOGETHER)
    ids = schedule(engine, ["usr_1", "usr_2"])
    engine.deliver(after="2min")
    result = engine.opened(user_id="usr_2")
    assert (result["status"], result["experiment_id"]) == ("recorded", ids["usr_2"])


def test_r10_the_unprocessed_have_their_own_outcome(start: Start, double: CleverTapDouble) -> None:
    """Users that the provider names as not taken fail; the rest of the call is sent."""
    engine = start(to=double, channels=TOGETHER)
    ids = schedule(engine, [f"usr_{number}" for number in range(10)])
    double.configure(unprocessed_users=["usr_3", "usr_7"])
    engine.deliver(after="2min")
    found = states(engine, ids)
    assert {user for user, state in found.items() if state == "sent"} == set(ids) - {
        "usr_3",
        "usr_7",
    }
    assert not {found["usr_3"], found["usr_7"]} & {"sent", "unknown"}


@pytest.mark.parametrize("poison", [["usr_0"], ["usr_13"], ["usr_5", "usr_6", "usr_29"]])
def test_r10_a_refused_call_is_halved(
    start: Start, double: CleverTapDouble, poison: list[str]
) -> None:
    """A whole call's refusal is tried again in halves, down to whom it was about."""
    engine = start(to=double, channels=TOGETHER)
    ids = schedule(engine, [f"usr_{number}" for number in range(30)])
    double.configure(poison_users=poison)
    engine.deliver(after="2min")
    found = states(engine, ids)
    assert {user for user, state in found.items() if state == "failed"} == set(poison)
    assert {state for user, state in found.items() if user not in poison} == {"sent"}
    assert double_sends(double.ledger()) == {}


@pytest.mark.parametrize("behaviour", ["hang", "processed_then_timeout"])
def test_r10_a_time_out_makes_the_whole_call_unknown(
    start: Start, double: CleverTapDouble, behaviour: str
) -> None:
    """Nobody of the call is written to again, whether the provider took it or not."""
    sender = CleverTapSender(
        open_client(double.base_url), Account(ACCOUNT_ID, PASSCODE), time_limit=0.2
    )
    engine = start(to=double, sender=sender, channels=TOGETHER)
    ids = schedule(engine, [f"usr_{number}" for number in range(20)])
    double.configure(script=[behaviour])
    for _ in range(4):
        engine.deliver(after="2min")
    assert set(states(engine, ids).values()) == {"unknown"}
    assert len(double.calls()) == 1
