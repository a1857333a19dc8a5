"""Simulated users: they answer to what really reached them, at rates that only the world knows.

    world = World(["bouncers"], seed=1, clock=clock)
    sender = Phones(real_sender, clock)          # every accepted message is seen by its user
    engine.events(*world.leave(20))
    engine.deliver(after="30min")
    world.read(sender.messages)
    reports = world.come_back()

Run as a program it prints what an honest 80/20 policy achieves in the same world, and from that
the bounds of the test: `python -m tests.support.world`.
"""

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from tests.support.clock import FakeClock
from tests.support.configuration import Toml, cohort
from tests.support.events import Json, amplitude_event

from experiment_engine.application.ports import MessageSender
from experiment_engine.domain.delivery.message import Answer, Call, Verdict
from experiment_engine.domain.identifiers import Channel, ExperimentId, UserId
from experiment_engine.domain.moments import HOUR, Duration, Instant, iso, parse_duration

Floats = NDArray[np.float64]
Rates = Mapping[str, float]  # by combo key

DELAYS = ("30min", "4h")
CHANNELS = ("push", "whatsapp")
ANGLES = ("helpful", "scarcity", "social_proof")
COMBOS = tuple("|".join((*levels, "none")) for levels in product(DELAYS, CHANNELS, ANGLES))
LOWEST, HIGHEST = 0.02, 0.12
SWINGS = (0.5, 0.5, 0.6)  # how much delay, channel and angle matter, on the logarithm of the rate
COMES_BACK_AFTER = Duration(2 * HOUR)  # on average, from the message to the conversion
BEST = 4  # combos whose share of the traffic is watched


def true_rates(chance: np.random.Generator) -> Floats:
    """Draw the rates of the combos: each level has its effect, the ends are 2 % and 12 %."""
    delay, channel, angle = (
        chance.normal(0, swing, len(levels))
        for swing, levels in zip(SWINGS, (DELAYS, CHANNELS, ANGLES), strict=True)
    )
    effects = (delay[:, None, None] + channel[None, :, None] + angle[None, None, :]).ravel()
    places = (effects - effects.min()) / (effects.max() - effects.min())
    rates: Floats = LOWEST * (HIGHEST / LOWEST) ** places
    return rates


def cohort_of(
    name: str, combos: Mapping[str, list[str]], *, policy: str = "epsilon_greedy"
) -> Toml:
    """Return the configuration of one cohort of the world, with events of its own."""
    table = cohort(
        trigger={"event": f"{name} left"},
        goal={"event": f"{name} came back"},
        policy={"name": policy},
    )
    return {**table, "combos": {**table["combos"], **combos}}


@dataclass(frozen=True, slots=True)
class Message:
    """What a user's phone showed; the id is empty where one call was for many users."""

    user: UserId
    experiment_id: ExperimentId
    channel: Channel
    title: str
    at: Instant
    carried_id: bool


class Phones:
    """Hands every call on to the real sender and keeps what the provider took."""

    def __init__(self, sender: MessageSender, clock: FakeClock) -> None:
        self._sender, self._clock = sender, clock
        self.messages: list[Message] = []

    async def send(self, call: Call) -> Answer:
        answer = await self._sender.send(call)
        at, content = self._clock.now(), call.content
        self.messages += [
            Message(user, experiment, content.channel, content.title, at, call.carries_ids)
            for user, experiment in call.recipients.items()
            if answer.verdict_for(user)[0] is Verdict.ACCEPTED
        ]
        return answer

    async def close(self) -> None:
        await self._sender.close()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who left, and when."""

    user: UserId
    cohort: str
    left_at: Instant


@dataclass(order=True, frozen=True, slots=True)
class Return:
    """A conversion: when, who, and what the message said about itself."""

    at: Instant
    number: int
    person: Person = field(compare=False)
    message: Message = field(compare=False)


class World:
    """Users of some cohorts, whose rates are drawn from the seed."""

    def __init__(self, cohorts: Sequence[str], *, seed: int, clock: FakeClock) -> None:
        self._clock = clock
        self._chance = np.random.default_rng(seed)
        self.rates: dict[str, Rates] = {
            name: dict(zip(COMBOS, map(float, true_rates(self._chance)), strict=True))
            for name in cohorts
        }
        self.people: dict[UserId, Person] = {}
        self.saw: dict[UserId, str] = {}  # the combo that a user's message really was
        self.returned: list[Return] = []
        self._waiting: list[Return] = []
        self._numbers = itertools.count()

    def leave(self, each: int) -> list[Json]:
        """Let people of every cohort leave now; return what Amplitude tells."""
        events = []
        for name in self.rates:
            for _ in range(each):
                user = UserId(f"{name} {next(self._numbers)}")
                self.people[user] = Person(user, name, self._clock.now())
                events.append(amplitude_event(user, self._clock.iso(), f"{name} left"))
        return events

    def read(self, messages: Iterable[Message]) -> None:
        """Let everybody read their message, and some make up their mind to come back."""
        for message in sorted(messages, key=lambda message: message.user):  # calls race
            person = self.people[message.user]
            combo = _combo_of(message, person)
            self.saw[person.user] = combo
            if self._chance.random() < self.rates[person.cohort][combo]:
                after = round(self._chance.exponential(COMES_BACK_AFTER))
                at = Instant(message.at + 1 + after)
                heapq.heappush(self._waiting, Return(at, next(self._numbers), person, message))

    def come_back(self) -> list[tuple[str, Json]]:
        """Let those whose time has come convert; return what the webhooks are told, by path."""
        events, profiles = [], []
        while self._waiting and self._waiting[0].at <= self._clock.now():
            back = heapq.heappop(self._waiting)
            self.returned.append(back)
            user, name = back.person.user, f"{back.person.cohort} came back"
            if self._chance.random() < 0.5:
                events.append(amplitude_event(user, iso(back.at), name))
            elif back.message.carried_id:
                carried = {"experiment_id": back.message.experiment_id}
                profiles.append({"identity": user, "event_properties": carried})
            else:
                profiles.append({"identity": user})
        told: list[tuple[str, Json]] = []
        if events:
            told.append(("/webhook/amplitude", {"events": events}))
        if profiles:
            told.append(("/webhook/converted", {"targetId": 1, "profiles": profiles}))
        return told


class IndifferentWorld:
    """Users whom no message moves: some come back by themselves, ever fewer with time."""

    def __init__(
        self, cohorts: Sequence[str], *, seed: int, clock: FakeClock, rate: float, fades: Duration
    ) -> None:
        self._clock, self._chance = clock, np.random.default_rng(seed)
        self._cohorts, self._rate, self._fades = cohorts, rate, fades
        self._waiting: list[tuple[Instant, UserId, str]] = []
        self.left = 0

    def leave(self, each: int) -> list[Json]:
        """Let people of every cohort leave now; return what Amplitude tells."""
        events = []
        for name in [name for name in self._cohorts for _ in range(each)]:
            self.left += 1
            user = UserId(f"{name} {self.left}")
            events.append(amplitude_event(user, self._clock.iso(), f"{name} left"))
            if self._chance.random() < self._rate:
                at = Instant(self._clock.now() + 1 + round(self._chance.exponential(self._fades)))
                heapq.heappush(self._waiting, (at, user, f"{name} came back"))
        return events

    def come_back(self) -> list[Json]:
        """Let those whose time has come convert; return what Amplitude tells."""
        events = []
        while self._waiting and self._waiting[0][0] <= self._clock.now():
            at, user, name = heapq.heappop(self._waiting)
            events.append(amplitude_event(user, iso(at), name))
        return events


def _combo_of(message: Message, person: Person) -> str:
    """Name the combo by what happened: when it came, over which channel, saying what."""
    waited = message.at - person.left_at
    (delay,) = (label for label in DELAYS if parse_duration(label) == waited)
    return f"{delay}|{message.channel}|{message.title}|none"


# What an honest policy achieves here


def honest_choices(
    rates: Floats, *, steps: int, each: int, runs: int, seed: int, from_decision: bool
) -> Floats:
    """Simulate the plain 80/20 rule on smoothed rates; return choices, shape (steps, runs, K).

    It is written anew, on arrays over many runs at once, and shares nothing with the engine. A
    step is half an hour. A trial counts from its decision or from its send: both are honest.
    """
    chance, combos = np.random.default_rng(seed), len(rates)
    waits = np.repeat([round(parse_duration(label) / (HOUR / 2)) for label in DELAYS], combos // 2)
    mean_steps, end = COMES_BACK_AFTER / (HOUR / 2), steps + 200
    chosen = np.zeros((steps, runs, combos))
    sent, back = np.zeros((end, runs, combos)), np.zeros((end, runs, combos))
    trials, successes = np.zeros((runs, combos)), np.zeros((runs, combos))
    rows = np.arange(runs)
    for step in range(steps):
        trials += sent[step]
        successes += back[step]
        shares = _eighty_twenty(trials, successes).cumsum(1)
        for _ in range(each):
            picks = (chance.random(runs)[:, None] > shares[:, :-1]).sum(1)
            chosen[step, rows, picks] += 1
            at = step + waits[picks]
            sent[step + 1 if from_decision else at, rows, picks] += 1
            home = at + 1 + chance.exponential(mean_steps, runs).astype(int)
            comes = (chance.random(runs) < rates[picks]) & (home < end)
            back[home[comes], rows[comes], picks[comes]] += 1
    return chosen


def _eighty_twenty(trials: Floats, successes: Floats) -> Floats:
    weight, rate = 60.0, 0.02
    pooled = (successes.sum(1) + weight * rate) / (trials.sum(1) + weight)
    smoothed = (successes + weight * pooled[:, None]) / (trials + weight)
    best = smoothed >= smoothed.max(1, keepdims=True) * (1 - 1e-12)
    shares: Floats = 0.2 / trials.shape[1] + 0.8 * best / best.sum(1, keepdims=True)
    return shares


def share_of_best(chosen: Floats, rates: Floats) -> Floats:
    """Return the share of the truly best combos in the last third of the steps, by run."""
    late = chosen[-(len(chosen) // 3) :].sum(0)
    best = np.argsort(-rates)[:BEST]
    share: Floats = late[:, best].sum(1) / late.sum(1)
    return share


def gain_on_even_split(chosen: Floats, rates: Floats) -> Floats:
    """Return expected conversions as a multiple of those of an even split, by run."""
    gain: Floats = chosen.sum(0) @ rates / (chosen.sum((0, 2)) * rates.mean())
    return gain


def lower_bound(samples: Sequence[Floats], chance: float) -> float:
    """Return what the mean of one draw from each sample falls below with this chance."""
    low, high = min(map(np.min, samples)), max(map(np.max, samples))
    mass = np.ones(1)
    for sample in samples:
        bins, _ = np.histogram(sample, bins=600, range=(low, high))
        mass = np.convolve(mass, bins / bins.sum())
    place = int(np.searchsorted(mass.cumsum(), chance))
    return float(low + (high - low) * place / len(mass))


def main(*, cohorts: int = 6, seed: int = 1, steps: int = 96, each: int = 20) -> None:
    """Print the bounds that honest code stays above but once in a million runs."""
    chance = np.random.default_rng(seed)
    worlds = [true_rates(chance) for _ in range(cohorts)]
    for from_decision in (False, True):
        shares, gains = [], []
        for number, rates in enumerate(worlds):
            chosen = honest_choices(
                rates,
                steps=steps,
                each=each,
                runs=10_000,
                seed=number,
                from_decision=from_decision,
            )
            shares.append(share_of_best(chosen, rates))
            gains.append(gain_on_even_split(chosen, rates))
        for name, samples in (("share of the best", shares), ("gain on even", gains)):
            mean = np.mean([sample.mean() for sample in samples])
            bound = lower_bound(samples, 1e-6)
            print(f"{name}: mean {mean:.3f}, bound {bound:.3f} ({from_decision=})")


if __name__ == "__main__":
    main()
