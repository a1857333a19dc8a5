"""How often somebody may try to sign in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_engine.domain.moments import MINUTE, SECOND, Instant
from experiment_engine.entrypoints.dashboard.guesses import Guesses, TooManyGuesses

NOW = Instant(1_800_000_000_000)


def evaluated(guesses: Guesses, address: str, now: Instant) -> bool:
    """Guess wrong once; return whether the token was looked at."""
    try:
        guesses.allow(address, now)
    except TooManyGuesses:
        return False
    guesses.wrong(address, now)
    return True


def test_one_address_has_five_guesses_and_one_more_a_minute() -> None:
    guesses = Guesses()
    assert sum(evaluated(guesses, "192.0.2.1", NOW) for _ in range(1_000)) == 5
    assert not evaluated(guesses, "192.0.2.1", Instant(NOW + MINUTE - 1))
    assert evaluated(guesses, "192.0.2.1", Instant(NOW + MINUTE))
    assert evaluated(guesses, "192.0.2.2", NOW)


def test_all_addresses_together_have_twenty() -> None:
    """1,000 guesses from 1,000 addresses: 20 are looked at."""
    guesses = Guesses()
    assert sum(evaluated(guesses, f"192.0.{n // 250}.{n % 250}", NOW) for n in range(1_000)) == 20
    assert evaluated(guesses, "198.51.100.1", Instant(NOW + 15 * SECOND))


@pytest.mark.parametrize("host", ["::2", "::ffff:0:1", "1::"])
def test_a_network_of_ipv6_is_one_address(host: str) -> None:
    guesses = Guesses()
    assert sum(evaluated(guesses, "2001:db8::1", NOW) for _ in range(9)) == 5
    assert not evaluated(guesses, f"2001:db8::{host.strip(':')}", NOW)
    assert evaluated(guesses, "2001:db8:0:1::1", NOW)


def test_right_tokens_are_never_counted() -> None:
    guesses = Guesses()
    for _ in range(100):
        guesses.allow("192.0.2.1", NOW)


def test_only_who_guessed_lately_is_remembered() -> None:
    guesses = Guesses()
    for minute in range(200):
        assert evaluated(guesses, f"192.0.2.{minute}", Instant(NOW + minute * MINUTE))
    assert len(guesses._by_address) <= 2


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5_000, 60_000)), max_size=200))
def test_no_order_of_guesses_and_clock_steps_gets_more(steps: list[tuple[int, int]]) -> None:
    """At most 20 in all and one more each 15 s, also where the clock goes back."""
    guesses, now, forward, looked_at = Guesses(), NOW, 0, 0
    for address, step in steps:
        now, forward = Instant(now + step), forward + max(0, step)
        looked_at += evaluated(guesses, str(address), now)
    assert looked_at <= 20 + forward / (15 * SECOND) + 1e-6
