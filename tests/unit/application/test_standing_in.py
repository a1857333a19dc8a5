"""What goes out instead where an offer is used up or a fact ran out; it teaches nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import time
from typing import Any

import pytest
from tests.support.builders import (
    CHECKOUT,
    NOW,
    PUSH,
    SALT,
    WHATSAPP,
    Texts,
    World,
    a_cohort,
    a_text,
    a_world,
    converted,
    happened,
    some_rules,
)
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.application.measure import measure
from experiment_engine.application.rebuild import recount
from experiment_engine.application.report import Report
from experiment_engine.domain.cohorts.holdout import is_held_out
from experiment_engine.domain.delivery.copy import Catalogue
from experiment_engine.domain.delivery.facts import FactKind, FactRule
from experiment_engine.domain.delivery.limits import OfferBudget
from experiment_engine.domain.delivery.message import Verdict
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.identifiers import UserId
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Instant, iso
from experiment_engine.domain.rules import ChannelRules, Rules

DATABASES = ("sqlite", "postgresql")
ENDS = FactRule("offer_ends_at", ("event_properties", "offer_ends_at"), FactKind.MOMENT)


def offering(
    budget: OfferBudget, *, offers: Sequence[str] = ("none", "trial"), **changes: Any
) -> Rules:
    """Return rules under which one channel and delay is tried with two angles and an offer."""
    cohort = a_cohort(delays=("2min",), angles=("urgency", "helpful"), offers=offers)
    return some_rules(cohort, offers={"trial": budget}, **changes)


def take_many(world: World, number: int, **properties: object) -> None:
    world.take(*(happened(user=f"u{n}", properties=properties) for n in range(number)))
    world.clock.advance("2min")


def drawn_with_offer(world: World) -> list[dict[str, Any]]:
    return [row for row in world.experiments() if row["combo_key"].endswith("trial")]


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("budget", [OfferBudget(per_day=3), OfferBudget(total=3)])
def test_the_offer_is_left_out_when_its_budget_is_used_up(
    database: str, budget: OfferBudget
) -> None:
    """Exactly the budget carries the offer; all others go out without it, both recorded."""
    with a_world(offering(budget), database=database) as world:
        take_many(world, 40)
        calls = world.deliver()

        made = drawn_with_offer(world)
        replaced = [row for row in made if row["replaced_by"]]
        assert len(made) > 10
        assert len(made) - len(replaced) == 3
        assert all(row["state"] == "sent" for row in world.experiments())
        said = Counter(call.content.body for call in calls)
        assert sum(n for body, n in said.items() if "trial" in body) == 3
        for row in replaced:
            angle = row["combo_key"].split("|")[2]
            assert row["replaced_by"] == f"2min|push|{angle}|none"  # the same angle goes first
            assert row["replaced_for"] == "offer_budget"
            assert row["body"] == f"Come back (push, {angle}, none)"
            assert f"({PUSH}, {angle}, trial)" in row["drawn_text"]
            assert 0 < row["propensity"] < 1


def test_a_budget_in_all_is_not_renewed() -> None:
    """A day later the budget of a day is there again, that in all is not."""
    for budget, second in ((OfferBudget(per_day=2), 4), (OfferBudget(total=2), 2)):
        with a_world(offering(budget, offers=("trial",))) as world:
            for day in range(2):
                world.take(*(happened(user=f"{day} {n}") for n in range(3)))
                world.clock.advance("2min")
                world.deliver()
                world.clock.advance("1d")

            assert [row["state"] for row in world.experiments()].count("sent") == second


def test_without_anything_to_stand_in_it_is_cancelled() -> None:
    """Where every combo has the offer, what the budget does not reach is cancelled."""
    with a_world(offering(OfferBudget(1), offers=("trial",))) as world:
        take_many(world, 3)
        world.deliver()

        assert Counter(world.states()) == {("sent", None): 1, ("cancelled", "offer_budget"): 2}


def test_what_stands_in_must_be_allowed_itself() -> None:
    """A paused combo does not stand in: the likeliest that is not paused does."""
    with a_world(offering(OfferBudget(total=1))) as world:
        take_many(world, 30)
        for angle in ("urgency", "helpful"):
            world.pause(f"combo:{CHECKOUT}:2min|push|{angle}|none")
        world.deliver()

        states = {(row["state"], row["reason"]) for row in drawn_with_offer(world)}
        assert states == {("sent", None), ("cancelled", "offer_budget")}


def test_a_campaign_must_exist_for_what_stands_in() -> None:
    """On WhatsApp what stands in needs a campaign that takes it, or it is not said."""
    cohort = a_cohort(
        delays=("2min",), angles=("urgency",), channels=("whatsapp",), offers=("none", "trial")
    )
    channels = {WHATSAPP: ChannelRules(campaigns={("*", "*", "*"): "1"})}
    rules = some_rules(cohort, offers={"trial": OfferBudget(total=1)}, channels=channels)
    with a_world(rules) as world:
        take_many(world, 20)
        only_trial = {WHATSAPP: ChannelRules(campaigns={("*", "*", "trial"): "1"})}
        world.restart(replace(rules, channels=only_trial))
        world.deliver()

        ended = Counter(row["state"] for row in drawn_with_offer(world))
        assert ended["sent"] == 1
        assert ended["cancelled"] == len(drawn_with_offer(world)) - 1


@pytest.mark.parametrize("database", DATABASES)
def test_what_was_replaced_teaches_nothing(database: str) -> None:
    """It counts in no combo's rate and in nothing that policies learn from, only in the totals."""
    with a_world(offering(OfferBudget(total=1)), database=database) as world:
        take_many(world, 30)
        world.deliver()
        replaced = [row for row in world.experiments() if row["replaced_by"]]
        world.take(*(converted(row["id"]) for row in replaced))

        groups = world.counts()
        assert groups["replaced"] == (len(replaced),) * 3 + (0, len(replaced))
        assert groups["combo"][1] == 0
        kept = [row for row in world.rows(tables.combo_count) if row["counted_for"] == "replaced"]
        assert {row["combo_key"] for row in kept} <= {row["replaced_by"] for row in replaced}
        with world.storage.evidence() as evidence:
            assert sum(s for _, s in evidence.totals(world.mode, CHECKOUT).values()) == 0
            assert not evidence.ages(world.mode, CHECKOUT, (0, 1 << 30))
        report = Report(StorageReader(world.storage.readers), world.rules, world.mode, world.clock)
        told = report.statistics()
        assert told["summary"]["total_converted"] == len(replaced)
        assert all(one["converted_count"] == 0 for one in told["top_combinations"])
        credit = report.experiment(replaced[0]["id"])
        assert credit["credit"]["teaches"] is False
        assert credit["credit"]["counted_for"] == "replaced"
        assert credit["replaced"]["combo_key"] == replaced[0]["replaced_by"]
        assert report.outcomes()["replaced"] == [
            {"reason": "offer_budget", "experiments": len(replaced)}
        ]


def test_the_ledger_agrees_about_what_was_replaced() -> None:
    """Counting anew from the experiments gives the same counters, replaced ones among them."""
    with a_world(offering(OfferBudget(total=2))) as world:
        take_many(world, 30)
        world.deliver()
        world.take(*(converted(row["id"]) for row in world.experiments()[::2]))

        with world.storage.transaction() as tx:
            assert not recount(tx).differences
        reader = StorageReader(world.storage.readers)
        counted = reader.combo_counts(world.mode, None)
        live = sorted(repr(counts) for counts in counted if counts.trials)
        since = sorted(map(repr, reader.combo_counts_since(world.mode, None, NOW)))
        assert live == since


def test_lift_and_sample_ratio_count_what_was_replaced() -> None:
    """Who was written to counts in lift, and what was drawn in the sample ratio: none is lost."""
    with a_world(offering(OfferBudget(total=1))) as world:
        take_many(world, 20)
        world.deliver()
        world.clock.advance("4d")

        with world.storage.evidence() as evidence:
            cohort = world.rules.cohorts[CHECKOUT]
            step = measure(cohort, world.mode, world.rules, evidence, world.now)

        assert step is not None
        assert len(step.outcomes) == 20
        sums = {name: value for (_, name), value in step.sums.items()}
        assert sums["ratio.counted.offer=trial.assigned"] == len(drawn_with_offer(world))


def test_held_out_users_pass_the_same_gate() -> None:
    """Held out where others get something else instead, and dropped where they are dropped."""
    users = [UserId(f"usr_{n}") for n in range(60)]
    held_out = [user for user in users if is_held_out(user, SALT, 0.5)]
    for offers, ends in ((("none", "trial"), "held_out"), (("trial",), "cancelled")):
        rules = offering(OfferBudget(total=100), offers=offers, holdout_share=0.5)
        with a_world(rules) as world:
            world.take(*(happened(user=user) for user in users))
            world.restart(replace(rules, offers={"trial": OfferBudget(total=0)}))
            world.clock.advance("2min")
            world.deliver()

            rows = [r for r in drawn_with_offer(world) if r["user_id"] in held_out]
            others = [r for r in drawn_with_offer(world) if r["user_id"] not in held_out]
            assert len(rows) > 5
            assert {row["state"] for row in rows} == {ends}
            assert {row["state"] for row in others} == {ends.replace("held_out", "sent")}
            assert {row["replaced_for"] for row in rows} == {row["replaced_for"] for row in others}


def test_a_replaced_message_that_was_not_taken_stays_replaced() -> None:
    """A retry says the same as the first try, and gives no offer back that it never used."""
    with a_world(offering(OfferBudget(total=1))) as world:
        take_many(world, 20)
        first = world.deliver(an_answer(Verdict.NOT_TAKEN))
        assert {row["used"] for row in world.rows(tables.offer_use)} == {0}

        world.clock.advance("10s")
        second = world.deliver()

        before = {next(iter(c.recipients)): c.content.body for c in first}
        after = {next(iter(c.recipients)): c.content.body for c in second}
        for row in world.experiments():
            if row["replaced_by"]:
                assert before[row["user_id"]] == after[row["user_id"]] == row["body"]
        assert {row["used"] for row in world.rows(tables.offer_use)} == {1}


# Facts


def resting(**changes: Any) -> Rules:
    """Return rules under which the text of urgency rests on the end of the offer."""
    cohort = a_cohort(delays=("2min", "1h"), angles=("urgency", "helpful"), offers=("none",))
    texts: Texts = {
        ("en", "*", PUSH, angle, "none"): replace(
            a_text(f"Come back ({angle})"), requires=("offer_ends_at",) * (angle == "urgency")
        )
        for angle in ("urgency", "helpful")
    }
    facts = {"offer_ends_at": ENDS}
    return some_rules(cohort, catalogue=Catalogue(texts, {}), facts=facts, **changes)


def angles_drawn(world: World) -> set[tuple[str, str]]:
    keys = [row["combo_key"].split("|") for row in world.experiments()]
    return {(delay, angle) for delay, _, angle, _ in keys}


@pytest.mark.parametrize(
    ("ends", "allowed"),
    [
        (None, set()),
        (iso(NOW), set()),
        (iso(Instant(NOW - DAY)), set()),
        (iso(Instant(NOW + 30 * MINUTE)), {"2min"}),
        (iso(Instant(NOW + 2 * HOUR)), {"2min", "1h"}),
        ("2026-11-22T23:00:00", set()),  # without a zone nobody knows when that is
        ("soon", set()),
        (True, set()),
    ],
)
def test_a_text_that_rests_on_a_moment(ends: object, allowed: set[str]) -> None:
    """It is eligible for the delays after which the moment still lies ahead."""
    with a_world(resting()) as world:
        properties = {} if ends is None else {"offer_ends_at": ends}
        world.take(*(happened(user=f"u{n}", properties=properties) for n in range(60)))

        urgent = {delay for delay, angle in angles_drawn(world) if angle == "urgency"}
        assert urgent == allowed
        assert {delay for delay, angle in angles_drawn(world) if angle == "helpful"}
        for row in world.experiments():
            assert bool(row["facts"]) is ("urgency" in row["combo_key"])


def test_why_a_combo_was_not_eligible() -> None:
    """What was missing and what was over are told apart."""
    with a_world(resting()) as world:
        told = []
        for number, ends in enumerate((None, iso(NOW))):
            properties = {"offer_ends_at": ends} if ends else {}
            world.one(happened(user=f"u{number}", properties=properties))
            report = Report(
                StorageReader(world.storage.readers), world.rules, world.mode, world.clock
            )
            decision = report.experiment(world.experiment()["id"])["decision"]
            told.append(set(decision["not_eligible"]))
        assert told == [{"fact_missing"}, {"fact_expired"}]


@pytest.mark.parametrize("database", DATABASES)
def test_a_fact_is_looked_at_again_at_the_claim(database: str) -> None:
    """A text whose moment has passed while it waited does not go out: another stands in."""
    with a_world(resting(expires_after=DAY), database=database) as world:
        take_many(world, 30, offer_ends_at=iso(Instant(NOW + 3 * HOUR)))
        world.clock.advance("4h")
        calls = world.deliver()

        assert {call.content.body for call in calls} == {"Come back (helpful)"}
        urgent = [row for row in world.experiments() if "urgency" in row["combo_key"]]
        assert urgent
        assert {(r["state"], r["replaced_for"]) for r in urgent} == {("sent", "fact_expired")}


def test_a_fact_that_is_not_declared_any_more() -> None:
    """What nobody can check any more is not said."""
    with a_world(resting(expires_after=DAY)) as world:
        take_many(world, 20, offer_ends_at=iso(Instant(NOW + DAY)))
        world.restart(replace(world.rules, facts={}))
        world.clock.advance("2h")
        world.deliver()

        reasons = {r["replaced_for"] for r in world.experiments() if "urgency" in r["combo_key"]}
        assert reasons == {"fact_missing"}


@pytest.mark.parametrize(("left", "allowed"), [(2, True), (3, True), (1, False), ("2", False)])
def test_a_text_that_rests_on_a_number(left: object, *, allowed: bool) -> None:
    """It is eligible from the least number on that makes it true."""
    name = "offer_ends_at"
    enough = FactRule(name, ("user_properties", "views"), FactKind.NUMBER, at_least=2)
    with a_world(replace(resting(), facts={name: enough})) as world:
        world.take(*(happened(user=f"u{n}", user_properties={"views": left}) for n in range(40)))

        assert any(angle == "urgency" for _, angle in angles_drawn(world)) is allowed


def test_a_fact_must_hold_behind_the_quiet_hours() -> None:
    """What is postponed is planned for the end of the quiet hours: the fact must hold then."""
    quiet = QuietHours(time(9, 30), time(13, 0))  # NOW is 10:00
    for ends, urgent in ((NOW + 3 * HOUR, False), (NOW + 4 * HOUR, True)):
        with a_world(resting(quiet_hours=quiet)) as world:
            properties = {"offer_ends_at": iso(Instant(ends))}
            world.take(*(happened(user=f"u{n}", properties=properties) for n in range(40)))

            assert all(row["postponed"] for row in world.experiments())
            assert any(angle == "urgency" for _, angle in angles_drawn(world)) is urgent
