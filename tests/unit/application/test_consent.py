"""A yes opens what it was said for, a no closes it, and only a newer yes opens it again."""

from itertools import permutations
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import (
    NOW,
    PUSH,
    USER,
    WHATSAPP,
    World,
    a_cohort,
    a_world,
    happened,
    said_no,
    said_yes,
    some_rules,
)

from experiment_engine.adapters.storage import tables
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.events import Chosen, Source, Terms
from experiment_engine.domain.guardrails import Guardrails
from experiment_engine.domain.identifiers import EVERY_CHANNEL, Channel
from experiment_engine.domain.moments import DAY, HOUR, Instant
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import ChannelRules, Rules

CHANNELS = (PUSH, WHATSAPP)
Consent = Literal["assumed", "required"]


class Said(NamedTuple):
    """What a user said about messages, and when."""

    channel: Channel
    allowed: bool
    at: Instant

    def fact(self) -> Chosen:
        """Return it as it is taken in."""
        return Chosen(USER, self.allowed, self.at, b"{}", Source.API, self.channel)


def rules(consent: Consent) -> Rules:
    cohort = a_cohort(channels=CHANNELS, delays=("2min",))
    return some_rules(
        cohort,
        channels={
            c: ChannelRules(consent=consent, campaigns={("*", "*", "*"): "1"}) for c in CHANNELS
        },
        opt_out_events=frozenset({"stop"}),
        opt_in_events=frozenset({"start"}),
    )


def refusal(said: list[Said], channel: Channel, consent: str) -> Reason | None:
    """Say the rule in the plainest words: the newest of what concerns the channel holds (R12)."""
    about = [one for one in said if one.channel in (channel, EVERY_CHANNEL)]
    newest = max((one.at for one in about), default=None)
    last = {one.allowed for one in about if one.at == newest}
    if False in last:  # at the same moment a no wins
        return Reason.OPTED_OUT
    return Reason.NO_CONSENT if not last and consent == "required" else None


def refusals(world: World, consent: Consent) -> dict[Channel, Reason | None]:
    with world.storage.transaction() as tx:
        users = tx.users([USER], Instant(0), [])
    guardrails = Guardrails(rules(consent), Mode.LIVE)
    user = users.get(USER)
    return (
        {c: guardrails.may_contact(c, user) for c in CHANNELS} if user else dict.fromkeys(CHANNELS)
    )


SAID = st.lists(
    st.builds(
        Said,
        st.sampled_from([*CHANNELS, EVERY_CHANNEL]),
        st.booleans(),
        st.integers(0, 3).map(lambda hours: Instant(NOW - hours * HOUR)),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("consent", ["assumed", "required"])
@settings(max_examples=40, deadline=None)
@given(said=SAID)
def test_every_order_of_arrival_leads_to_the_same(consent: Consent, said: list[Said]) -> None:
    """Whatever order a user's yes and no come in, the newest of what concerns a channel holds."""
    expected = {channel: refusal(said, channel, consent) for channel in CHANNELS}
    with a_world(rules(consent)) as world:
        for order in permutations(said):
            world.begin_anew()
            for one in order:
                world.one(one.fact())
            assert refusals(world, consent) == expected
            world.one(happened())
            drawn = {row["channel"] for row in world.experiments()}
            assert drawn <= {channel for channel, why in expected.items() if why is None}
            assert bool(drawn) is (None in expected.values())


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_yes_on_one_channel_opens_no_other(database: str) -> None:
    """Where consent is required, a yes for one channel is for that one alone."""
    with a_world(rules("required"), database=database) as world:
        world.one(said_yes(channel=WHATSAPP))

        assert refusals(world, "required") == {PUSH: Reason.NO_CONSENT, WHATSAPP: None}
        world.take(*(happened() for _ in range(3)))
        assert {row["channel"] for row in world.experiments()} == {WHATSAPP}


def test_a_no_stops_what_waits_and_what_comes_later() -> None:
    """Whatever comes after a no starts nothing, until a newer yes."""
    with a_world(rules("assumed")) as world:
        world.take(happened(), said_no(at=NOW))
        assert world.states() == [("cancelled", "opted_out")]

        for _ in range(3):
            world.clock.advance("2d")
            assert world.one(happened()).reason == Reason.OPTED_OUT
        world.one(said_yes(at=NOW - DAY))  # told late, and older than the no
        assert world.one(happened()).reason == Reason.OPTED_OUT
        world.one(said_yes(at=world.now))
        assert world.one(happened()).status == "scheduled"


def test_what_was_agreed_to_is_kept() -> None:
    """The record has source, time, and, where they were told, text version and purpose."""
    with a_world(rules("required")) as world:
        terms = Terms("2026-10", "reminders")
        world.one(Chosen(USER, True, NOW, b"{}", Source.API, PUSH, terms=terms))
        event = {"channel": "whatsapp", "text_version": "v7", "purpose": " offers\x00 "}
        world.one(happened("start", properties=event, at=NOW))

        kept = [tuple(row.values()) for row in world.rows(tables.choice)]
        assert kept == [
            (USER, "push", True, NOW, "api", "2026-10", "reminders"),
            (USER, "whatsapp", True, NOW, "amplitude", "v7", "offers"),
        ]


@pytest.mark.parametrize(
    ("named", "channel"),
    [("push", "push"), ("email", "*"), (None, "*"), (7, "*"), (["push"], "*")],
)
def test_an_event_may_name_its_channel(named: object, channel: str) -> None:
    """An event is about the channel it names, if there is one of that name; else about all."""
    with a_world(rules("assumed")) as world:
        world.one(happened("stop", properties={"channel": named}))
        assert [row["channel"] for row in world.rows(tables.choice)] == [channel]
