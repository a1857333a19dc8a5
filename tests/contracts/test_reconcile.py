"""What is told afterwards starts nothing, and only a delivery report settles an unknown."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from tests.contracts.lives import DRAFTS, RULES, Draft
from tests.support.builders import (
    CHECKOUT,
    WHATSAPP,
    World,
    a_cohort,
    a_world,
    converted,
    happened,
    some_rules,
)
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.application.reconcile import (
    CLICKED,
    DELIVERED,
    Tally,
    facts_of,
    proofs_of,
    sort_out,
)
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.events import Feedback, Happened
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import HOUR, MINUTE, Instant
from experiment_engine.domain.past import ToldLater
from experiment_engine.domain.rules import ChannelRules, Rules

CAMPAIGNS = {("*", "urgency", "*"): "111", ("*", "*", "*"): "222"}
COHORT = a_cohort(delays=("2min",), channels=("whatsapp",), angles=("urgency",), again_after=0)
CALLED: Rules = replace(some_rules(COHORT), channels={WHATSAPP: ChannelRules(campaigns=CAMPAIGNS)})


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def worlds(request: pytest.FixtureRequest) -> Iterator[tuple[World, World]]:
    """Return a world with every rule, and one with a campaign, on each database."""
    with (
        a_world(RULES, database=request.param) as any_life,
        a_world(CALLED, database=request.param) as called,
    ):
        yield any_life, called


@settings(max_examples=40)
@given(before=DRAFTS, past=DRAFTS)
def test_the_past_starts_nothing(
    worlds: tuple[World, World], before: tuple[Draft, ...], past: tuple[Draft, ...]
) -> None:
    """Whatever is told afterwards, in whatever life: no experiment, and no counted event (R15)."""
    world, _ = worlds
    world.begin_anew()
    world.take(*(draft.fact(world.now, [], []) for draft in before))
    kept = {row["id"] for row in world.experiments()}
    counted = world.rows(tables.counted)
    facts = [draft.fact(world.now, [], []) for draft in past]

    world.take(*sort_out(facts, world.rules, Tally()))

    assert {row["id"] for row in world.experiments()} == kept
    assert world.rows(tables.counted) == counted


def unknown(world: World, user: str = "u1") -> dict[str, Any]:
    """Return a message of which nobody knows whether it was taken."""
    world.take(happened(user=user))
    world.clock.advance("2min")
    world.deliver(an_answer(Verdict.UNCERTAIN))
    made = world.experiments(user)[-1]
    assert made["state"] == "unknown"
    return made


def told(made: dict[str, Any], after: int = MINUTE, **properties: Any) -> ToldLater:
    """Return a delivery report."""
    at = Instant(made["placed_at"] + after)
    return ToldLater(DELIVERED, UserId(made["user_id"]), at, properties)


def settle(world: World, *reports: ToldLater) -> Tally:
    proofs, tally = world.storage.run(lambda tx: proofs_of(reports, world.rules, tx))
    world.take(*proofs)
    return tally


@pytest.fixture
def called(worlds: tuple[World, World]) -> World:
    """Return an empty world with a campaign."""
    worlds[1].begin_anew()
    return worlds[1]


def test_proof_by_experiment_or_campaign(called: World) -> None:
    """A report that names the experiment, or its campaign within the hour, settles it."""
    for number, campaign in enumerate((None, "111_20261122", "222_20261122")):
        made = unknown(called, f"u{number}")
        properties = {"experiment_id": made["id"]} if campaign is None else {"wzrk_id": campaign}
        called.take(converted(user=made["user_id"]))
        before = called.counts()

        assert settle(called, told(made, **properties)) == {"settled": 1}

        after = called.experiment(made["id"])
        assert (after["state"], after["reason"]) == ("sent", None)
        assert called.counts()["combo"][0] == before.get("combo", (0,))[0] + 1
        assert settle(called, told(made, **properties)) == {}  # once


@pytest.mark.parametrize(
    ("after", "properties"),
    [
        (MINUTE, {}),
        (MINUTE, {"wzrk_id": "333_20261122"}),
        (MINUTE, {"wzrk_id": "-1"}),
        (2 * HOUR, {"wzrk_id": "111_20261122"}),
        (-5 * MINUTE, {"wzrk_id": "111_20261122"}),
        (MINUTE, {"experiment_id": "another"}),
    ],
    ids=["no name", "another campaign", "no campaign", "too late", "too early", "another"],
)
def test_what_is_no_proof(called: World, after: int, properties: dict[str, Any]) -> None:
    """Anything else leaves it unknown, and so does that nothing is told."""
    made = unknown(called)

    assert settle(called, told(made, after, **properties)) == {}
    assert settle(called) == {}
    assert called.experiment(made["id"])["state"] == "unknown"


def test_two_messages_that_may_be_meant(called: World) -> None:
    """Where two of the same campaign went out within the hour, neither is settled."""
    first = unknown(called)
    unknown(called)

    assert settle(called, told(first, 3 * MINUTE, wzrk_id="111_20261122")) == {"ambiguous": 1}
    assert {row["state"] for row in called.experiments()} == {"unknown"}


def test_another_user_s_report(called: World) -> None:
    """A report about somebody else who is given our id settles nothing."""
    made = unknown(called)
    report = replace(told(made, experiment_id=made["id"]), user_id=UserId("u2"))

    assert settle(called, report) == {}


def test_only_our_clicks_and_our_goals(called: World) -> None:
    """Clicks of foreign campaigns are counted and left; goals and our clicks become facts."""
    at, user = called.now, UserId("u1")
    tally = Tally()
    facts = facts_of(
        [
            ToldLater(CLICKED, user, at, {"wzrk_id": "111_20261122"}),
            ToldLater(CLICKED, user, at, {"wzrk_id": "999_20261122"}),
            ToldLater(CLICKED, user, at),
            ToldLater(COHORT.goal.event, user, at),
            ToldLater(DELIVERED, user, at),
        ],
        called.rules,
        tally,
    )

    assert tally == {"opens": 1, "foreign_clicks": 2, "goals": 1}
    assert [type(fact) for fact in facts] == [Feedback, Happened]
    called.take(*facts)
    assert [row["status"] for row in called.rows(tables.event)].count("duplicate") == 0
    assert called.one(facts[1]).status == "duplicate"


def test_a_goal_that_is_a_trigger_too(worlds: tuple[World, World]) -> None:
    """It is taken in as the goal, counted as a trigger, and starts nothing."""
    world, _ = worlds
    world.begin_anew()
    tally = Tally()

    facts = sort_out([happened("trial_activated", user="usr_0", at=world.now)], world.rules, tally)
    world.take(*facts)

    assert tally == {"events": 1, "triggers": 1}
    assert [row["goal"] for row in world.rows(tables.goal_reached)] == ["trial_activated"]
    assert world.experiments() == []
    assert CHECKOUT in world.rules.cohorts
