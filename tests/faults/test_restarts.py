"""Restarts under senders with the patience of CleverTap and Amplitude: nobody loses an event.

The long form restarts as often as `RESTARTS` says (50):
`RESTARTS=200 make test-long TESTS=tests/faults/test_restarts.py`.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
from tests.faults.ledgers import Stored, judge, waiting
from tests.support.clevertap_double import CleverTapDoubleProcess
from tests.support.configuration import COHORT, cohort, write_configuration
from tests.support.keeper import Kept, keeper
from tests.support.senders import Sent, senders
from tests.support.server import eventually
from tests.support.start import live

SEED = 20261126
FEW, MANY = 5, int(os.environ.get("RESTARTS", "50"))

_BETWEEN = 0.7  # seconds before and after a restart
_PATIENCE = 60.0  # seconds; only a failing test waits that long


@pytest.fixture
def double(tmp_path: Path) -> Iterator[CleverTapDoubleProcess]:
    """Run a provider that takes its time, so that calls are under way at every restart."""
    with CleverTapDoubleProcess(
        tmp_path / "ledger", latency_ms=300, max_in_flight=16, seed=SEED
    ) as running:
        yield running


@pytest.fixture
def environ(tmp_path: Path, double: CleverTapDoubleProcess) -> dict[str, str]:
    """Return the settings of an engine that sends within a second."""
    lane = {"max_in_flight": 8}
    config = write_configuration(
        tmp_path / "configuration",
        cohorts={COHORT: cohort(delay=["0.2s", "0.6s"], channel=["push", "whatsapp"])},
        channels={"push": lane, "whatsapp": {**lane, "campaigns": {"*|*|*": "1700000000"}}},
        holdout={"share": 0.05},
    )
    return {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'engine.db'}",
        "ENGINE_CONFIG": str(config),
        **live(double),
    }


def test_a_few_restarts_lose_nothing(
    tmp_path: Path, environ: dict[str, str], double: CleverTapDoubleProcess
) -> None:
    """At 50 events a second five restarts refuse nobody, and no sender gives an event up."""
    sent = _restart_and_compare(tmp_path, environ, double, Kept.hand_over, FEW)
    assert not sent.lost


@pytest.mark.long
def test_many_restarts_lose_nothing(
    tmp_path: Path, environ: dict[str, str], double: CleverTapDoubleProcess
) -> None:
    """At 50 events a second fifty restarts refuse nobody, and no sender gives an event up."""
    sent = _restart_and_compare(tmp_path, environ, double, Kept.hand_over, MANY)
    assert not sent.lost


def test_nobody_is_refused_while_no_process_serves(
    tmp_path: Path, environ: dict[str, str], double: CleverTapDoubleProcess
) -> None:
    """Where the next process starts only after the end of this one, callers wait for it.

    How long is up to the machine. Who gives up after six seconds, as CleverTap does, may lose an
    event if the start takes longer than that; Amplitude does not.
    """
    sent = _restart_and_compare(tmp_path, environ, double, Kept.end_and_start, 2)
    assert not [marker for marker in sent.lost if marker.startswith("event")]


def _restart_and_compare(
    folder: Path,
    environ: dict[str, str],
    double: CleverTapDoubleProcess,
    restart: Callable[[Kept], None],
    restarts: int,
) -> Sent:
    silences = []
    with keeper(folder, environ) as kept:
        with senders(int(kept.environ["PORT"]), SEED) as sent:
            for number in range(restarts):
                time.sleep(_BETWEEN)
                began = time.monotonic()
                restart(kept)
                kept.wait_for_starts(number + 2)
                time.sleep(_BETWEEN)
                silences.append(sent.longest_silence(began, time.monotonic()))
        eventually(lambda: not waiting(folder / "engine.db"), _PATIENCE)
        assert kept.end() == 0
    stored = Stored.read(folder / "engine.db")
    print(f"seed {SEED}: {restarts} restarts by {restart.__name__};", _told(sent, stored))
    print(f"without an answer: {median(silences):.2f} s as a rule, {max(silences):.2f} s at most")
    assert not sent.refused
    assert not stored.in_state("unknown", "failed", "expired")
    assert len(stored.in_state("sent")) > 10 * restarts, "too little happened"
    for promise, broken in judge(sent.history, double.ledger(), stored):
        assert promise == "taken_twice" or not broken, f"{promise}: {broken}"
    return sent


def _told(sent: Sent, stored: Stored) -> str:
    states = Counter(row["state"] for row in stored.experiments.values())
    return (
        f"{sent.history.requests} requests, {len(sent.answered)} events acknowledged,"
        f" {len(sent.lost)} lost, {len(sent.refused)} connections refused,"
        f" {sent.broken_off} broken off, {sent.timed_out} timed out;"
        f" slowest answer {sent.slowest:.2f} s; experiments {dict(states)}"
    )
