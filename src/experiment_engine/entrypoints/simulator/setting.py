"""How the demo is set up: its rules, its engine on a database of its own, and its city."""

from dataclasses import dataclass, replace
from pathlib import Path

from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.adapters.system.logs import Journal
from experiment_engine.application.deliver import LEASE
from experiment_engine.bootstrap import open_throwaway
from experiment_engine.configuration.loading import bundled_example, load
from experiment_engine.domain.cohorts.cohort import PolicyChoice, Prior
from experiment_engine.domain.moments import DAY, HOUR, Duration, Instant
from experiment_engine.domain.rules import WHATSAPP, Rules
from experiment_engine.engine.engine import Engine
from experiment_engine.entrypoints.simulator.city import City, Shape
from experiment_engine.entrypoints.simulator.fast_time import FastClock, SeededChance
from experiment_engine.entrypoints.simulator.life import Life
from experiment_engine.entrypoints.simulator.truth import truths

HOLDOUT = 0.1
DATABASE = "demo.db"


@dataclass(frozen=True)
class Setting:
    """An engine, the life around it, and its history to come."""

    engine: Engine
    life: Life
    since: Instant
    until: Instant

    def decided(self) -> int:
        """Return how many experiments there are, the held-out ones among them."""
        engine = self.engine
        return sum(engine.report.reading.experiment_counts(engine.mode, None).values())


class Silence(Journal):
    """Keeps no lines: a demo's messages pass too fast to be read."""

    def __init__(self) -> None:
        """Need no stream."""

    def lines(self, lines: object) -> None:
        """Look away."""
        del lines


def demo_rules() -> Rules:
    """Return the bundled example with what a demo changes: decision 0016."""
    example = load(bundled_example())  # nothing of the user's own
    cohorts = {
        name: replace(
            cohort,
            policy=PolicyChoice(name="factorial_thompson"),
            prior=Prior(rate=0.08, weight=cohort.prior.weight),
        )
        for name, cohort in example.cohorts.items()
    }
    whatsapp = replace(example.channels[WHATSAPP], campaigns={("*", "*", "*"): "demo"})
    return replace(
        example,
        cohorts=cohorts,
        channels={**example.channels, WHATSAPP: whatsapp},
        holdout_share=HOLDOUT,
        silent_after=None,  # fast time leaps: nobody can say what is usual
        expires_after=Duration(2 * HOUR),  # history looks for what is due a few times an hour
        fingerprint=f"demo-{example.fingerprint}",
    )


def set_up(folder: Path, *, seed: int, days: int, shape: Shape, speed: float) -> Setting:
    """Make the engine and its city; the history ends at the present hour."""
    rules = demo_rules()
    until = Instant(SystemClock().now() // HOUR * HOUR)
    since = Instant(until - days * DAY)
    clock = FastClock(since)
    engine = open_throwaway(
        folder / DATABASE,
        rules,
        Silence(),
        clock=clock,
        chance=SeededChance(seed),
        lease=Duration(int(LEASE * max(1.0, speed))),  # a call takes as long as ever
    )
    engine.open()
    spaces = {name: cohort.space for name, cohort in rules.cohorts.items()}
    city = City(rules.cohorts, truths(spaces), seed, shape)
    return Setting(engine, Life(engine, city, clock, speed), since, until)
