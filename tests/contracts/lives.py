"""Random lives of a few users: everything that can happen to the loop, in any order.

A life is a list of steps over one configuration in which every rule has something to do. The
same life always leads to the same rows, because the clock and chance are the test's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import time
from typing import Any, Literal, assert_never

from hypothesis import strategies as st
from tests.support.builders import (
    CHECKOUT,
    NOW,
    PAYMENT,
    PAYWALL,
    PUSH,
    SALT,
    WHATSAPP,
    World,
    a_catalogue,
    a_cohort,
    converted,
    happened,
    opened,
    requested,
    said_no,
    said_yes,
    some_rules,
)
from tests.support.fakes import an_answer

from experiment_engine.adapters.storage import tables
from experiment_engine.application.manage import erase_user
from experiment_engine.application.results import Result
from experiment_engine.domain.cohorts.holdout import is_held_out
from experiment_engine.domain.delivery.copy import Placeholder, Text
from experiment_engine.domain.delivery.facts import FactKind, FactRule
from experiment_engine.domain.delivery.limits import FrequencyCap, OfferBudget
from experiment_engine.domain.delivery.message import Call, Verdict
from experiment_engine.domain.delivery.quiet_hours import QuietHours
from experiment_engine.domain.events import Anonymous, Fact, Ping, Source, Unreadable
from experiment_engine.domain.identifiers import EVERY_CHANNEL, EventName, ExperimentId, UserId
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, SECOND, Duration, Instant, iso
from experiment_engine.domain.rules import Rules

HOLDOUT = 0.3
_NAMES = [UserId(f"usr_{number}") for number in range(20)]
_HELD = [user for user in _NAMES if is_held_out(user, SALT, HOLDOUT)]
USERS = (*[user for user in _NAMES if user not in _HELD][:2], _HELD[0])

# Three cohorts: two share a goal, one counts, and the goal of that one triggers another.
_SPACE: dict[str, Any] = {"channels": ("push", "whatsapp"), "offers": ("none", "rupee_1")}
_COHORTS = (
    a_cohort(CHECKOUT, again_after=Duration(30 * MINUTE), converted_quiet=HOUR, **_SPACE),
    a_cohort(
        PAYWALL,
        event="paywall_viewed",
        goal="trial_activated",
        count=2,
        within=DAY,
        again_after=HOUR,
        converted_quiet=HOUR,
        max_age=Duration(2 * DAY),
        delays=("2min",),
        **_SPACE,
    ),
    a_cohort(
        PAYMENT,
        event="trial_activated",
        delays=("2min", "6h"),
        again_after=Duration(0),
        converted_quiet=Duration(0),
        **_SPACE,
    ),
)


def _resting(key: tuple[str, ...], text: Text) -> Text:
    """Let the push of urgency without an offer rest on a fact."""
    urgent = key[2:] == (PUSH, "urgency", "none")
    return replace(text, requires=("ends_at",)) if urgent else text


_SHOW = Placeholder("show", ("event_properties", "show"))
_PLAN = Placeholder("plan", ("event_properties", "plan"), "your plan")
_TEXTS = a_catalogue(*_COHORTS, body="{plan}", placeholders=(_SHOW, _PLAN))
_PLAIN = some_rules(*_COHORTS)
RULES: Rules = replace(
    _PLAIN,
    catalogue=replace(
        _TEXTS,
        texts={
            **{key: _resting(key, text) for key, text in _TEXTS.texts.items()},
            **a_catalogue(
                a_cohort(angles=("scarcity",), offers=("rupee_1",)), body="{show}"
            ).texts,
        },
    ),
    channels={
        PUSH: replace(_PLAIN.channels[PUSH], batch=2),
        WHATSAPP: replace(
            _PLAIN.channels[WHATSAPP], consent="required", frequency_cap=FrequencyCap(2, DAY)
        ),
    },
    quiet_hours=QuietHours(time(10, 20), time(13)),  # the first step is at 10:00
    frequency_cap=FrequencyCap(4, DAY, min_gap=Duration(5 * MINUTE)),
    holdout_share=HOLDOUT,
    offers={"rupee_1": OfferBudget(per_day=1, total=3)},
    facts={"ends_at": FactRule("ends_at", ("event_properties", "ends_at"), FactKind.MOMENT)},
    opt_out_events=frozenset({EventName("pushes_off")}),
    opt_in_events=frozenset({EventName("pushes_on")}),
)

# Facts, before it is known which experiments there are

EVENTS = (
    "checkout_abandoned",
    "paywall_viewed",
    "trial_activated",  # a goal and a trigger
    "purchase",
    "pushes_off",
    "pushes_on",
    "app_opened",
)
AGO = (0, 30 * SECOND, 3 * MINUTE, HOUR, 5 * HOUR, 7 * HOUR, 2 * DAY, 8 * DAY, 40 * DAY)
PROPERTIES: tuple[dict[str, object], ...] = (
    {},
    {"show": "Mirzapur", "plan": "gold"},
    {"timezone": "Pacific/Chatham", "show": "{{x}}"},
    {"show": "Mirzapur", "ends_at": iso(Instant(NOW + 3 * HOUR))},
)
Reference = tuple[Literal["kept", "batch"], int]  # which experiment, from the newest on


@dataclass(frozen=True)
class Draft:
    """A fact in the making; `experiment` is looked up when it is taken in."""

    kind: str
    user: UserId | None = None
    name: str = ""
    ago: int | None = None
    key: int = 0
    properties: int = 0
    channel: str = EVERY_CHANNEL
    experiment: Reference | Literal["unknown"] | None = None

    def fact(  # noqa: PLR0911 - one return a kind
        self, now: int, kept: Sequence[ExperimentId], batch: Sequence[ExperimentId]
    ) -> Fact:
        """Return the fact, told now."""
        at = None if self.ago is None else now - self.ago
        user, experiment = self.user, self._experiment(kept, batch)
        match self.kind:
            case "happened":
                return happened(
                    self.name,
                    user=user or USERS[0],
                    at=at,
                    key=f"key-{self.key}",
                    properties=PROPERTIES[self.properties],
                )
            case "opened":
                return opened(experiment, user=user, at=at)
            case "converted":
                return converted(experiment, user=user, at=at)
            case "no":
                choice = said_no(user or "", channel=self.channel, at=at)
                return replace(choice, user_id=user, experiment_id=experiment)
            case "yes":
                return said_yes(user or USERS[0], channel=self.channel, at=at)
            case "requested":
                attributes = PROPERTIES[self.properties]
                return requested(user or USERS[0], self.name, attributes)
            case "anonymous":
                return Anonymous(EventName("checkout_abandoned"), f"key-{self.key}", b"{}")
            case "unreadable":
                return Unreadable("not_an_object", b"raw-%d" % self.key, Source.AMPLITUDE)
            case _:
                return Ping(b"{}")

    def _experiment(
        self, kept: Sequence[ExperimentId], batch: Sequence[ExperimentId]
    ) -> ExperimentId | None:
        if self.experiment is None:
            return None
        if self.experiment == "unknown":
            return ExperimentId("nobody's")
        where, place = self.experiment
        known = kept if where == "kept" else batch
        return known[-1 - place % len(known)] if known else ExperimentId("nobody's")


def _often(usual: Sequence[Any], *others: Any, times: int = 6) -> st.SearchStrategy[Any]:
    return st.sampled_from([*usual] * times + [*others])


def _mostly(*weighted: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    places = [place for place, (weight, _) in enumerate(weighted) for _ in range(weight)]
    return st.sampled_from(places).flatmap(lambda place: weighted[place][1])


_users = _often(USERS[:1], *USERS, times=3)
_ago = _often([0, SECOND, 2 * SECOND], None, -HOUR, *AGO)  # mostly in a moment's reach
_key = st.integers(0, 60)
_properties = _often([1, 3], 0, 2)
_named = st.one_of(
    st.none(),
    st.tuples(_often(["kept"], "batch", times=3), _often([0], 1, 2, 3, times=3)),
    st.tuples(st.just("kept"), st.integers(0, 6)),
    st.just("unknown"),
)
_channels = st.sampled_from([EVERY_CHANNEL, PUSH, WHATSAPP])
_happened = st.builds(
    Draft,
    st.just("happened"),
    _users,
    _often(EVENTS[:3], *EVENTS, times=8),
    _ago,
    _key,
    _properties,
)
_feedback = st.builds(
    lambda kind, user, ago, experiment: Draft(
        kind,
        USERS[0] if user is None and experiment is None else user,
        ago=ago,
        experiment=experiment,
    ),
    st.sampled_from(["opened", "converted"]),
    st.none() | _users,
    _ago,
    _named,
)
_choices = st.builds(
    lambda kind, user, ago, channel: Draft(kind, user, ago=ago, channel=channel),
    _often(["no"], "yes", "yes", "yes", times=1),
    _users,
    _ago,
    _channels,
) | st.builds(
    lambda experiment: Draft("no", experiment=experiment),
    st.tuples(st.sampled_from(["kept", "batch"]), st.integers(0, 4)),
)
_asked = st.builds(
    lambda user, cohort, properties: Draft("requested", user, cohort, properties=properties),
    _users,
    st.sampled_from(list(RULES.cohorts)),
    _properties,
)
_odd = st.builds(
    lambda kind, key: Draft(kind, key=key),
    st.sampled_from(["anonymous", "unreadable", "ping"]),
    st.integers(0, 3),
)
_single = _mostly((16, _happened), (5, _feedback), (2, _choices), (1, _asked), (1, _odd)).map(
    lambda draft: [draft]
)


SCRIPTS = (
    *("stop and go on", "stop", "convert and go on", "convert at once", "stop at once"),
    *("twice", "open twice"),
)


def _script(user: UserId, event: str, what: str, key: int) -> list[Draft]:
    """Return facts of one user that follow from each other, within three seconds."""
    start = Draft("happened", user, event, 0, key, 1)
    before = replace(start, ago=SECOND, key=key + 100)
    no, yes = Draft("no", user, ago=2 * SECOND), Draft("yes", user, ago=SECOND)
    scripts: dict[str, list[Draft]] = {
        "stop and go on": [no, yes, start],
        "stop": [no, start, replace(yes, ago=0)],
        "convert and go on": [Draft("converted", user, ago=2 * SECOND), start],
        "convert at once": [start, Draft("converted", experiment=("batch", 0)), start],
        "stop at once": [start, Draft("no", experiment=("batch", 0))],
        "twice": [start, start, before],
        "open twice": [Draft("opened", user, ago=SECOND), Draft("opened", user, ago=0)],
    }
    return scripts[what]


_scripts = st.builds(
    _script,
    _users,
    st.sampled_from(EVENTS[:3]),
    st.sampled_from(SCRIPTS),
    _key,
)
DRAFTS = st.lists(_mostly((3, _single), (1, _scripts)), min_size=2, max_size=5).map(
    lambda parts: tuple(draft for part in parts for draft in part)
)

# Steps


@dataclass(frozen=True)
class TakeIn:
    """Facts that arrive together, and where a batch ends in the world that takes them so."""

    drafts: tuple[Draft, ...]
    cuts: tuple[int, ...]

    def batches(self) -> list[slice]:
        """Return the batches as parts of the facts."""
        ends = sorted({cut % (len(self.drafts) + 1) for cut in self.cuts} | {len(self.drafts)})
        starts = [0, *ends]
        return [slice(a, b) for a, b in zip(starts, ends, strict=False) if a < b]


@dataclass(frozen=True)
class Pass:
    """Time goes by."""

    span: str


@dataclass(frozen=True)
class Claim:
    """The worker claims."""

    free: int
    allowance: int = 100


@dataclass(frozen=True)
class Settle:
    """The provider answers one of the calls under way, or one that was answered already."""

    which: int
    verdict: Verdict
    apart: bool = False  # the first user has an outcome of their own


@dataclass(frozen=True)
class Other:
    """Anything else that moves rows: recover, learn, pause, resume, erase."""

    what: Literal["recover", "restart", "learn", "pause", "resume", "erase"]
    whom: int = 0


Step = TakeIn | Pass | Claim | Settle | Other

_take_in = st.builds(TakeIn, DRAFTS, st.lists(st.integers(0, 9), max_size=2).map(tuple))
_pass = st.sampled_from(["1s", "2min", "20min", "1h", "6h", "1d", "7d"]).map(Pass)
_claim = st.builds(Claim, _often([9], 0, 1, times=6), _often([100], 1, times=6))
_settle = st.builds(
    Settle,
    st.integers(0, 3),
    _often([Verdict.ACCEPTED], *Verdict, times=4),
    _often([False], True, times=4),
)
_other = st.builds(
    Other,
    st.sampled_from(["learn", "resume", "recover", "restart", "pause", "erase", "erase"]),
    st.sampled_from([0, 0, 1, 2, 3]),
)
# Between facts, mostly: their messages come due, are claimed, and the provider answers.
_soon = st.sampled_from(["2min", "2min", "2min", "1h"]).map(Pass)
_delivery = st.tuples(_soon, _claim, _settle, _settle)
_again = st.just(Settle(0, Verdict.NOT_TAKEN))
_gone_wrong = st.tuples(_soon, _claim, _take_in, _again, _soon, _claim, _settle)
_between = _mostly(
    (6, _delivery),
    (1, st.tuples(_soon, _claim, _take_in, _settle)),  # facts while calls are under way
    (2, _gone_wrong),
    (2, st.tuples(_other, _soon, _claim, _settle)),
    (1, st.tuples(_pass)),
    (1, st.tuples(_pass, _claim, _settle, _pass)),
    (1, st.tuples(_other, _pass)),
)
# A life is long, and grows shorter when a failing one is made small.
_kept = st.sampled_from([False] + [True] * 9)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(_kept, _take_in, _between), min_size=5, max_size=7
).map(
    lambda rounds: [step for kept, facts, between in rounds if kept for step in (facts, *between)]
)


@dataclass
class Life:
    """Goes through steps in one world; equal lives give equal outcomes."""

    world: World
    under_way: list[Call] = field(default_factory=list)
    answered: list[Call] = field(default_factory=list)
    settled: Call | None = None  # the call that was answered last

    def kept(self) -> list[ExperimentId]:
        """Return the experiments that the database holds, oldest first."""
        found = self.world.fast_rows(tables.experiment, "id")
        return [ExperimentId(experiment_id) for (experiment_id,) in found]

    def facts_one_by_one(self, step: TakeIn) -> tuple[list[Fact], list[Result]]:
        """Take the facts in one at a time; return them with their answers."""
        kept, facts, results = self.kept(), [], []
        batch: list[ExperimentId] = []
        for draft in step.drafts:
            fact = draft.fact(self.world.now, kept, batch)
            result = self.world.one(fact)
            batch += [part.experiment_id for part in (result, *result.results) if _is_new(part)]  # type: ignore[misc]
            facts.append(fact)
            results.append(result)
        return facts, results

    def facts_in_batches(self, step: TakeIn, facts: Sequence[Fact]) -> list[Result]:
        """Take the same facts in as batches; return the answers."""
        return [result for part in step.batches() for result in self.world.take(*facts[part])]

    def go(self, step: Pass | Claim | Settle | Other) -> object:
        """Go through any other step; return what can be seen of it."""
        match step:
            case Pass(span):
                self.world.clock.advance(span)
                return None
            case Claim(free, allowance):
                claimed = self.world.claim(free, allowance)
                self.under_way += claimed.calls
                return claimed
            case Settle(which, verdict, apart):
                return self._settle(which, verdict, apart=apart)
            case Other():
                return self._other(step)
            case _:
                assert_never(step)

    def _settle(self, which: int, verdict: Verdict, *, apart: bool) -> object:
        calls = [*self.under_way, *self.answered]  # the second: answers that come again
        if not calls:
            return None
        self.settled = call = calls[which % len(calls)]
        if call in self.under_way:
            self.under_way.remove(call)
            self.answered.append(call)
        first = next(iter(call.recipients))
        exceptions: dict[str, Verdict] = {first: Verdict.REFUSED} if apart else {}
        return self.world.record((call, an_answer(verdict, exceptions=exceptions)))

    def _other(self, step: Other) -> object:
        world = self.world
        scope = (None, *world.rules.cohorts)[step.whom % 4]
        match step.what:
            case "recover" | "restart":
                return world.recover(all_claims=step.what == "restart")
            case "learn":
                return sorted(world.learn().fresh)
            case "pause" | "resume":
                world.pause(scope, paused=step.what == "pause")
            case "erase":
                with world.storage.transaction() as tx:
                    erase_user(USERS[step.whom % len(USERS)], tx, world.now)
            case _:
                assert_never(step.what)
        return None


def _is_new(result: Result) -> bool:
    return result.status in ("scheduled", "holdout") and result.experiment_id is not None
