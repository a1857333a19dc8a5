"""Heavy answers are given again for a while and made anew behind the asker; light ones never."""

import threading

import pytest

from experiment_engine.adapters.storage.remembered import FRESH_FOR, HEAVY, Remembered


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Making:
    """Makes numbers that count up, and tells how heavy they were."""

    def __init__(self, weight: int) -> None:
        self.weight, self.made = weight, 0
        self.again = threading.Event()

    def __call__(self) -> int:
        self.made += 1
        if self.made > 1:
            self.again.set()
        return self.made

    def ask(self, remembered: Remembered) -> int:
        return remembered.answer("key", self, lambda _: self.weight)


def test_a_light_answer_is_made_every_time() -> None:
    making, remembered = Making(HEAVY - 1), Remembered(Clock())
    assert [making.ask(remembered) for _ in range(3)] == [1, 2, 3]


def test_a_heavy_answer_is_kept_while_it_is_fresh() -> None:
    making, remembered = Making(HEAVY), Remembered(Clock())
    assert [making.ask(remembered) for _ in range(3)] == [1, 1, 1]


def test_an_old_answer_is_given_at_once_and_made_anew() -> None:
    clock = Clock()
    making, remembered = Making(HEAVY), Remembered(clock)
    making.ask(remembered)
    clock.now = FRESH_FOR + 1
    assert making.ask(remembered) == 1
    assert making.again.wait(5)
    for _ in range(1_000):
        if making.ask(remembered) == 2:
            break
    assert making.ask(remembered) == 2


def test_what_fails_is_told_and_nothing_is_kept() -> None:
    remembered = Remembered(Clock())

    def fails() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        remembered.answer("key", fails, lambda _: HEAVY)
    assert remembered.answer("key", lambda: 7, lambda _: HEAVY) == 7
