"""A kill at every system call of one whole walk, and at every point that has a name.

The kill comes before the system call is done, so that every state between two of them is met.
The long forms take every call, and every point twenty times:
`make test-long TESTS=tests/faults/test_exact_kills.py`. EXACT_STEP takes every so manieth.
"""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from tests.faults.walk import Died, Stage, Walk, a_stage
from tests.support.nursery import Child
from tests.support.one_thread import AFTER_A_KILL, POINTS
from tests.support.strace import strace

CALLS = ("pwrite64", "fdatasync", "write", "sendto", "connect", "ftruncate", "unlink")
STEP = int(os.environ.get("EXACT_STEP", "12"))
TIMES = 20  # of each named point in the long form


def test_a_kill_at_some_system_calls(tmp_path: Path) -> None:
    """Killed just before a system call it loses nothing, sends nothing twice, nothing sticks."""
    _kill_at_calls(tmp_path, STEP)


@pytest.mark.long
def test_a_kill_at_every_system_call(tmp_path: Path) -> None:
    """The same for each system call of the walk that others can see."""
    _kill_at_calls(tmp_path, 1)


def _kill_at_calls(folder: Path, step: int) -> None:
    kills: Counter[str] = Counter()
    with a_stage(folder) as stage:
        for call in CALLS:
            number = 1
            while _killed_at(stage, call, number):
                kills[call] += 1
                number += step
    print(
        f"every {step}. system call: {kills.total()} kills {dict(kills)},"
        f" {stage.answered} events acknowledged"
    )
    assert kills.total() > 100 // step
    assert {"pwrite64", "fdatasync", "sendto", "connect"} <= kills.keys()


def _killed_at(stage: Stage, call: str, number: int) -> bool:
    """Walk with a kill at one system call; return whether the walk got that far."""
    walk, child = stage.begin(), stage.engine()
    with strace(child.pid, f"inject={call}:signal=KILL:when={number}", calls=[call]):
        killed = _is_killed(walk, child)
    _walk_on(stage, walk)
    return killed


def test_a_kill_at_every_named_point(tmp_path: Path) -> None:
    """Killed before or after a commit, an answer or a call it keeps every promise."""
    _kill_at_points(tmp_path, 1)


@pytest.mark.long
def test_many_kills_at_every_named_point(tmp_path: Path) -> None:
    """The same twenty times for each point."""
    _kill_at_points(tmp_path, TIMES)


def _kill_at_points(folder: Path, times: int) -> None:
    with a_stage(folder) as stage:
        for point in [*POINTS, *AFTER_A_KILL] * times:
            walk = stage.begin()
            if point in AFTER_A_KILL:
                earlier = "send.before_http:1"  # leaves a claim to be found
                assert _is_killed(walk, stage.engine(KILL_AT=earlier)), earlier
            assert _is_killed(walk, stage.engine(KILL_AT=point)), f"{point} was not passed"
            _walk_on(stage, walk)
    points = len(POINTS) + len(AFTER_A_KILL)
    print(f"{points} named points, {times} times each: {stage.answered} events acknowledged")


def _is_killed(walk: Walk, child: Child) -> bool:
    """Walk with an engine that may be killed; afterwards it does not run."""
    child.go()
    try:
        walk.go(lambda: child.ended() is None)
    except Died:
        assert child.ended() == -signal.SIGKILL
        return True
    child.kill()
    child.wait()
    return False


def _walk_on(stage: Stage, walk: Walk) -> None:
    """Start again and walk to the end, then compare the ledgers."""
    child = stage.engine()
    child.go()
    walk.go(lambda: child.ended() is None)
    child.kill()
    child.wait()
    stage.judge(walk)
