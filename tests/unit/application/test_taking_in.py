"""What is answered for a fact, and what is kept of it (CONTRACT 5)."""

from dataclasses import replace

import pytest
from tests.support.builders import (
    CHECKOUT,
    NOW,
    PAYMENT,
    USER,
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    opened,
    requested,
    said_no,
    said_yes,
    some_rules,
)

from experiment_engine.adapters.storage import tables
from experiment_engine.application.manage import erase_user
from experiment_engine.application.results import Result, merged
from experiment_engine.domain.events import Anonymous, Ping, Source, Unreadable
from experiment_engine.domain.identifiers import EventName, ExperimentId
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, iso
from experiment_engine.domain.reasons import Reason


def test_a_trigger_is_scheduled(world: World) -> None:
    """A trigger is answered with its experiment and the time of its message."""
    result = world.one(happened())

    made = world.experiment()
    assert result == Result(
        "scheduled",
        experiment_id=made["id"],
        scheduled_for=iso(made["due_at"]),
        cohort=CHECKOUT,
    )
    assert made["state"] == "scheduled"


def test_what_is_kept_of_an_event(world: World) -> None:
    """An event is kept byte for byte with what followed from it."""
    fact = happened(at=NOW - HOUR, key="key-1")

    result = world.one(fact)

    assert world.rows(tables.event) == [
        {
            "user_id": USER,
            "dedup_key": "key-1",
            "source": "amplitude",
            "name": "checkout_abandoned",
            "happened_at": NOW - HOUR,
            "received_at": NOW,
            "raw": fact.raw,
            "status": "scheduled",
            "reason": None,
            "experiment_id": result.experiment_id,
        }
    ]


@pytest.mark.parametrize("together", [True, False])
def test_the_same_event_again(*, world: World, together: bool) -> None:
    """The same event any number of times has the effect of one, in one batch or in many."""
    fact = happened(key="key-1")

    results = world.take(fact, fact, fact) if together else [world.one(fact) for _ in range(3)]

    first = results[0]
    assert results[1:] == [Result("duplicate", experiment_id=first.experiment_id)] * 2
    assert len(world.experiments()) == len(world.rows(tables.event)) == 1


def test_a_duplicate_is_known_for_at_least_30_days(world: World) -> None:
    """The same event a month later is still the same event."""
    fact = happened(key="key-1")
    world.one(fact)
    world.clock.advance("30d")

    assert world.one(fact).status == "duplicate"


def test_the_same_key_of_another_user_is_another_event(world: World) -> None:
    """Insert ids are scoped: two users may share one."""
    results = world.take(happened(key="key-1"), happened(user="usr_2", key="key-1"))

    assert [result.status for result in results] == ["scheduled", "scheduled"]


def test_an_event_of_no_cohort(world: World) -> None:
    """What concerns no cohort is kept, and answered as such."""
    assert world.one(happened("app_opened")) == Result("ignored", reason=Reason.NO_COHORT)
    assert [row["reason"] for row in world.rows(tables.event)] == ["no_cohort"]


def test_an_event_that_names_nobody(world: World) -> None:
    """An anonymous event is kept once, and nothing follows from it."""
    fact = Anonymous(EventName("checkout_abandoned"), "key-1", b"{}", Source.AMPLITUDE)

    first, again = world.take(fact, fact)

    assert first == Result("ignored", reason=Reason.NO_USER)
    assert again.status == "duplicate"
    assert [row["user_id"] for row in world.rows(tables.event)] == [""]


def test_what_is_not_understood_is_kept_once(world: World) -> None:
    """A body that cannot be read is kept byte for byte, however often it comes."""
    bad = Unreadable("not_an_object", b"\x00\xff garbage", Source.AMPLITUDE)

    results = [*world.take(bad, bad), world.one(bad)]

    assert {(result.status, result.reason) for result in results} == {
        ("quarantined", "not_an_object")
    }
    kept = world.rows(tables.quarantine)
    assert [(row["raw"], row["received_at"]) for row in kept] == [(bad.raw, NOW)]


def test_a_ping_means_nothing(world: World) -> None:
    """A test call is answered and leaves no row."""
    assert world.one(Ping(b"{}")) == Result("ignored", reason=Reason.TEST_PING)
    assert not world.rows(tables.event)


def test_one_bad_event_never_rejects_its_batch(world: World) -> None:
    """Around what cannot be used, everything else of a batch is answered in its order."""
    results = world.take(
        Unreadable("bad_time", b"[]", Source.AMPLITUDE),
        happened(properties={"show_name": 10**400, "language": ["x"], "timezone": {"a": 1}}),
        Anonymous(EventName("x"), "key-1", b"{}"),
        happened(user="usr_2", properties={"show_name": float("nan"), "timezone": "\x00"}),
        opened(),
    )

    assert [result.status for result in results] == [
        "quarantined",
        "scheduled",
        "ignored",
        "scheduled",
        "ignored",
    ]


def test_a_clock_that_runs_ahead(world: World) -> None:
    """An event from the future counts from its receipt (R7)."""
    world.one(happened(at=NOW + 5 * DAY))

    made = world.experiment()
    assert made["triggered_at"] == NOW
    assert made["due_at"] in (NOW + 2 * MINUTE, NOW + HOUR)


def test_an_event_without_a_time_counts_from_its_receipt(world: World) -> None:
    """Where the sender gives no time, now is the time."""
    world.one(happened(at=None))

    assert world.experiment()["triggered_at"] == NOW


def test_an_event_of_two_cohorts() -> None:
    """An event that starts two cohorts is answered for each, and lists both experiments."""
    other = a_cohort(PAYMENT, goal="paid")
    with a_world(some_rules(a_cohort(), other)) as world:
        result = world.one(happened())

        made = world.experiments()
        assert [one.cohort for one in result.results] == [CHECKOUT, PAYMENT]
        assert set(result.experiment_ids) == {row["id"] for row in made}
        assert result.status == "scheduled"


def test_a_goal_that_is_a_trigger_elsewhere() -> None:
    """An event can reach one cohort's goal and start another: both happen."""
    first = a_cohort(goal="checkout_started", delays=("2min",))
    second = a_cohort(PAYMENT, event="checkout_started", goal="paid")
    with a_world(some_rules(first, second)) as world:
        world.one(happened())
        world.clock.advance("2min")
        world.deliver()

        result = world.one(happened("checkout_started"))

        assert [one.status for one in result.results] == ["recorded", "scheduled"]
        assert result.status == "scheduled"
        sent, started = world.experiments()
        assert sent["converted_at"] == world.now
        assert started["cohort"] == PAYMENT


@pytest.mark.parametrize(
    ("statuses", "leading"),
    [
        (("duplicate", "recorded"), "recorded"),
        (("cancelled", "recorded"), "recorded"),
        (("duplicate", "cancelled"), "cancelled"),
        (("ignored", "duplicate"), "duplicate"),
        (("ignored", "scheduled"), "scheduled"),
    ],
)
def test_which_status_leads(*, statuses: tuple[str, ...], leading: str) -> None:
    """Of several results the weightiest leads: recorded, then cancelled, then duplicate (R6)."""
    parts = [
        Result(status, experiment_id=ExperimentId(f"id-{place}"))  # type: ignore[arg-type]
        for place, status in enumerate(statuses)
    ]

    for order in (parts, parts[::-1]):
        result = merged(order)
        assert result.status == leading
        assert list(result.results) == order


# Erased users


def test_an_erased_user_is_ignored_and_nothing_is_kept(world: World) -> None:
    """Whatever still comes of a user who is forgotten starts nothing and leaves no row."""
    world.one(happened())
    with world.storage.transaction() as tx:
        erase_user(USER, tx, world.now)

    results = world.take(
        happened(), requested(), opened(user=USER), converted(user=USER), happened("purchase")
    )

    assert {(result.status, result.reason) for result in results} == {("ignored", "erased")}
    assert not world.rows(tables.event)
    assert not world.rows(tables.goal_reached)


def test_an_erased_user_who_asks_to_hear_again(world: World) -> None:
    """An explicit yes makes an erased user one like any other."""
    with world.storage.transaction() as tx:
        erase_user(USER, tx, world.now)

    yes, trigger = world.take(said_yes(), happened())

    assert yes.status == "recorded"
    assert trigger.status == "scheduled"
    assert not world.rows(tables.erased)


def test_an_erased_user_who_says_no_stays_erased(world: World) -> None:
    """A no of an erased user changes nothing: nobody is written to who is forgotten."""
    with world.storage.transaction() as tx:
        erase_user(USER, tx, world.now)

    assert world.one(said_no()).status == "recorded"
    assert world.one(happened()).reason == Reason.ERASED
    assert not world.rows(tables.choice)


# Choices


def test_an_opt_out_cancels_what_waits(world: World) -> None:
    """A no cancels every waiting message, and refuses later triggers (R12)."""
    world.one(happened())

    world.one(said_no())

    assert world.states() == [("cancelled", "opted_out")]
    assert world.one(requested()).reason == Reason.COOLDOWN
    world.clock.advance("1d")
    assert world.one(happened(at=world.now)).reason == Reason.OPTED_OUT


def test_an_opt_out_of_one_channel(world: World) -> None:
    """A no to another channel leaves what waits, and a no to this one cancels it."""
    world.one(happened())

    world.one(said_no(channel="whatsapp"))
    assert world.states() == [("scheduled", None)]
    world.one(said_no(channel="push"))
    assert world.states() == [("cancelled", "opted_out")]


def test_a_newer_yes_wins_and_an_older_one_does_not(world: World) -> None:
    """An opt-in counts from its own time: one older than the no comes too late (R12)."""
    world.take(said_no(at=NOW - HOUR), said_yes(at=NOW - 2 * HOUR))
    assert world.one(happened()).reason == Reason.OPTED_OUT

    world.one(said_yes(at=NOW - MINUTE))
    assert world.one(happened()).status == "scheduled"


def test_a_late_opt_out_older_than_the_yes_cancels_nothing(world: World) -> None:
    """A no that arrives after a newer yes has no effect."""
    world.take(said_yes(at=NOW), happened())

    world.one(said_no(at=NOW - DAY))

    assert world.states() == [("scheduled", None)]


def test_choices_keep_their_source(world: World) -> None:
    """Who told of a no or a yes, and when, is kept."""
    world.take(said_no(at=NOW - HOUR), said_yes(at=NOW))

    told = {"source": "api", "text_version": None, "purpose": None}
    assert world.rows(tables.choice) == [
        {"user_id": USER, "channel": "*", "allowed": False, "at": NOW - HOUR, **told},
        {"user_id": USER, "channel": "*", "allowed": True, "at": NOW, **told},
    ]


def test_opt_out_events() -> None:
    """An event that the configuration lists means no, and another means yes."""
    rules = some_rules(
        opt_out_events=frozenset({EventName("pushes_off")}),
        opt_in_events=frozenset({EventName("pushes_on")}),
    )
    with a_world(rules) as world:
        world.one(happened())
        assert world.one(happened("pushes_off")).status == "recorded"
        assert world.states() == [("cancelled", "opted_out")]

        world.clock.advance("1d")
        assert world.one(happened()).reason == Reason.OPTED_OUT
        assert world.one(happened("pushes_on")).status == "recorded"
        assert world.one(happened()).status == "scheduled"


def test_an_opt_out_by_experiment(world: World) -> None:
    """A no may name the experiment instead of its user; an unknown one is answered as such."""
    made = world.one(happened())
    known = replace(said_no(), user_id=None, experiment_id=made.experiment_id)
    unknown = replace(known, experiment_id=ExperimentId("nobody's"))

    assert world.one(unknown).reason == Reason.UNKNOWN_EXPERIMENT
    assert world.one(known).status == "recorded"
    assert world.states() == [("cancelled", "opted_out")]


def test_what_was_claimed_cannot_be_called_back(world: World) -> None:
    """A no while the call is under way does not change what the provider may have taken."""
    world.one(happened())
    world.clock.advance("1h")
    (call,) = world.claim().calls

    world.one(said_no())

    assert world.states() == [("claimed", None)]
    assert len(call.recipients) == 1
