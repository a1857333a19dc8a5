"""The claim is the check: what may go out, and what becomes of the rest (CONTRACT R3-R12)."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import time
from typing import Any

import pytest
from tests.support.builders import (
    CHECKOUT,
    NOW,
    PAYMENT,
    PUSH,
    SALT,
    USER,
    WHATSAPP,
    World,
    a_catalogue,
    a_cohort,
    a_world,
    happened,
    requested,
    said_no,
    some_rules,
)
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.application.changes import ALL_DAYS
from experiment_engine.application.deliver import LEASE
from experiment_engine.domain.cohorts.holdout import is_held_out
from experiment_engine.domain.delivery.copy import Placeholder
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.delivery.limits import FrequencyCap, OfferBudget
from experiment_engine.domain.delivery.message import Call, Verdict
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.identifiers import ExperimentId, UserId
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import ChannelRules, Rules

ONE = a_cohort(delays=("2min",), angles=("urgency",))
OTHER = a_cohort(PAYMENT, event="payment_failed", delays=("2min",), angles=("urgency",))
HELD_OUT = next(u for u in (UserId(f"usr_{n}") for n in range(999)) if is_held_out(u, SALT, 0.05))
WEEK = Duration(7 * DAY)


@pytest.fixture
def world() -> Iterator[World]:
    """Return two cohorts whose only message goes out after two minutes."""
    with a_world(some_rules(ONE, OTHER)) as opened:
        yield opened


def batched(batch: int, **changes: object) -> ChannelRules:
    return replace(some_rules().channels[PUSH], batch=batch, **changes)  # type: ignore[arg-type]


def users_of(calls: list[Call]) -> list[list[str]]:
    return sorted(sorted(call.recipients) for call in calls)


# When


def test_not_before_its_time(world: World) -> None:
    """A message is claimed when its time has come, and not a millisecond before."""
    world.one(happened(at=NOW))

    world.clock.advance("119.999s")
    assert not world.claim().calls
    world.clock.advance("0.001s")
    assert len(world.claim().calls) == 1


def test_what_a_claim_writes(world: World) -> None:
    """A claimed message has its call, its place in the caps, a lease and a try, durably."""
    made = world.one(happened()).experiment_id
    world.clock.advance("2min")

    (call,) = world.claim().calls

    row = world.experiment()
    assert call.recipients == {USER: made}
    assert (row["state"], row["attempts"], row["call_id"]) == ("claimed", 1, call.id)
    assert (row["placed_at"], row["lease_until"]) == (world.now, world.now + LEASE)
    assert [(a["call_id"], a["number"], a["started_at"]) for a in world.rows(tables.attempt)] == [
        (call.id, 1, world.now)
    ]


def test_what_the_call_says(world: World) -> None:
    """The call carries the text, the link and the campaign that belong to the message."""
    rules = some_rules(
        a_cohort(delays=("2min",), angles=("urgency",), channels=("whatsapp",)),
        channels={
            WHATSAPP: ChannelRules(deep_link="app://x", campaigns={("en", "*", "*"): "170"})
        },
    )
    with a_world(rules) as other:
        other.one(happened())
        other.clock.advance("2min")
        (call,) = other.claim().calls

        content = call.content
        assert (content.channel, content.title) == (WHATSAPP, "Hello")
        assert content.body == "Come back (whatsapp, urgency, none)"
        assert (content.deep_link, content.campaign_id) == ("app://x", "170")
        assert call.carries_ids


def test_nobody_claims_twice(world: World) -> None:
    """What one claim took, no other takes."""
    world.take(*(happened(user=f"u{number}") for number in range(5)))
    world.clock.advance("2min")

    first, second = world.claim(), world.claim()

    assert len(first.calls) == 5
    assert not second.calls


def test_the_longest_waiting_first(world: World) -> None:
    """With fewer free calls than messages, those that wait longest go first, the others later."""
    for number in range(4):
        world.one(happened(user=f"u{number}", at=NOW - number * 10_000))
    world.clock.advance("2min")

    batches = [users_of(list(world.claim(2).calls)) for _ in range(3)]

    assert batches == [[["u2"], ["u3"]], [["u0"], ["u1"]], []]


def test_no_free_call(world: World) -> None:
    """Without a free call nothing is claimed, and what waits too long still expires (R7)."""
    world.one(happened())
    world.clock.advance("2min")
    assert not world.claim(0).experiments
    assert world.states() == [("scheduled", None)]

    world.clock.advance("30min")
    assert not world.claim(0).experiments
    world.clock.advance("0.001s")
    world.claim(0)
    assert world.states() == [("expired", "expired")]


def test_an_allowance(world: World) -> None:
    """No more messages are claimed than the send rate allows."""
    world.take(*(happened(user=f"u{number}") for number in range(5)))
    world.clock.advance("2min")

    assert len(world.claim(1_000, allowance=2).calls) == 2
    assert not world.claim(1_000, allowance=0).calls
    assert len(world.claim(1_000).calls) == 3


def test_channels_have_calls_of_their_own() -> None:
    """Free calls of one channel are no calls of another."""
    rules = some_rules(
        a_cohort(delays=("2min",), angles=("urgency",)),
        a_cohort(PAYMENT, event="failed", delays=("2min",), channels=("whatsapp",)),
    )
    with a_world(rules) as world:
        for number in range(3):
            world.take(happened(user=f"u{number}"), happened("failed", user=f"v{number}"))
        world.clock.advance("2min")

        calls = world.claim({PUSH: 1, WHATSAPP: 2}).calls

        assert sorted(call.content.channel for call in calls) == ["push", "whatsapp", "whatsapp"]


def test_expired(world: World) -> None:
    """A message goes out until `expires_after` its time, and never after (R7)."""
    world.one(happened())
    world.one(happened(user="late"))
    world.clock.advance("32min")
    assert len(world.claim(1).calls) == 1
    world.clock.advance("0.001s")

    assert not world.claim().calls
    assert sorted(world.states(), key=str) == [("claimed", None), ("expired", "expired")]
    assert world.counts() == {"combo": (1, 0, 0, 0, 0)}  # of the claimed one


# Whether


def due(world: World, *, user: str = USER) -> ExperimentId:
    """Schedule a message and let its time come."""
    result = world.one(happened(user=user))
    assert result.experiment_id is not None
    world.clock.advance("2min")
    return result.experiment_id


def test_opted_out_while_it_was_tried(world: World) -> None:
    """A no during a call that was not taken stops the next try (R7, R12)."""
    due(world)
    (call,) = world.claim().calls
    world.one(said_no())
    world.record((call, an_answer(Verdict.NOT_TAKEN)))
    world.clock.advance("1min")

    assert not world.claim().calls
    assert world.states() == [("cancelled", "opted_out")]


def test_consent_that_is_required_since(world: World) -> None:
    """The claim asks for consent by the rules of now, not of the decision."""
    due(world)
    world.restart(replace(world.rules, channels={PUSH: ChannelRules(consent="required")}))

    assert not world.claim().calls
    assert world.states() == [("cancelled", "no_consent")]


@pytest.mark.parametrize("scope", [None, CHECKOUT])
def test_paused_waits_and_expires(*, world: World, scope: str | None) -> None:
    """While paused nothing is claimed; what waits keeps waiting, and expires as usual (R7)."""
    due(world)
    world.pause(scope)
    assert not world.claim().calls
    assert world.states() == [("scheduled", None)]

    world.pause(scope, paused=False)
    assert len(world.claim().calls) == 1


def test_paused_too_long(world: World) -> None:
    """What waits through a pause longer than its time is expired while still paused (R7)."""
    due(world)
    world.pause()
    world.clock.advance("31min")
    world.claim()

    assert world.states() == [("expired", "expired")]


def test_a_pause_of_one_cohort_leaves_the_others(world: World) -> None:
    """Only the paused cohort's messages wait."""
    world.take(happened(), happened("payment_failed", user="other"))
    world.pause(CHECKOUT)
    world.clock.advance("2min")

    assert users_of(list(world.claim().calls)) == [["other"]]


def test_a_long_paused_queue_does_not_hold_up_others(world: World) -> None:
    """However many messages of a paused cohort wait, those of another cohort go out (R7)."""
    world.take(*(happened(user=f"u{number}") for number in range(450)))
    world.clock.advance("1s")
    world.one(happened("payment_failed", user="other"))
    world.pause(CHECKOUT)
    world.clock.advance("2min")

    assert users_of(list(world.claim(3).calls)) == [["other"]]


def test_combo_removed(world: World) -> None:
    """A message whose combo has left the configuration is not sent (R15)."""
    due(world)
    world.restart(some_rules(a_cohort(delays=("2min",), angles=("scarcity",))))

    assert not world.claim().calls
    assert world.states() == [("cancelled", "combo_removed")]


def test_cohort_removed(world: World) -> None:
    """A message whose cohort has left the configuration is not sent (R15)."""
    due(world)
    world.restart(some_rules(OTHER))

    assert not world.claim().calls
    assert world.states() == [("cancelled", "combo_removed")]


def test_mode_changed() -> None:
    """What was scheduled in dry run is never sent live (R11)."""
    rules = some_rules(ONE)
    with a_world(rules, Mode.DRY_RUN) as world:
        due(world)
        world.restart(rules, Mode.LIVE)

        assert not world.claim().calls
        assert world.states() == [("cancelled", "mode_changed")]


# Which check comes first

OFFERED = a_cohort(delays=("2min",), angles=("urgency",), offers=("rupee_1",))
CHECKS = ("combo_removed", "no_consent", "expired", "paused", "quiet", "cap", "budget")
OUTCOMES: dict[str, tuple[str, str | None]] = {
    "combo_removed": ("cancelled", "combo_removed"),
    "no_consent": ("cancelled", "no_consent"),
    "expired": ("expired", "expired"),
    "paused": ("scheduled", None),
    "quiet": ("scheduled", "quiet_hours"),
    "cap": ("cancelled", "frequency_cap"),
    "budget": ("cancelled", "offer_budget"),
    "nothing": ("claimed", None),
}


@pytest.mark.parametrize("first", [*CHECKS, "nothing"])
def test_the_order_of_checks(first: str) -> None:
    """Of all that stands against a message, what is final goes before what only waits."""
    against = [*CHECKS, "nothing"]
    against = against[against.index(first) :]
    with a_world(some_rules(OFFERED, OTHER)) as world:
        world.one(happened("payment_failed"))
        world.clock.advance("2min")
        world.deliver()  # takes a place in the caps
        world.one(happened())
        world.clock.advance("33min" if "expired" in against else "2min")
        changes: dict[str, Any] = {}
        if "combo_removed" in against:
            changes["cohorts"] = {CHECKOUT: a_cohort(), PAYMENT: OTHER}
        if "no_consent" in against:
            changes["channels"] = {PUSH: ChannelRules(consent="required")}
        if "quiet" in against:
            changes["quiet_hours"] = QuietHours(time(10), time(20))
        if "cap" in against:
            changes["frequency_cap"] = FrequencyCap(1, WEEK)
        if "budget" in against:
            changes["offers"] = {"rupee_1": OfferBudget(0)}
        world.restart(replace(world.rules, **changes))
        if "paused" in against:
            world.pause()

        world.claim()

        assert world.states()[1] == OUTCOMES[first]


# Caps


def two_due(rules: Rules, user: str = USER) -> Iterator[World]:
    with a_world(rules) as world:
        world.take(happened(user=user), happened("payment_failed", user=user))
        world.clock.advance("2min")
        yield world


@pytest.mark.parametrize(
    "cap", [FrequencyCap(1, WEEK), FrequencyCap(9, WEEK, min_gap=HOUR)], ids=["messages", "gap"]
)
@pytest.mark.parametrize("own", [True, False])
def test_a_cap_inside_one_claim(*, cap: FrequencyCap, own: bool) -> None:
    """Two messages of one user that are due together: the cap lets one of them go."""
    rules = some_rules(ONE, OTHER)
    rules = (
        replace(rules, channels={PUSH: batched(1, frequency_cap=cap)})
        if own
        else replace(rules, frequency_cap=cap)
    )
    for world in two_due(rules):
        assert len(world.claim().calls) == 1
        assert sorted(world.states(), key=str) == [
            ("cancelled", "frequency_cap"),
            ("claimed", None),
        ]


def test_a_cap_over_claims() -> None:
    """A message that is under way, or whose fate is unknown, keeps its place in the caps."""
    rules = some_rules(ONE, OTHER, frequency_cap=FrequencyCap(1, WEEK))
    with a_world(rules) as world:
        world.one(happened())
        world.clock.advance("1min")
        world.one(happened("payment_failed"))
        world.clock.advance("1min")
        (call,) = world.claim().calls
        world.record((call, an_answer(Verdict.UNCERTAIN)))
        world.clock.advance("1min")

        assert not world.claim().calls
        assert world.states() == [("unknown", "uncertain"), ("cancelled", "frequency_cap")]


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.NOT_TAKEN])
def test_what_was_not_taken_gives_its_place_back(verdict: Verdict) -> None:
    """A message that provably did not go out does not count in the caps."""
    rules = some_rules(ONE, OTHER, frequency_cap=FrequencyCap(1, WEEK))
    with a_world(rules) as world:
        world.one(happened())
        world.clock.advance("1min")
        world.one(happened("payment_failed"))
        world.clock.advance("1min")
        (call,) = world.claim().calls
        world.record((call, an_answer(verdict, retry_after=HOUR)))
        world.clock.advance("1min")

        assert len(world.claim().calls) == 1


def test_a_channel_s_own_cap_counts_its_own_messages() -> None:
    """A cap of one channel is not used up by messages on another."""
    rules = some_rules(
        ONE,
        a_cohort(PAYMENT, event="payment_failed", delays=("2min",), channels=("whatsapp",)),
    )
    channels = {
        channel: replace(own, frequency_cap=FrequencyCap(1, WEEK))
        for channel, own in rules.channels.items()
    }
    for world in two_due(replace(rules, channels=channels)):
        assert len(world.claim().calls) == 2


# Budgets


def offering(budget: int, **changes: object) -> Rules:
    cohort = a_cohort(delays=("2min",), angles=("urgency",), offers=("rupee_1",))
    return some_rules(cohort, offers={"rupee_1": OfferBudget(budget)}, **changes)


def used(world: World) -> list[int]:
    """Return what each day's messages used of the budget; the sum over all days agrees."""
    rows = world.rows(tables.offer_use)
    days = [row["used"] for row in rows if row["day"] != ALL_DAYS]
    assert sum(days) == sum(row["used"] for row in rows if row["day"] == ALL_DAYS)
    return days


def test_a_budget_inside_one_claim() -> None:
    """No more messages with an offer go out than its budget of the day, also in one claim."""
    with a_world(offering(2)) as world:
        world.take(*(happened(user=f"u{number}") for number in range(4)))
        world.clock.advance("2min")

        assert len(world.claim().calls) == 2
        assert world.states().count(("cancelled", "offer_budget")) == 2
        assert used(world) == [2]


@pytest.mark.parametrize(
    ("verdict", "left"),
    [
        (Verdict.ACCEPTED, 1),
        (Verdict.UNCERTAIN, 1),
        (Verdict.REFUSED, 0),
        (Verdict.NOT_TAKEN, 0),
    ],
)
def test_what_did_not_go_out_gives_its_budget_back(*, verdict: Verdict, left: int) -> None:
    """A budget counts what went out or may have, and nothing else."""
    with a_world(offering(5)) as world:
        world.one(happened())
        world.clock.advance("2min")
        world.deliver(an_answer(verdict))

        assert used(world) == [left]


def test_a_budget_s_day_is_the_configured_zone_s() -> None:
    """The budget is renewed at midnight in the engine's zone."""
    with a_world(offering(1, timezone="Asia/Kolkata")) as world:  # 15:30 there
        for user, span in (("a", "2min"), ("b", "8h"), ("c", "31min")):
            world.one(happened(user=user, at=world.now - 2 * MINUTE))
            world.deliver()
            world.clock.advance(span)
        world.one(happened(user="d", at=world.now - 2 * MINUTE))
        world.deliver()

        outcomes = {row["user_id"]: row["state"] for row in world.experiments()}
        assert outcomes == {"a": "sent", "d": "sent"}
        assert [row["reason"] for row in world.rows(tables.event)] == [
            None,
            "offer_budget",
            "offer_budget",
            None,
        ]


# Quiet hours


def test_postponed_at_the_claim(world: World) -> None:
    """What has come to lie in quiet hours is postponed to after them, and counts apart (R8)."""
    due(world)
    night = QuietHours(time(10), time(20))
    world.restart(replace(world.rules, quiet_hours=night))

    assert not world.claim().calls
    row = world.experiment()
    assert (row["state"], row["postponed"]) == ("scheduled", True)
    assert NOW + 10 * HOUR <= row["due_at"] < NOW + 10.5 * HOUR
    assert row["expires_at"] == row["due_at"] + 30 * MINUTE
    assert not world.claim().experiments

    world.clock.advance("628min")
    world.deliver()
    assert world.states() == [("sent", None)]
    assert world.counts() == {"postponed": (1, 0, 1, 0, 0)}


def test_a_retry_that_falls_into_quiet_hours(world: World) -> None:
    """A retry passes the whole claim again: in quiet hours it is postponed (R7, R8)."""
    due(world)
    (call,) = world.claim().calls
    world.restart(replace(world.rules, quiet_hours=QuietHours(time(10, 3), time(20))))
    world.record((call, an_answer(Verdict.NOT_TAKEN)))
    world.clock.advance("2min")

    assert not world.claim().calls
    assert world.experiment()["postponed"] is True


def test_quiet_hours_of_the_user_s_zone(world: World) -> None:
    """The claim looks at the clock of the user, not of the engine."""
    world.take(
        happened(user="kolkata", properties={"timezone": "Asia/Kolkata"}),
        happened(user="la", properties={"timezone": "America/Los_Angeles"}),
    )
    world.clock.advance("2min")
    world.restart(replace(world.rules, quiet_hours=QuietHours(time(23), time(8))))

    assert users_of(list(world.claim().calls)) == [["kolkata"]]


# The holdout


def shadow(**changes: object) -> Rules:
    return some_rules(ONE, OTHER, holdout_share=0.05, **changes)


def test_held_out_instead_of_called() -> None:
    """A held-out user's message comes to its time and is not sent; it takes its place (R3)."""
    with a_world(shadow()) as world:
        due(world, user=HELD_OUT)

        claimed = world.claim(0)  # needs no free call

        assert not claimed.calls
        assert world.states() == [("held_out", None)]
        assert world.experiment()["placed_at"] == world.now
        assert not world.rows(tables.attempt)
        assert world.counts() == {"holdout": (1, 0, 0, 0, 0)}


def test_a_shadow_is_checked_like_any_other() -> None:
    """Whatever stops a message stops a held-out one, with the same reason (R3)."""
    for world in two_due(shadow(frequency_cap=FrequencyCap(1, WEEK)), HELD_OUT):
        world.claim()
        assert sorted(world.states(), key=str) == [
            ("cancelled", "frequency_cap"),
            ("held_out", None),
        ]
    with a_world(shadow()) as world:
        due(world, user=HELD_OUT)
        world.pause()
        world.claim()
        assert world.states() == [("scheduled", None)]
        world.clock.advance("31min")
        world.claim()
        assert world.states() == [("expired", "expired")]
    with a_world(shadow()) as world:
        due(world, user=HELD_OUT)
        world.restart(replace(world.rules, quiet_hours=QuietHours(time(10), time(20))))
        world.claim()
        assert world.experiment()["postponed"] is True
    with a_world(shadow()) as world:
        due(world, user=HELD_OUT)
        world.restart(replace(world.rules, channels={PUSH: ChannelRules(consent="required")}))
        world.claim()
        assert world.states() == [("cancelled", "no_consent")]


def test_a_manual_message_to_a_held_out_user_goes_out() -> None:
    """What was asked for by hand is sent, holdout or not (R4)."""
    with a_world(shadow()) as world:
        world.one(requested(HELD_OUT))
        world.clock.advance("2min")

        assert len(world.deliver()) == 1
        assert world.counts() == {"combo": (1, 0, 1, 0, 0)}


# Which messages share a call


def test_equal_messages_share_a_call() -> None:
    """Messages with the same content go out together, up to the channel's batch (R10)."""
    with a_world(some_rules(ONE, channels={PUSH: batched(3)})) as world:
        world.take(*(happened(user=f"u{number}") for number in range(7)))
        world.clock.advance("2min")

        calls = world.claim().calls

        assert sorted(len(call.recipients) for call in calls) == [1, 3, 3]
        assert len({row["call_id"] for row in world.experiments()}) == 3
        assert {call.carries_ids for call in calls if len(call.recipients) > 1} == {False}


def test_calls_are_counted_not_messages() -> None:
    """With one free call a whole batch goes out, and the rest waits."""
    with a_world(some_rules(ONE, channels={PUSH: batched(3)})) as world:
        world.take(*(happened(user=f"u{number}") for number in range(7)))
        world.clock.advance("2min")

        assert [len(call.recipients) for call in world.claim(1).calls] == [3]
        assert [len(call.recipients) for call in world.claim(1, allowance=2).calls] == [2]


def test_different_messages_do_not() -> None:
    """A text that differs in one user's value is a message of its own (R10)."""
    show = Placeholder("show", ("event_properties", "show"))
    rules = some_rules(
        ONE,
        channels={PUSH: batched(100)},
        catalogue=a_catalogue(ONE, body="{show}", placeholders=[show]),
    )
    with a_world(rules) as world:
        for number, name in enumerate(["A", "B", "A", "B", "C"]):
            world.one(happened(user=f"u{number}", properties={"show": name}))
        world.clock.advance("2min")

        assert users_of(list(world.claim().calls)) == [["u0", "u2"], ["u1", "u3"], ["u4"]]


def test_different_campaigns_do_not() -> None:
    """Equal texts of different campaigns are different messages: every field counts (R10)."""
    cohort = a_cohort(delays=("2min",), channels=("whatsapp",))
    campaigns = {("*", "urgency", "*"): "1", ("*", "scarcity", "*"): "2"}
    same = {
        key: next(iter(a_catalogue(cohort).texts.values())) for key in a_catalogue(cohort).texts
    }
    rules = some_rules(
        cohort,
        catalogue=replace(a_catalogue(cohort), texts=same),
        channels={WHATSAPP: ChannelRules(batch=100, campaigns=campaigns)},
    )
    with a_world(rules) as world:
        world.take(*(happened(user=f"u{number}") for number in range(20)))
        world.clock.advance("2min")

        calls = world.claim().calls

        assert {call.content.campaign_id for call in calls} == {"1", "2"}
        for call in calls:
            angles = {
                world.experiment(id_)["combo_key"].split("|")[2]
                for id_ in call.recipients.values()
            }
            assert len(angles) == 1


def test_never_two_messages_of_one_user_in_a_call() -> None:
    """Two equal messages of one user are two calls (R10)."""
    for world in two_due(some_rules(ONE, OTHER, channels={PUSH: batched(100)})):
        world.take(happened(user="b"), happened("payment_failed", user="b"))
        world.clock.advance("2min")

        calls = world.claim().calls

        assert users_of(list(calls)) == [["b", USER], ["b", USER]]
        ids = [id_ for call in calls for id_ in call.recipients.values()]
        assert len(set(ids)) == 4


def test_a_claimed_reason_is_told() -> None:
    """A claim tells of every experiment it moved, whatever became of it."""
    rules = some_rules(ONE, OTHER, frequency_cap=FrequencyCap(1, WEEK))
    for world in two_due(rules):
        moved = world.claim().experiments

        assert sorted((e.state.value, e.reason) for e in moved) == [
            ("cancelled", Reason.FREQUENCY_CAP),
            ("claimed", None),
        ]
