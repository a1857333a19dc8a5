"""Any decision of any policy is drawn again, bit for bit, and a tampered row is noticed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import time
from math import nextafter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, update
from tests.support.builders import (
    CHECKOUT,
    PUSH,
    WHATSAPP,
    World,
    a_catalogue,
    a_cohort,
    a_world,
    converted,
    happened,
    requested,
    said_no,
    some_rules,
)

from experiment_engine.adapters.storage import rows, tables
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.adapters.storage.reading_pages import PageReader
from experiment_engine.application.receipts import Receipts
from experiment_engine.application.redraw import Found, Redrawn
from experiment_engine.application.report import Report
from experiment_engine.domain.bandit.policies import POLICIES
from experiment_engine.domain.cohorts.cohort import PolicyChoice
from experiment_engine.domain.delivery.copy import Placeholder
from experiment_engine.domain.delivery.limits import OfferBudget
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.events import Fact, Happened, Requested
from experiment_engine.domain.rules import Rules
from experiment_engine.entrypoints.http.partners import read_again

_SPACE: dict[str, Any] = {"channels": ("push", "whatsapp"), "angles": ("urgency", "scarcity")}
COHORT = a_cohort(CHECKOUT, **_SPACE, again_after=0)
SHOW = Placeholder("show", ("event_properties", "show_name"), "your show")
RULES: Rules = replace(
    some_rules(COHORT, holdout_share=0.3),
    catalogue=a_catalogue(COHORT, body="Go on with {show}", placeholders=(SHOW,)),
    quiet_hours=QuietHours(time(16), time(18)),
)
LANGUAGES, SHOWS = ("hi", "bho", "en"), ("Mirzapur", "Mahabharat", "{x}\x00", "")


def under(policy: str) -> Rules:
    """Return the rules with this policy; a factorial one looks at pairs and contexts."""
    options = {"draws": 16.0} if "thompson" in policy else {}
    return replace(
        RULES,
        cohorts={CHECKOUT: replace(COHORT, policy=PolicyChoice(name=policy, options=options))},
    )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Return a world on each database."""
    with a_world(RULES, database=request.param) as opened:
        yield opened


@dataclass(frozen=True)
class Round:
    """Some users leave, some come back, time goes by, and the policy learns or does not."""

    leave: int
    come_back: int
    opt_out: bool
    manual: bool
    learn: bool
    span: str


ROUNDS = st.lists(
    st.builds(
        Round,
        st.integers(1, 25),
        st.integers(0, 6),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["1s", "3min", "50min", "4h", "1d"]),
    ),
    min_size=2,
    max_size=4,
)


def as_told(fact: Happened | Requested) -> Fact:
    """Return the fact with the bytes that its source would have sent."""
    if isinstance(fact, Requested):
        return replace(fact, raw=msgspec.json.encode({"attributes": fact.attributes}))
    body = {
        "event_type": fact.name,
        "user_id": fact.user_id,
        "$insert_id": fact.key,
        "event_properties": fact.event_properties,
    }
    return replace(fact, raw=msgspec.json.encode(body))


def live(world: World, rounds: list[Round], seed: int) -> None:
    rng = np.random.default_rng(seed)
    number = 0
    for one in rounds:
        facts: list[Fact] = []
        for number in range(number, number + one.leave):  # noqa: B020 - it goes on
            properties = {
                "language": str(rng.choice(LANGUAGES)),
                "show_name": str(rng.choice(SHOWS)),
            }
            user = f"usr_{number}"
            if one.opt_out and rng.random() < 0.3:
                facts.append(said_no(user, channel=str(rng.choice([PUSH, WHATSAPP]))))
            if one.manual and rng.random() < 0.3:
                facts.append(as_told(requested(user, attributes=properties)))
            else:
                facts.append(as_told(happened(user=user, properties=properties)))
        number += 1
        world.take(*facts)
        world.clock.advance(one.span)
        world.deliver()
        backs = rng.integers(0, number, one.come_back)
        world.take(*(converted(user=f"usr_{back}") for back in backs))
        if one.learn:
            world.learn()


def redrawn(world: World, experiment_id: str) -> Redrawn:
    readers = world.storage.readers
    with world.storage.evidence() as evidence:
        report = Report(StorageReader(readers), world.rules, world.mode, world.clock)
        receipts = Receipts(report, PageReader(readers), evidence, read_again)
        assert receipts.explain(experiment_id)["experiment_id"] == experiment_id
        return receipts.redraw(experiment_id)


def begin(world: World, policy: str) -> None:
    world.begin_anew()
    world.restart(under(policy))


@settings(max_examples=12)
@given(st.sampled_from(sorted(POLICIES)), ROUNDS, st.integers(0, 2**32))
def test_any_decision_is_drawn_again(
    world: World, policy: str, rounds: list[Round], seed: int
) -> None:
    """Set, distribution, draw, context and text are equal; probabilities while a model is kept."""
    begin(world, policy)
    live(world, rounds, seed)

    models = {row["id"] for row in world.rows(tables.snapshot) if row["model"] is not None}
    for made in world.experiments():
        again = redrawn(world, made["id"])
        assert again.is_equal, again
        found = {check.what: check.found for check in again.checks}
        kept = Found.EQUAL if made["snapshot_id"] in models else Found.NOT_KEPT
        assert found.pop("probabilities") is found.pop("context") is kept
        assert set(found.values()) == {Found.EQUAL}
        event(f"{policy}, probabilities {kept.value}")


def other_seed(made: dict[str, Any], world: World) -> int:
    """Return a seed that draws another combo."""
    row = change_of(world, tables.experiment, made["id"])
    for seed in range(1_000):
        set_to(world, tables.experiment, made["id"], seed=seed)
        if not redrawn(world, made["id"]).is_equal:
            set_to(world, tables.experiment, made["id"], seed=row["seed"])
            return seed
    raise AssertionError("every seed draws the same combo")


def change_of(world: World, table: Table, id_: str) -> dict[str, Any]:
    return next(row for row in world.rows(table) if row["id"] == id_)


def set_to(world: World, table: Table, id_: str, **values: object) -> None:
    with world.storage.transaction() as tx:
        tx.core.execute(update(table).where(table.c.id == id_).values(**values))


def tampered(made: dict[str, Any], world: World) -> dict[str, tuple[Table, str, dict[str, Any]]]:
    """Return by name which row gets which other values."""
    kept = change_of(world, tables.distribution, made["distribution_id"])
    among = change_of(world, tables.eligible_set, kept["eligible_id"])
    places = msgspec.json.decode(among["eligible"])
    shares = list(rows.propensities_from(kept["shares"], among["eligible"]).items())
    (one, much), (other, less), *rest = shares
    moved = [(much + 0.01, [one]), (less - 0.01, [other])]
    moved += [(share, [place]) for place, share in rest]
    another = next(c.key for c in COHORT.space.combos if c.key != made["combo_key"])
    context = '{"language":"bho","show":"Mirzapur","region":"Bihar"}'
    of_experiment: dict[str, dict[str, Any]] = {
        "combo": {"combo_key": another},
        "propensity": {"propensity": nextafter(made["propensity"], 0)},
        "seed": {"seed": other_seed(made, world)},
        "snapshot": {"snapshot_id": "another"},
        "levels": {"levels": '{"language":"xx"}'},
        "context": {"context": context if context != made["context"] else "{}"},
        "title": {"title": "Pay now"},
        "body": {"body": "Pay now"},
    }
    of_set: dict[str, dict[str, Any]] = {
        "eligible": {"eligible": rows.to_json(places[::-1])},
        "refused": {"refused": '{"opted_out":[0]}'},
        "postponed": {"postponed": not among["postponed"]},
    }
    changed: dict[str, tuple[Table, str, dict[str, Any]]] = {
        "shares": (tables.distribution, kept["id"], {"shares": rows.to_json(moved)}),
        "its context": (tables.distribution, kept["id"], {"context": '{"language":"xx"}'}),
    }
    changed |= {name: (tables.experiment, made["id"], to) for name, to in of_experiment.items()}
    return changed | {name: (tables.eligible_set, among["id"], to) for name, to in of_set.items()}


TAMPERED = (
    *("combo", "propensity", "seed", "snapshot", "levels", "context", "title", "body", "shares"),
    *("its context", "eligible", "refused", "postponed"),
)


@pytest.mark.parametrize("policy", ["epsilon_greedy", "factorial_thompson"])
@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_row_is_noticed(world: World, what: str, policy: str) -> None:
    """Whatever is changed of a decision's rows while its model is kept, it is not drawn again."""
    begin(world, policy)
    rounds = [Round(25, 6, False, False, True, "3min"), Round(12, 3, False, False, True, "1s")]
    live(world, rounds, seed=7)
    made = world.experiments()[-1]
    assert redrawn(world, made["id"]).is_equal

    table, id_, values = tampered(made, world)[what]
    set_to(world, table, id_, **values)

    assert not redrawn(world, made["id"]).is_equal


def test_it_waits_for_nobody(world: World) -> None:
    """A decision is explained and drawn again while a writer holds its transaction open."""
    begin(world, "thompson")
    live(world, [Round(5, 0, False, False, True, "1s")], seed=3)
    (first, *_) = world.experiments()
    with world.storage.transaction() as tx:
        tx.set_progress("held", "open")
        assert redrawn(world, first["id"]).is_equal


def test_what_was_replaced_is_drawn_again() -> None:
    """What was drawn is drawn again with its own text, whatever went out instead."""
    cohort = a_cohort(CHECKOUT, angles=("urgency",), offers=("none", "gift"), policy="uniform")
    rules = some_rules(cohort, offers={"gift": OfferBudget(total=1)})
    with a_world(rules) as world:
        world.take(*(as_told(happened(user=f"usr_{n}")) for n in range(30)))
        world.clock.advance("2min")
        world.deliver()
        replaced = [row for row in world.experiments() if row["replaced_by"]]
        assert replaced
        for made in replaced:
            again = redrawn(world, made["id"])
            found = {check.what: check.found for check in again.checks}
            assert found["text"] is found["draw"] is Found.EQUAL, again
