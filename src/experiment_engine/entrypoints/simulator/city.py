"""The demo's city: people who leave, whom messages bring back, and who come back by themselves.

It speaks with the engine as the app and the provider do: in Amplitude's and CleverTap's JSON. It
knows who was sent what from the provider alone.
"""

import heapq
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiment_engine.adapters.amplitude import payload as amplitude
from experiment_engine.adapters.clevertap import callbacks as clevertap
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.delivery.experiment import Experiment
from experiment_engine.domain.events import Fact
from experiment_engine.domain.identifiers import CohortName, ExperimentId
from experiment_engine.domain.moments import DAY, HOUR, MINUTE, SECOND, Instant, iso
from experiment_engine.entrypoints.simulator.truth import LATE, Person, Truth

HOMES = (  # region, language, share of the people
    ("patna", "bho", 0.24),
    ("varanasi", "bho", 0.12),
    ("rohtak", "bgc", 0.16),
    ("jaipur", "raj", 0.16),
    ("lucknow", "hi", 0.18),
    ("mumbai", "en", 0.14),
)
PLANS = (("monthly", 0.6), ("quarterly", 0.25), ("yearly", 0.15))
SHOWS = ("Mirzapur", "Panchayat", "Gullak", "Kota Factory", "Aspirants", "Raktanchal")
CAUSES = (("checkout_abandoners", 0.6), ("payment_failed", 0.2), ("paywall_bouncers", 0.2))

# How busy each hour of the day is, in India.
_BUSY = np.array([6, 3, 2, 1, 1, 1, 2, 3, 4, 4, 4, 5, 6, 6, 5, 5, 5, 6, 8, 11, 14, 15, 13, 10])
_BUSY_SHARE = _BUSY / _BUSY.mean()
_INDIA = 5 * HOUR + 30 * MINUTE

_ALONE_HOURS, _MOVED_HOURS = 9.0, 2.5  # mean time until one comes back
_OPENS = {"push": 0.12, "whatsapp": 0.45}
_OPTS_OUT = 0.002  # of those who got a message


@dataclass(frozen=True)
class Shape:
    """How big the city is."""

    people: int = 30_000
    leave_a_day: float = 420.0


class City:
    """Lives step by step; every draw follows from one seed and the steps."""

    def __init__(
        self,
        cohorts: Mapping[CohortName, Cohort],
        truths: Mapping[CohortName, Truth],
        seed: int,
        shape: Shape,
    ) -> None:
        """Settle the people."""
        self.truths, self.shape = truths, shape
        self._cohorts = cohorts
        self._rng = np.random.default_rng([seed, 5])
        self.persons = self._settled()
        self._coming: list[tuple[Instant, int, str, Mapping[str, object]]] = []  # a heap
        self._number = 0
        self._known: dict[ExperimentId, tuple[Person, Experiment]] = {}
        self._lock = threading.Lock()  # the provider tells on the worker's thread

    def _settled(self) -> Sequence[Person]:
        rng, number = self._rng, self.shape.people
        homes = rng.choice(len(HOMES), number, p=[share for *_, share in HOMES])
        plans = rng.choice(len(PLANS), number, p=[share for _, share in PLANS])
        return [
            {"region": HOMES[home][0], "language": HOMES[home][1], "plan": PLANS[plan][0]}
            for home, plan in zip(homes.tolist(), plans.tolist(), strict=True)
        ]

    def leave(self, since: Instant, now: Instant) -> None:
        """Let people turn away just now: as many as leave in the time since the last step."""
        hour = (now + _INDIA) // HOUR % 24
        expected = self.shape.leave_a_day * _BUSY_SHARE[hour] * (now - since) / DAY
        number = int(self._rng.poisson(expected))
        who = self._rng.integers(0, len(self.persons), number).tolist()
        why = self._rng.choice(len(CAUSES), number, p=[share for _, share in CAUSES]).tolist()
        for person, cause in zip(who, why, strict=True):
            self._turn_away(person, CohortName(CAUSES[cause][0]), now)

    def _turn_away(self, place: int, cohort: CohortName, now: Instant) -> None:
        trigger, person = self._cohorts[cohort].trigger, self.persons[place]
        properties = {
            "region": person["region"],
            "language": person["language"],
            "plan_viewed": person["plan"],
            "show_name": SHOWS[int(self._rng.integers(len(SHOWS)))],
        }
        # Earlier visits to the paywall are told late, as a phone without a network does.
        for earlier in range(trigger.count):
            ago = float(self._rng.uniform(1, 50)) * SECOND + earlier * 3 * HOUR
            self._tell(place, trigger.event, Instant(now - int(ago)), properties)

    def facts(self, now: Instant) -> list[Fact]:
        """Return what was told by now, in the order in which it happened."""
        told: dict[str, list[Mapping[str, object]]] = {"event": [], "opened": []}
        with self._lock:
            while self._coming and self._coming[0][0] <= now:
                _, _, kind, body = heapq.heappop(self._coming)
                told[kind].append(body)
        facts: list[Fact] = []
        if told["event"]:
            facts += amplitude.parse(json.dumps(told["event"]).encode())
        for body in told["opened"]:
            facts += clevertap.parse_opened(json.dumps(body).encode())
        return facts

    def decided(self, experiments: Sequence[Experiment]) -> None:
        """Let those come back alone who would have done so without any message."""
        with self._lock:
            for made in experiments:
                person = self.persons[int(made.user_id[4:])]
                self._known[made.id] = (person, made)
                if self._rng.random() < self.truths[made.cohort].alone:
                    self._come_back(made, made.triggered_at, _ALONE_HOURS)

    def receive(self, experiment_id: ExperimentId, now: Instant) -> None:
        """Show a message on a phone, and let it do its work."""
        with self._lock:
            known = self._known.pop(experiment_id, None)
            if known is None:
                return
            person, made = known
            truth = self.truths[made.cohort]
            gain = truth.gains(person)[truth.space.by_key[made.combo_key].index]
            luck = self._rng.random(3)
            # Of those only who would not have come alone, so that both together are the truth.
            moved = luck[0] < gain * (LATE if made.postponed else 1.0) / (1 - truth.alone)
            if moved:
                self._come_back(made, now, _MOVED_HOURS)
            if luck[1] < _OPENS[made.channel] + 0.4 * moved:
                self._open(made, Instant(now + 2 * MINUTE))
            if luck[2] < _OPTS_OUT:
                place = int(made.user_id[4:])
                self._tell(place, "notifications_turned_off", Instant(now + 5 * MINUTE), {})

    def _come_back(self, made: Experiment, since: Instant, mean_hours: float) -> None:
        """Come back after some time: exponential, and inside the goal's window."""
        room = (made.window_ends_at - since) / HOUR
        share = self._rng.random() * (1 - np.exp(-room / mean_hours))
        at = Instant(since + int(-np.log1p(-share) * mean_hours * HOUR))
        goal = self._cohorts[made.cohort].goal.event
        self._tell(int(made.user_id[4:]), goal, at, {})

    def _open(self, made: Experiment, at: Instant) -> None:
        body = {"user_id": made.user_id, "experiment_id": made.id, "at": iso(at)}
        self._push(at, "opened", body)

    def _tell(self, place: int, event: str, at: Instant, properties: dict[str, str]) -> None:
        body = {
            "event_type": event,
            "user_id": f"usr_{place:05}",
            "time": at,
            "insert_id": f"demo-{self._number}",
            "event_properties": properties,
        }
        self._push(at, "event", body)

    def _push(self, at: Instant, kind: str, body: Mapping[str, object]) -> None:
        self._number += 1
        heapq.heappush(self._coming, (at, self._number, kind, body))
