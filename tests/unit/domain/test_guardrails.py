"""What may go out to whom, and when: every rule against what it says, for any situation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import (
    NOW,
    PUSH,
    USER,
    WHATSAPP,
    Texts,
    a_cohort,
    a_text,
    an_experiment,
    some_rules,
)

from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.cohorts.user import NEVER, Choice, User
from experiment_engine.domain.delivery.copy import Catalogue, Placeholder
from experiment_engine.domain.delivery.experiment import Mode, State
from experiment_engine.domain.delivery.limits import FrequencyCap
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.guardrails import (
    OVERDUE_GRACE,
    SPREAD,
    Guardrails,
    Situation,
    still_wanted,
)
from experiment_engine.domain.identifiers import EVERY_CHANNEL, EventName
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, Duration, Instant
from experiment_engine.domain.reasons import Reason
from experiment_engine.domain.rules import ChannelRules, Rules

COHORT = a_cohort(
    delays=("1h", "2min", "6h"),  # not in order
    channels=("push", "whatsapp"),
    offers=("none", "rupee_1"),
)
SPACE = COHORT.space
PLACEHOLDERS = {
    name: Placeholder(name, ("event_properties", name), default)
    for name, default in (("show", None), ("plan", "your plan"))
}
# The urgent texts need a show, the scarce ones have a stand-in, but in Hindi; scarcity on WhatsApp
# has no text with an offer.
TEXTS: Texts = {
    ("en", "*", PUSH, "urgency", "*"): a_text("{show} waits"),
    ("en", "*", WHATSAPP, "urgency", "*"): a_text("{show} waits"),
    ("en", "*", PUSH, "scarcity", "*"): a_text("{plan} ends"),
    ("en", "*", WHATSAPP, "scarcity", "none"): a_text("{plan} ends"),
    ("hi", "*", PUSH, "scarcity", "none"): a_text("{show} ends", language="hi"),
}


@dataclass(frozen=True)
class Case:
    """A configuration, a user and a situation."""

    rules: Rules
    mode: Mode
    user: User
    situation: Situation

    def guardrails(self) -> Guardrails:
        return Guardrails(self.rules, self.mode)


def times() -> st.SearchStrategy[time]:
    return st.integers(0, 24 * 6 - 1).map(lambda tens: time(tens // 6, tens % 6 * 10))


QUIET = st.none() | st.builds(QuietHours, times(), times())
CAP = st.none() | st.builds(
    FrequencyCap,
    messages=st.integers(1, 3),
    per=st.sampled_from([HOUR, DAY, Duration(7 * DAY)]),
    min_gap=st.sampled_from([Duration(0), HOUR, Duration(3 * HOUR)]),
)
CHANNEL = st.builds(
    ChannelRules,
    consent=st.sampled_from(["assumed", "assumed", "assumed", "required"]),
    quiet_hours=QUIET,
    frequency_cap=CAP,
    endpoint=st.sampled_from(["externaltrigger", "whatsapp"]),
    campaigns=st.sampled_from([{}, {("*", "*", "*"): "1"}, {("*", "urgency", "*"): "2"}]),
)
RULES = st.builds(
    lambda push, whatsapp, quiet, cap: some_rules(
        COHORT,
        catalogue=Catalogue(TEXTS, PLACEHOLDERS),
        channels={PUSH: push, WHATSAPP: whatsapp},
        quiet_hours=quiet,
        frequency_cap=cap,
    ),
    CHANNEL,
    CHANNEL,
    QUIET,
    CAP,
)
MOMENTS = st.integers(-30 * 6, 0).map(lambda tens: Instant(NOW + tens * 10 * MINUTE))
CHOICES = st.dictionaries(
    st.sampled_from([PUSH, WHATSAPP, EVERY_CHANNEL]),
    st.builds(Choice, st.just(NEVER) | MOMENTS, st.just(NEVER) | MOMENTS),
    max_size=2,
)
PLACED = st.builds(
    lambda state, at, channel, mode: an_experiment(
        state, placed_at=at, channel=channel, mode=mode
    ),
    st.sampled_from([State.SENT, State.CLAIMED, State.UNKNOWN, State.HELD_OUT, State.FAILED]),
    MOMENTS,
    st.sampled_from([PUSH, WHATSAPP]),
    st.sampled_from([Mode.LIVE, Mode.LIVE, Mode.LIVE, Mode.DRY_RUN]),
)
USERS = st.builds(
    lambda placed, choices: User(USER, experiments=placed, choices=choices),
    st.lists(PLACED, max_size=4),
    st.just({}) | st.just({}) | CHOICES,
)
SITUATIONS = st.builds(
    lambda ago, zone, chain, values, failing, spent: Situation(
        now=NOW,
        triggered_at=Instant(NOW - ago * MINUTE),
        zone=zone,
        chain=chain,
        values=values,
        failing=frozenset(failing),
        spent=frozenset(spent),
    ),
    st.integers(0, 8 * 60) | st.sampled_from([0, 3, 61, 361]),
    st.sampled_from(["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Chatham"]),
    st.sampled_from([("en",), ("hi", "en")]),
    st.sampled_from([{}, {"show": "Mirzapur"}, {"show": "x", "plan": "gold"}]),
    st.sampled_from([(), (), (), (), (PUSH,), (WHATSAPP,), (PUSH, WHATSAPP)]),
    st.sampled_from([(), (), (), (), ("rupee_1",), ("none", "rupee_1")]),
)
MODES = st.sampled_from([Mode.LIVE, Mode.LIVE, Mode.DRY_RUN])
CASES = st.builds(Case, RULES, MODES, USERS, SITUATIONS)


# What the contract says, combo by combo


def due(combo: Combo, situation: Situation) -> Instant:
    return max(Instant(situation.triggered_at + combo.delay), situation.now)


def is_overdue(combo: Combo, case: Case) -> bool:
    return case.situation.triggered_at + combo.delay < case.situation.now - OVERDUE_GRACE


def is_quiet(combo: Combo, case: Case, at: Instant) -> bool:
    quiet = case.rules.channels[combo.channel].quiet_hours or case.rules.quiet_hours
    return quiet is not None and quiet.holds(at, case.situation.zone)


def is_capped(combo: Combo, case: Case, at: Instant) -> bool:
    takes = {State.SENT, State.CLAIMED, State.UNKNOWN, State.HELD_OUT}
    placed = [
        (e.placed_at, e.channel)
        for e in case.user.experiments
        if e.placed_at is not None and e.state in takes and e.mode is case.mode
    ]
    own = [moment for moment, channel in placed if channel == combo.channel]
    every = [moment for moment, _ in placed]
    caps = [
        (case.rules.frequency_cap, every),
        (case.rules.channels[combo.channel].frequency_cap, own),
    ]
    return any(
        sum(moment > at - cap.per for moment in moments) >= cap.messages
        or any(at - moment < cap.min_gap for moment in moments)
        for cap, moments in caps
        if cap is not None
    )


def refusals_apart_from_time(combo: Combo, case: Case) -> set[Reason]:
    """Return every reason why this user cannot get this combo at any time."""
    rules, situation = case.rules.channels[combo.channel], case.situation
    found = set()
    if case.user.opted_out(combo.channel):
        found.add(Reason.OPTED_OUT)
    if rules.consent == "required" and not case.user.consented(combo.channel):
        found.add(Reason.NO_CONSENT)
    if combo.channel in situation.failing:
        found.add(Reason.CHANNEL_FAILING)
    if combo.offer in situation.spent:
        found.add(Reason.OFFER_BUDGET)
    in_hindi = (combo.channel, combo.angle, combo.offer) == (PUSH, "scarcity", "none")
    asks = combo.angle == "urgency" or (in_hindi and "hi" in situation.chain)
    needs_show = asks and "show" not in situation.values
    has_no_text = (combo.channel, combo.angle, combo.offer) == (WHATSAPP, "scarcity", "rupee_1")
    if needs_show or has_no_text:
        found.add(Reason.MISSING_VALUE)
    campaigns = {angle for _, angle, _ in rules.campaigns}
    has_campaign = bool(campaigns & {"*", combo.angle})
    through_campaign = combo.channel == WHATSAPP and rules.endpoint == "externaltrigger"
    if through_campaign and case.mode is Mode.LIVE and not has_campaign:
        found.add(Reason.NO_CAMPAIGN)
    return found


def refusals(combo: Combo, case: Case) -> set[Reason]:
    """Return every reason why this user cannot get this combo at its own time."""
    found, at = refusals_apart_from_time(combo, case), due(combo, case.situation)
    if is_overdue(combo, case):
        return found | {Reason.OVERDUE}
    if is_quiet(combo, case, at):
        found.add(Reason.QUIET_HOURS)
    if is_capped(combo, case, at):
        found.add(Reason.FREQUENCY_CAP)
    return found


@settings(max_examples=200)
@given(case=CASES)
def test_every_combo_is_eligible_or_refused(case: Case) -> None:
    """Eligible and refused together are all combos, each once, and no reason is empty."""
    found = case.guardrails().eligibility(COHORT, case.user, case.situation)

    refused = [place for places in found.refused.values() for place in places]
    assert sorted([*found.eligible, *refused]) == list(range(len(SPACE)))
    assert all(found.refused.values())
    assert list(found.eligible) == sorted(found.eligible)


@settings(max_examples=200)
@given(case=CASES)
def test_eligible_is_exactly_what_nothing_forbids(case: Case) -> None:
    """At their own times the combos without any reason against them are eligible, no others."""
    found = case.guardrails().eligibility(COHORT, case.user, case.situation)

    free = tuple(combo.index for combo in SPACE.combos if not refusals(combo, case))
    if free:
        assert found.eligible == free
    assert found.postponed <= (not free)
    assert free or found.postponed or not found.eligible


@settings(max_examples=200)
@given(case=CASES)
def test_the_reason_is_true(case: Case) -> None:
    """The reason that is given for a combo is one that holds for it."""
    found = case.guardrails().eligibility(COHORT, case.user, case.situation)

    for reason, places in found.refused.items():
        for place in places:
            combo = SPACE[place]
            if found.postponed and combo.delay != SPACE.shortest:
                holds = refusals_apart_from_time(combo, case) | {Reason.QUIET_HOURS}
            elif found.postponed:
                holds = refusals_apart_from_time(combo, case) | {Reason.FREQUENCY_CAP}
            else:
                holds = refusals(combo, case)
            assert reason in holds


@settings(max_examples=200)
@given(case=CASES, spread=st.floats(0, 1, exclude_max=True))
def test_what_is_eligible_goes_out_at_a_good_time(case: Case, spread: float) -> None:
    """No eligible combo is sent early, in quiet hours, over a cap, or long after its time."""
    guardrails = case.guardrails()
    found = guardrails.eligibility(COHORT, case.user, case.situation)

    for place in found.eligible:
        combo = SPACE[place]
        at = guardrails.send_time(
            COHORT, combo, case.situation, postponed=found.postponed, spread=spread
        )
        assert at >= case.situation.now
        assert not is_quiet(combo, case, at)
        assert not is_capped(combo, case, at)
        assert not refusals_apart_from_time(combo, case)
        if not found.postponed:
            assert at == due(combo, case.situation)
            assert at <= case.situation.triggered_at + combo.delay + OVERDUE_GRACE or (
                at == case.situation.triggered_at + combo.delay
            )


@settings(max_examples=200)
@given(case=CASES, spread=st.floats(0, 1, exclude_max=True))
def test_postponed(case: Case, spread: float) -> None:
    """Only if quiet hours forbid the last combos: the shortest delay's, soon after (R8)."""
    guardrails = case.guardrails()
    found = guardrails.eligibility(COHORT, case.user, case.situation)

    resting = {
        combo.channel
        for combo in SPACE.combos
        if Reason.QUIET_HOURS in refusals(combo, case)
        and not refusals_apart_from_time(combo, case)
    }
    if found.postponed:
        assert resting
    if not found.postponed or not found.eligible:
        return
    assert {SPACE[place].delay for place in found.eligible} == {SPACE.shortest}
    for combo in (SPACE[place] for place in found.eligible):
        quiet = case.rules.quiet_hours_of(combo.channel)
        sent = guardrails.send_time(COHORT, combo, case.situation, postponed=True, spread=spread)
        moments = [due(other, case.situation) for other in SPACE.combos]
        ends = [quiet.ends_after(at, case.situation.zone) for at in moments] if quiet else moments
        assert any(0 <= sent - end < SPREAD for end in ends)


@settings(max_examples=100)
@given(cases=st.lists(CASES, min_size=2, max_size=6))
def test_what_was_asked_before_does_not_matter(cases: list[Case]) -> None:
    """Guardrails that have answered many situations answer each as new ones do."""
    first = cases[0]
    used = first.guardrails()

    for case in cases:
        fresh = Guardrails(first.rules, first.mode)
        asked = COHORT, case.user, case.situation
        assert used.eligibility(*asked) == fresh.eligibility(*asked)


# Single rules


def situation(ago: str = "now", **changes: object) -> Situation:
    spans: Mapping[str, int] = {"now": 0, "5min": 5}
    given: dict[str, object] = {
        "now": NOW,
        "triggered_at": Instant(NOW - spans[ago] * MINUTE),
        "zone": "UTC",
        "chain": ("en",),
        "values": {},
    }
    return Situation(**{**given, **changes})  # type: ignore[arg-type]


def reasons(rules: Rules, user: User, at: Situation, mode: Mode = Mode.LIVE) -> Mapping[str, str]:
    """Return combo key -> reason, for those that are refused."""
    cohort = next(iter(rules.cohorts.values()))
    found = Guardrails(rules, mode).eligibility(cohort, user, at)
    return {
        cohort.space[place].key: reason
        for reason, places in found.refused.items()
        for place in places
    }


@pytest.mark.parametrize(
    ("late", "eligible"), [(0, True), (MINUTE, True), (MINUTE + 1, False), (HOUR, False)]
)
def test_overdue(*, late: int, eligible: bool) -> None:
    """A combo is eligible up to a minute after its send time, and goes out at once (R7)."""
    rules = some_rules(a_cohort(delays=("2min",), angles=("a",)))
    guardrails, cohort = Guardrails(rules, Mode.LIVE), next(iter(rules.cohorts.values()))
    at = situation(triggered_at=Instant(NOW - 2 * MINUTE - late))

    found = guardrails.eligibility(cohort, User(USER), at)

    assert bool(found.eligible) is eligible
    if not eligible:
        assert found.why_none is Reason.OVERDUE
    sent = guardrails.send_time(cohort, cohort.space[0], at, postponed=False, spread=0.5)
    assert sent == NOW


def test_why_none_names_the_one_reason() -> None:
    """If every combo is refused for the same reason, that is the answer; else there is none."""
    rules = some_rules(a_cohort(delays=("2min", "1h"), angles=("a",)))
    guardrails, cohort = Guardrails(rules, Mode.LIVE), next(iter(rules.cohorts.values()))
    no = User(USER, choices={EVERY_CHANNEL: Choice(no_at=NOW)})
    capped = User(USER, experiments=[an_experiment(State.SENT, placed_at=NOW)])
    tight = replace(rules, frequency_cap=FrequencyCap(1, DAY))

    assert guardrails.eligibility(cohort, no, situation()).why_none is Reason.OPTED_OUT
    both = Guardrails(tight, Mode.LIVE).eligibility(cohort, capped, situation("5min"))
    assert both.why_none is Reason.NO_ELIGIBLE_COMBO


def test_quiet_hours_make_way_for_other_delays() -> None:
    """While one delay falls outside the quiet hours, only those inside are refused (R8)."""
    soon = QuietHours(time(10, 30), time(13))  # it is 10:00
    rules = some_rules(a_cohort(delays=("2min", "1h", "6h"), angles=("a",)), quiet_hours=soon)

    assert reasons(rules, User(USER), situation()) == {"1h|push|a|none": Reason.QUIET_HOURS}


def test_postponed_by_all_delays() -> None:
    """If every delay falls inside, the shortest one's combos go out after the quiet hours (R8)."""
    night = QuietHours(time(10), time(20))  # it is 10:00
    rules = some_rules(a_cohort(delays=("2min", "1h", "6h"), angles=("a", "b")), quiet_hours=night)
    guardrails, cohort = Guardrails(rules, Mode.LIVE), next(iter(rules.cohorts.values()))

    found = guardrails.eligibility(cohort, User(USER), situation())

    assert found.postponed
    assert [cohort.space[place].key for place in found.eligible] == [
        "2min|push|a|none",
        "2min|push|b|none",
    ]
    combo = cohort.space[found.eligible[0]]
    sent = [
        guardrails.send_time(cohort, combo, situation(), postponed=True, spread=spread) - NOW
        for spread in (0.0, 0.5, 0.999)
    ]
    assert sent[:2] == [10 * HOUR, 10 * HOUR + 15 * MINUTE]
    assert sent[2] < 10 * HOUR + SPREAD


def test_postponed_into_a_short_gap() -> None:
    """Where quiet hours begin again within the half hour, it goes out as they end."""
    rules = some_rules(
        a_cohort(delays=("2min",), angles=("a",)), quiet_hours=QuietHours(time(8, 10), time(8))
    )
    guardrails, cohort = Guardrails(rules, Mode.LIVE), next(iter(rules.cohorts.values()))

    found = guardrails.eligibility(cohort, User(USER), situation())
    sent = guardrails.send_time(cohort, cohort.space[0], situation(), postponed=True, spread=0.9)

    assert found.postponed
    assert (sent - NOW) / HOUR == 22


def test_one_channel_rests_and_the_other_does_not() -> None:
    """A channel that may go out at once is not held back by another that rests."""
    night = QuietHours(time(9), time(20))
    rules = some_rules(
        a_cohort(delays=("2min",), channels=("push", "whatsapp"), angles=("a",)),
        channels={
            PUSH: ChannelRules(quiet_hours=night),
            WHATSAPP: ChannelRules(campaigns={("*", "*", "*"): "1"}),
        },
    )

    assert reasons(rules, User(USER), situation()) == {"2min|push|a|none": Reason.QUIET_HOURS}


def test_dry_run_needs_no_campaign() -> None:
    """WhatsApp without a campaign is refused when sending is live, and takes part in dry run."""
    rules = some_rules(
        a_cohort(delays=("2min",), channels=("whatsapp",), angles=("a",)),
        channels={WHATSAPP: ChannelRules()},
    )

    assert set(reasons(rules, User(USER), situation()).values()) == {Reason.NO_CAMPAIGN}
    assert not reasons(rules, User(USER), situation(), Mode.DRY_RUN)


@pytest.mark.parametrize(
    ("no_at", "yes_at", "required", "refusal"),
    [
        (None, None, False, None),
        (None, None, True, Reason.NO_CONSENT),
        (None, 5, True, None),
        (5, None, False, Reason.OPTED_OUT),
        (5, 6, True, None),
        (6, 5, True, Reason.OPTED_OUT),
        (5, 5, False, Reason.OPTED_OUT),
    ],
)
@pytest.mark.parametrize("channel", [PUSH, EVERY_CHANNEL])
def test_consent(
    *, channel: str, no_at: int | None, yes_at: int | None, required: bool, refusal: Reason | None
) -> None:
    """Required consent has to be there; a no wins until a newer yes (R12)."""
    choice = Choice(
        NEVER if no_at is None else Instant(no_at), NEVER if yes_at is None else Instant(yes_at)
    )
    user = User(USER, choices={channel: choice} if choice != Choice() else {})  # type: ignore[dict-item]
    consent = "required" if required else "assumed"
    rules = some_rules(channels={PUSH: ChannelRules(consent=consent)})  # type: ignore[arg-type]

    assert Guardrails(rules, Mode.LIVE).may_contact(PUSH, user) is refusal


def test_the_erased_are_not_contacted() -> None:
    """Nobody writes to a user who asked to be forgotten."""
    user = User(USER, erased_at=NOW)

    assert Guardrails(some_rules(), Mode.LIVE).may_contact(PUSH, user) is Reason.ERASED


@pytest.mark.parametrize(
    ("reached", "wanted"),
    [(None, True), (-31 * DAY, True), (-30 * DAY, False), (-1, False), (0, False), (DAY, False)],
)
def test_still_wanted(*, reached: int | None, wanted: bool) -> None:
    """Who reached the goal within `converted_quiet` before the trigger, or since, gets nothing."""
    cohort = a_cohort()
    goals = {} if reached is None else {EventName("purchase"): Instant(NOW + reached)}

    assert still_wanted(cohort, an_experiment(), User(USER, goals=goals)) is wanted
