"""The times of the learning benchmark belong to whoever takes them."""

import time

import numpy as np
from benchmarks.learning.plain import Plain
from benchmarks.learning.times import timed
from benchmarks.learning.world import Floats, Integers, make


class Slow(Plain):
    """Thinks for a millisecond over each batch, and for five over what came of it."""

    def choose(self, contexts: Integers, rng: np.random.Generator) -> tuple[Integers, Floats]:
        work(0.001)
        return super().choose(contexts, rng)

    def update(
        self, contexts: Integers, arms: Integers, rewards: Floats, weights: Floats | None = None
    ) -> None:
        work(0.005)
        super().update(contexts, arms, rewards, weights)


def work(seconds: float) -> None:
    """Use the processor for so long."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_slow_contender_is_told_from_a_fast_one() -> None:
    world = make("factorial", 1)
    fast = timed(Plain(1), world, learned=100, decisions=30)
    slow = timed(Slow(1), world, learned=100, decisions=30)
    assert slow.median_us >= 1_000 > fast.median_us
    assert slow.in_force_ms >= 5 > fast.in_force_ms
    assert slow.p99_us >= slow.median_us
