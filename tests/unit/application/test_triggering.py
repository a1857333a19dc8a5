"""From a trigger to an experiment, or to the reason why there is none (CONTRACT R3-R9, R16)."""

from dataclasses import replace
from datetime import time
from typing import Any

import msgspec
import pytest
from tests.support.builders import (
    CHECKOUT,
    NOW,
    PAYMENT,
    PAYWALL,
    PUSH,
    SALT,
    USER,
    WHATSAPP,
    Texts,
    World,
    a_catalogue,
    a_cohort,
    a_text,
    a_world,
    converted,
    happened,
    requested,
    said_yes,
    some_rules,
)
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.rows import propensities_from
from experiment_engine.application.results import Result
from experiment_engine.domain.bandit.decision import SPREAD, stream
from experiment_engine.domain.cohorts.holdout import is_held_out
from experiment_engine.domain.delivery.copy import Catalogue, Placeholder
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.delivery.limits import FrequencyCap, OfferBudget
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.identifiers import Channel, UserId
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration, Instant
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import ChannelRules, Languages, Rules

ONE_COMBO = a_cohort(delays=("2min",), angles=("urgency",))
HELD_OUT = next(u for u in (UserId(f"usr_{n}") for n in range(999)) if is_held_out(u, SALT, 0.05))


def reason_of(result: Result) -> str | None:
    assert result.status == "ignored"
    return result.reason


# What is fixed at the decision


def test_everything_that_explains_it_is_kept(world: World) -> None:
    """An experiment keeps its combo, propensity, seed, text, context, zone and distribution."""
    world.one(
        happened(
            key="key-1",
            at=NOW - MINUTE,
            properties={"language": "en", "show_name": "Mirzapur\x00", "region": "Bihar"},
        )
    )

    made = world.experiment()
    assert made["event_key"] == "key-1"
    assert made["propensity"] == 0.25
    assert made["triggered_at"] == NOW - MINUTE
    assert made["decided_at"] == NOW
    assert made["expires_at"] == made["due_at"] + 30 * MINUTE
    assert made["window_ends_at"] == NOW - MINUTE + 3 * DAY
    assert made["zone"] == "UTC"
    assert made["language"] == "en"
    channel, angle, offer = made["combo_key"].split("|")[1:]
    assert made["body"] == f"Come back ({channel}, {angle}, {offer})"
    assert msgspec.json.decode(made["context"]) == {
        "language": "en",
        "show": "Mirzapur",
        "region": "Bihar",
    }


def test_it_can_be_drawn_again(world: World) -> None:
    """From the stored distribution and seed the same combo and propensity come out, exactly."""
    for number in range(50):
        world.one(happened(user=f"usr_{number}"))

    sets = {row["id"]: row["eligible"] for row in world.rows(tables.eligible_set)}
    kept = {
        row["id"]: propensities_from(row["shares"], sets[row["eligible_id"]])
        for row in world.rows(tables.distribution)
    }
    spaces = {
        row["digest"]: msgspec.json.decode(row["keys"]) for row in world.rows(tables.combo_space)
    }
    (keys,) = spaces.values()
    for made in world.experiments():
        shares = kept[made["distribution_id"]]
        point, running = stream(made["seed"], 0), 0.0
        for place in sorted(shares):
            running += shares[place]
            if point < running:
                break
        assert keys[place] == made["combo_key"]
        assert shares[place] == made["propensity"]
    assert len({made["combo_key"] for made in world.experiments()}) == 4


def test_one_distribution_for_one_situation(world: World) -> None:
    """Experiments of the same snapshot and eligible combos share one stored distribution."""
    world.take(*(happened(user=f"usr_{number}") for number in range(20)))
    world.one(happened(user="late", at=NOW - 30 * MINUTE))  # two minutes are over

    assert len(world.rows(tables.distribution)) == 2


def test_the_delay_counts_from_the_event(world: World) -> None:
    """A late event's message goes out at the event's time plus the delay (R7)."""
    world.one(happened(at=NOW - 30 * MINUTE))

    made = world.experiment()
    assert made["combo_key"].startswith("1h|")
    assert made["due_at"] == NOW + 30 * MINUTE


def test_a_little_late_goes_out_now() -> None:
    """A combo whose time passed less than a minute ago is eligible and due at once (R7)."""
    with a_world(some_rules(ONE_COMBO)) as world:
        world.one(happened(at=NOW - 3 * MINUTE))

        assert world.experiment()["due_at"] == NOW


# Why there is none


def test_too_old(world: World) -> None:
    """An event older than `max_age` on arrival starts nothing."""
    assert reason_of(world.one(happened(at=NOW - 6 * HOUR - 1))) == Reason.TOO_OLD
    assert reason_of(world.one(happened(at=NOW - 6 * HOUR))) == Reason.OVERDUE


def test_already_active(world: World) -> None:
    """While one waits in the same cohort no second one starts; the answer names the first."""
    first = world.one(happened())

    again = world.one(happened())

    assert reason_of(again) == Reason.ALREADY_ACTIVE
    assert again.experiment_id == first.experiment_id


def test_another_cohort_is_not_held_back() -> None:
    """What waits in one cohort does not keep the user out of another."""
    with a_world(some_rules(a_cohort(), a_cohort(PAYMENT, event="payment_failed"))) as world:
        assert world.one(happened()).status == "scheduled"
        assert world.one(happened("payment_failed")).status == "scheduled"


@pytest.mark.parametrize(
    ("after", "reason"), [("23h", Reason.COOLDOWN), ("1439min", Reason.COOLDOWN), ("24h", None)]
)
def test_cooldown(*, world: World, after: str, reason: Reason | None) -> None:
    """From one decision of a cohort to the next `again_after` has to pass (R5)."""
    world.one(happened())
    world.clock.advance(after)
    world.claim()  # what was due has expired

    assert world.one(happened()).reason == reason


def test_cooldown_counts_from_the_decision_whatever_became_of_it(world: World) -> None:
    """A message that failed still counts for the cooldown (R5)."""
    world.one(happened())
    world.clock.advance("1h")
    world.deliver(an_answer(Verdict.REFUSED))

    assert world.states() == [("failed", "refused")]
    assert reason_of(world.one(happened())) == Reason.COOLDOWN


@pytest.mark.parametrize(
    ("reached", "reason"),
    [
        (30 * DAY + MINUTE, None),
        (30 * DAY, Reason.CONVERTED),
        (DAY, Reason.CONVERTED),
        (MINUTE, Reason.CONVERTED),
        (0, Reason.CONVERTED),
    ],
)
def test_who_reached_the_goal_recently(
    *, world: World, reached: int, reason: Reason | None
) -> None:
    """Who reached the goal within `converted_quiet` before the trigger gets nothing (R5)."""
    world.one(happened("purchase", at=NOW - reached))

    assert world.one(happened(at=NOW)).reason == reason


def test_the_goal_after_the_trigger_arrives_first(world: World) -> None:
    """A trigger that arrives after its own conversion starts nothing (R5)."""
    world.one(happened("purchase", at=NOW - MINUTE))

    assert reason_of(world.one(happened(at=NOW - HOUR))) == Reason.CONVERTED


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("goal_at", [NOW - DAY, NOW - MINUTE])
def test_order_of_arrival_decides_nothing(*, order: tuple[int, int], goal_at: int) -> None:
    """Trigger and conversion in either order of arrival: nothing waits to be sent (R5)."""
    facts = (happened(at=NOW - 2 * MINUTE), happened("purchase", at=goal_at))
    with a_world() as world:
        for place in order:
            world.one(facts[place])

        assert all(state == "cancelled" for state, _ in world.states())


def test_another_cohort_s_goal_does_not_matter() -> None:
    """Having reached one goal keeps nobody out of a cohort with another."""
    with a_world(some_rules(a_cohort(), a_cohort(PAYMENT, event="failed", goal="paid"))) as world:
        world.one(happened("purchase"))

        assert world.one(happened("failed")).status == "scheduled"


@pytest.mark.parametrize("scope", [None, CHECKOUT])
def test_paused(*, world: World, scope: str | None) -> None:
    """While all or the cohort is paused, new triggers are ignored, events and requests (R7)."""
    world.pause(scope)

    assert reason_of(world.one(happened())) == Reason.PAUSED
    assert reason_of(world.one(requested())) == Reason.PAUSED
    world.pause(scope, paused=False)
    assert world.one(happened()).status == "scheduled"


def test_a_pause_of_another_cohort() -> None:
    """Pausing one cohort leaves the others as they are."""
    with a_world(some_rules(a_cohort(), a_cohort(PAYMENT, event="failed"))) as world:
        world.pause(PAYMENT)

        assert reason_of(world.one(happened("failed"))) == Reason.PAUSED
        assert world.one(happened()).status == "scheduled"


def test_no_consent() -> None:
    """A channel that requires consent needs one; with a yes it is eligible (R12)."""
    with a_world(some_rules(channels={PUSH: ChannelRules(consent="required")})) as world:
        assert reason_of(world.one(happened())) == Reason.NO_CONSENT
        world.one(said_yes(channel=PUSH))
        assert world.one(happened()).status == "scheduled"


def test_frequency_cap_at_the_decision() -> None:
    """Who has had as many messages as the cap allows gets no experiment of another cohort."""
    rules = some_rules(
        ONE_COMBO,
        a_cohort(PAYMENT, event="failed"),
        frequency_cap=FrequencyCap(1, Duration(7 * DAY)),
    )
    with a_world(rules) as world:
        world.one(happened())
        world.clock.advance("2min")
        world.deliver()

        assert reason_of(world.one(happened("failed"))) == Reason.FREQUENCY_CAP
        world.clock.advance("7d")
        assert world.one(happened("failed")).status == "scheduled"


def test_offer_budget_at_the_decision() -> None:
    """An offer whose budget of the day is used up is not eligible, others are (CONTRACT 4)."""
    cohort = a_cohort(delays=("2min",), angles=("urgency",), offers=("none", "rupee_1"))
    with a_world(some_rules(cohort, offers={"rupee_1": OfferBudget(1)})) as world:
        for number in range(12):
            world.one(happened(user=f"usr_{number}"))
        world.clock.advance("2min")
        world.deliver()

        for number in range(12):
            world.one(happened(user=f"late_{number}"))

        offers = {
            row["combo_key"].split("|")[3]
            for row in world.experiments()
            if "late" in row["user_id"]
        }
        assert offers == {"none"}
        world.clock.advance("1d")
        for number in range(12):
            world.one(happened(user=f"later_{number}"))
        offers = {
            row["combo_key"].split("|")[3]
            for row in world.experiments()
            if "later" in row["user_id"]
        }
        assert offers == {"none", "rupee_1"}


def test_missing_value() -> None:
    """Without a value and a default for a placeholder there is no message (R16)."""
    show = Placeholder("show", ("event_properties", "show"))
    rules = some_rules(
        ONE_COMBO, catalogue=a_catalogue(ONE_COMBO, body="{show}", placeholders=[show])
    )
    with a_world(rules) as world:
        assert reason_of(world.one(happened())) == Reason.MISSING_VALUE
        assert reason_of(world.one(happened(properties={"show": " \n"}))) == Reason.MISSING_VALUE
        assert world.one(happened(properties={"show": "Mirzapur"})).status == "scheduled"
        assert world.experiment()["body"].startswith("Mirzapur (")


def test_no_campaign() -> None:
    """WhatsApp without a campaign is not eligible live, and is in dry run (CONTRACT 8)."""
    cohort = a_cohort(channels=("whatsapp",))
    rules = some_rules(cohort, channels={WHATSAPP: ChannelRules()})
    with a_world(rules) as world:
        assert reason_of(world.one(happened())) == Reason.NO_CAMPAIGN
    with a_world(rules, Mode.DRY_RUN) as world:
        assert world.one(happened()).status == "scheduled"


def test_no_eligible_combo_for_different_reasons() -> None:
    """If combos are refused for different reasons, the answer says that none is eligible."""
    rules = some_rules(
        a_cohort(channels=("push", "whatsapp")),
        channels={PUSH: ChannelRules(consent="required"), WHATSAPP: ChannelRules()},
    )
    with a_world(rules) as world:
        assert reason_of(world.one(happened())) == Reason.NO_ELIGIBLE_COMBO


# Zone and language


@pytest.mark.parametrize(
    ("event", "user", "zone"),
    [
        ("Asia/Kathmandu", "Asia/Tokyo", "Asia/Kathmandu"),
        (None, "Asia/Tokyo", "Asia/Tokyo"),
        (None, None, "UTC"),
        ("Mars/Olympus", None, "UTC"),
        (5, None, "UTC"),
        ("../../etc/passwd", None, "UTC"),
    ],
)
def test_whose_zone(*, world: World, event: object, user: object, zone: str) -> None:
    """The event's own zone goes before the user's, and both before the configured one."""
    world.one(
        happened(
            properties={} if event is None else {"timezone": event},
            user_properties={} if user is None else {"timezone": user},
        )
    )

    assert world.experiment()["zone"] == zone


def test_a_broken_zone_of_the_event_leaves_the_user_s() -> None:
    """Where the event names no zone that exists, the user's own is used."""
    with a_world() as world:
        world.one(
            happened(
                properties={"timezone": "IST?"}, user_properties={"timezone": "Asia/Kathmandu"}
            )
        )

        assert world.experiment()["zone"] == "Asia/Kathmandu"


@pytest.mark.parametrize(
    ("value", "language"), [("Hindi", "hi"), ("bho", "hi"), ("xx", "en"), (None, "en"), (3, "en")]
)
def test_language(*, value: object, language: str) -> None:
    """The text is the first there is on the way from the user's language to the default."""
    rules = some_rules(
        catalogue=a_catalogue(a_cohort(), languages=("en", "hi")),
        languages=Languages(
            default="en", codes={"hindi": "hi", "bho": "bho"}, fallback={"bho": "hi"}
        ),
    )
    with a_world(rules) as world:
        world.one(happened(properties={} if value is None else {"language": value}))

        assert world.experiment()["language"] == language


# Triggers that count


def counting(**changes: Any) -> Rules:
    given: dict[str, Any] = {"count": 3, "within": Duration(7 * DAY), **changes}
    return some_rules(a_cohort(PAYWALL, event="paywall_viewed", goal="trial", **given))


def test_the_third_starts_one() -> None:
    """Three distinct events inside the window start one experiment, at the third's time."""
    with a_world(counting()) as world:
        facts = [happened("paywall_viewed", at=NOW - ago) for ago in (2 * HOUR, HOUR, 0)]

        results = world.take(*facts)

        assert [r.reason or r.status for r in results] == [
            "count_not_reached",
            "count_not_reached",
            "scheduled",
        ]
        assert world.experiment()["triggered_at"] == NOW
        assert world.experiment()["event_key"] == facts[2].key


def test_a_repeated_event_counts_once() -> None:
    """Only distinct events count: the same one three times is one."""
    with a_world(counting()) as world:
        fact = happened("paywall_viewed", key="same")

        results = world.take(fact, fact, fact, happened("paywall_viewed"))

        assert results[-1].reason == Reason.COUNT_NOT_REACHED


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_counting_in_any_order(*, order: tuple[int, ...]) -> None:
    """Late and turned around, the third arrival starts it, from the newest event's time."""
    moments = (NOW - 3 * HOUR, NOW - 2 * HOUR, NOW - HOUR)
    with a_world(counting(max_age=Duration(DAY))) as world:
        results = [world.one(happened("paywall_viewed", at=moments[place])) for place in order]

        assert [result.status for result in results] == ["ignored", "ignored", "scheduled"]
        assert world.experiment()["triggered_at"] == NOW - HOUR


def test_outside_the_window() -> None:
    """Three events in eight days are not three in seven."""
    with a_world(counting()) as world:
        results = []
        for _ in range(3):
            results.append(world.one(happened("paywall_viewed")))
            world.clock.advance("4d")

        assert {result.reason for result in results} == {Reason.COUNT_NOT_REACHED}


def test_what_counted_never_counts_again() -> None:
    """Events that started one experiment do not count towards the next (R5)."""
    with a_world(counting(again_after=HOUR)) as world:
        world.take(*(happened("paywall_viewed") for _ in range(3)))
        world.clock.advance("2h")
        world.claim()

        results = [world.one(happened("paywall_viewed")) for _ in range(3)]

        assert [r.reason or r.status for r in results] == [
            "count_not_reached",
            "count_not_reached",
            "scheduled",
        ]


def test_a_refused_start_uses_nothing_up() -> None:
    """Where a rule forbids the experiment, the events stay and count for the next one."""
    with a_world(counting()) as world:
        world.pause()
        world.take(*(happened("paywall_viewed") for _ in range(3)))
        world.pause(paused=False)

        assert world.one(happened("paywall_viewed")).status == "scheduled"
        assert not world.rows(tables.counted)


def test_an_old_event_counts_and_starts_nothing() -> None:
    """An event too old on arrival starts nothing, and is still one that happened."""
    with a_world(counting()) as world:
        old = [world.one(happened("paywall_viewed", at=NOW - DAY)) for _ in range(2)]

        assert {result.reason for result in old} == {Reason.TOO_OLD}
        assert world.one(happened("paywall_viewed")).status == "scheduled"


def test_users_and_cohorts_count_apart() -> None:
    """Nobody's events count for somebody else, nor for another cohort."""
    other = a_cohort(PAYMENT, event="paywall_viewed", goal="x", count=2, within=HOUR)
    rules = counting()
    rules = some_rules(*rules.cohorts.values(), other)
    with a_world(rules) as world:
        first = world.take(
            happened("paywall_viewed"),
            happened("paywall_viewed"),
            happened("paywall_viewed", user="b"),
        )

        assert [r.status for r in first] == ["ignored", "scheduled", "ignored"]
        assert {row["cohort"] for row in world.experiments()} == {PAYMENT}
        assert len(world.rows(tables.counted)) == 2 + 2  # of the first for paywall, of b for both


# Manual triggers


def test_a_manual_trigger(world: World) -> None:
    """A request starts an experiment now, with the request's attributes, marked as manual (R4)."""
    result = world.one(
        requested(attributes={"language": "en", "show_name": "Mirzapur", "timezone": "Asia/Tokyo"})
    )

    made = world.experiment()
    assert result.status == "scheduled"
    assert (made["manual"], made["held_out"]) == (True, False)
    assert made["triggered_at"] == NOW
    assert made["zone"] == "Asia/Tokyo"
    assert made["event_key"] == ""


def test_a_manual_trigger_is_never_held_out() -> None:
    """A user of the holdout gets the message that was asked for by hand (R4)."""
    with a_world(some_rules(holdout_share=0.05)) as world:
        assert world.one(requested(HELD_OUT)).status == "scheduled"
        assert not world.experiment()["held_out"]


def test_a_manual_trigger_needs_no_count() -> None:
    """A request starts a counting cohort at once, and leaves the events that wait."""
    with a_world(counting()) as world:
        world.one(happened("paywall_viewed"))

        assert world.one(requested(cohort=PAYWALL)).status == "scheduled"
        assert len(world.rows(tables.counted)) == 1


@pytest.mark.parametrize(
    ("rules", "before", "reason"),
    [
        (some_rules(), [happened()], Reason.ALREADY_ACTIVE),
        (some_rules(), [converted(user=USER)], Reason.CONVERTED),
        (some_rules(channels={PUSH: ChannelRules(consent="required")}), [], Reason.NO_CONSENT),
    ],
)
def test_a_manual_trigger_obeys(*, rules: Rules, before: list[object], reason: Reason) -> None:
    """A request is refused for the same reasons as an event (R4)."""
    with a_world(rules) as world:
        world.take(*before)  # type: ignore[arg-type]

        assert reason_of(world.one(requested())) == reason


# The holdout


def test_the_shadow_of_a_held_out_user() -> None:
    """A held-out user gets an experiment that waits and counts like any other (R3)."""
    with a_world(some_rules(holdout_share=0.05)) as world:
        result = world.one(happened(user=HELD_OUT))

        made = world.experiment()
        assert result == Result("holdout", experiment_id=made["id"], cohort=CHECKOUT)
        assert (made["state"], made["held_out"]) == ("scheduled", True)
        assert made["propensity"] == 0.25
        assert reason_of(world.one(happened(user=HELD_OUT))) == Reason.ALREADY_ACTIVE
        assert [
            (row["held_out"], row["experiments"]) for row in world.rows(tables.experiment_count)
        ] == [(True, 1)]


def test_the_holdout_is_the_same_in_every_cohort() -> None:
    """Who is held out is so everywhere, and who is not is so nowhere (R3)."""
    rules = some_rules(a_cohort(), a_cohort(PAYMENT, event="failed"), holdout_share=0.3)
    with a_world(rules) as world:
        for number in range(40):
            world.take(happened(user=f"u{number}"), happened("failed", user=f"u{number}"))

        sides: dict[str, set[bool]] = {}
        for row in world.experiments():
            sides.setdefault(row["user_id"], set()).add(row["held_out"])
        assert all(len(side) == 1 for side in sides.values())
        assert 1 < sum(side == {True} for side in sides.values()) < 30


# Quiet hours


def test_postponed_at_the_decision() -> None:
    """If every delay falls into the quiet hours it goes out after them, marked so (R8)."""
    night = QuietHours(time(10), time(20))  # it is 10:00
    with a_world(some_rules(quiet_hours=night)) as world:
        world.one(happened())

        made = world.experiment()
        assert made["postponed"] is True
        assert made["combo_key"].startswith("2min|")
        assert made["propensity"] == 0.5  # of the two angles: the delay is not drawn
        assert 0 <= made["due_at"] - (NOW + 10 * HOUR) < 30 * MINUTE
        assert made["due_at"] == NOW + 10 * HOUR + int(stream(made["seed"], SPREAD) * 30 * MINUTE)
        assert made["expires_at"] == made["due_at"] + 30 * MINUTE


def test_quiet_hours_are_the_user_s_own() -> None:
    """The same moment is quiet for one user and not for another, by their zones."""
    night = QuietHours(time(23), time(8))
    cohort = a_cohort(delays=("2min",))
    with a_world(some_rules(cohort, quiet_hours=night)) as world:  # 10:00 UTC
        world.one(happened(user="kolkata", properties={"timezone": "Asia/Kolkata"}))
        world.one(happened(user="la", properties={"timezone": "America/Los_Angeles"}))  # 02:00

        kolkata, angeles = world.experiments()
        assert kolkata["postponed"] is False
        assert angeles["postponed"] is True
        assert 0 <= angeles["due_at"] - (NOW + 6 * HOUR) < 30 * MINUTE


# A failing channel


def test_a_failing_channel_is_not_eligible_until_a_probe_succeeds() -> None:
    """After 20 refusals in a row a channel rests, until one message as a probe is taken (R9)."""
    cohort = a_cohort(delays=("2min",), angles=("urgency",))
    with a_world(some_rules(cohort)) as world:
        for number in range(20):
            world.one(happened(user=f"u{number}"))
        world.clock.advance("2min")
        calls = world.deliver(an_answer(Verdict.REFUSED))

        assert len(calls) == 20
        assert reason_of(world.one(happened())) == Reason.CHANNEL_FAILING

        world.clock.advance("10min")
        probe, other = world.take(happened(user="probe"), happened(user="other"))
        assert probe.status == "scheduled"
        assert reason_of(other) == Reason.CHANNEL_FAILING
        assert reason_of(world.one(happened(user="third"))) == Reason.CHANNEL_FAILING

        world.clock.advance("2min")
        world.deliver()
        assert world.one(happened(user="fourth")).status == "scheduled"


def test_a_failed_probe_keeps_the_channel_closed() -> None:
    """While probes are refused the channel stays closed to all but the next probe (R9)."""
    with a_world(some_rules(ONE_COMBO)) as world:
        for number in range(20):
            world.one(happened(user=f"u{number}"))
        world.clock.advance("2min")
        world.deliver(an_answer(Verdict.REFUSED))
        world.clock.advance("10min")
        world.one(happened(user="probe"))
        world.clock.advance("2min")
        world.deliver(an_answer(Verdict.REFUSED))

        assert reason_of(world.one(happened(user="next"))) == Reason.CHANNEL_FAILING


def test_nineteen_refusals_are_not_twenty() -> None:
    """One accepted message in between and the count begins anew (R9)."""
    with a_world(some_rules(ONE_COMBO)) as world:
        for number in range(39):
            world.one(happened(user=f"u{number:02}"))
        world.clock.advance("2min")
        calls = world.claim().calls
        for place, call in enumerate(calls):
            verdict = Verdict.ACCEPTED if place == 19 else Verdict.REFUSED
            world.record((call, an_answer(verdict)))

        assert world.one(happened()).status == "scheduled"


# Modes


def test_the_other_mode_s_history_does_not_count() -> None:
    """What was sent in dry run takes no place in the caps and no cooldown of live (R11)."""
    rules = some_rules(frequency_cap=FrequencyCap(1, Duration(7 * DAY)))
    with a_world(rules, Mode.DRY_RUN) as world:
        world.one(happened())
        world.clock.advance("1h")
        world.deliver()
        world.restart(rules, Mode.LIVE)

        assert world.one(happened()).status == "scheduled"
        assert [row["mode"] for row in world.experiments()] == ["dry_run", "live"]


def test_texts_of_the_cohort_go_before_common_ones() -> None:
    """The text that is stored is the one the catalogue finds for the combo."""
    own: Texts = {("en", CHECKOUT, PUSH, "urgency", "none"): a_text("Own", title="T")}
    common = a_catalogue(ONE_COMBO)
    catalogue = Catalogue({**common.texts, **own}, {})
    with a_world(some_rules(ONE_COMBO, catalogue=catalogue)) as world:
        world.one(happened())

        made = world.experiment()
        assert (made["title"], made["body"]) == ("T", "Own")


def test_a_cohort_that_left_still_counts_for_the_caps() -> None:
    """Messages of a cohort that is no longer configured keep their place in the caps."""
    rules = some_rules(ONE_COMBO, frequency_cap=FrequencyCap(1, DAY))
    with a_world(rules) as world:
        world.one(happened())
        world.clock.advance("2min")
        world.deliver()
        other = a_cohort(PAYMENT, event="failed")
        world.restart(replace(some_rules(other), frequency_cap=FrequencyCap(1, DAY)))

        assert reason_of(world.one(happened("failed"))) == Reason.FREQUENCY_CAP


def test_instants_are_whole_milliseconds(world: World) -> None:
    """Every stored moment is a whole number: nothing is lost between writing and reading."""
    world.one(happened(at=Instant(NOW - 1)))

    made = world.experiment()
    moments = ("triggered_at", "decided_at", "due_at", "expires_at", "window_ends_at")
    assert all(isinstance(made[name], int) for name in moments)
    assert Channel(made["channel"]) == PUSH
