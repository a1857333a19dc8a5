"""Counters fold into days and months without losing anything, and are read by their age."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from tests.support.builders import CHECKOUT, Storage, World, rows_of

from experiment_engine.adapters.storage import tables
from experiment_engine.adapters.storage.evidence import consistent
from experiment_engine.adapters.storage.sums import add_up
from experiment_engine.application.changes import Changes
from experiment_engine.domain.bandit.reward import Counts, Group
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.identifiers import ComboKey

DAY = 24
KEYS = [ComboKey("2min|push|urgency|none"), ComboKey("1h|push|urgency|none")]

COUNTED = st.lists(
    st.tuples(
        st.integers(0, 100),
        st.sampled_from(["", "region=Bihar"]),
        st.sampled_from(KEYS),
        st.sampled_from([Group.COMBO, Group.POSTPONED, Group.HOLDOUT]),
        st.integers(1, 9),
    ),
    max_size=30,
)
Counted = list[tuple[int, str, ComboKey, Group, int]]


def count(storage: Storage, counted: Counted) -> None:
    changes = Changes()
    for hour, context, key, group, trials in counted:
        changes.counts[Mode.LIVE, CHECKOUT, hour, context, key, group] += Counts(trials, 1)
    with storage.transaction() as tx:
        tx.store(changes)


def fold(storage: Storage, span: int, before: int, limit: int = 3) -> int:
    moved = 0
    while True:
        with storage.transaction() as tx:
            step = tx.fold_counts(Mode.LIVE, CHECKOUT, span=span, before=before, limit=limit)
        assert step <= limit
        if step == 0:
            return moved
        moved += step


def sums(storage: Storage, span: int = 1) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for row in rows_of(storage, tables.combo_count):
        hour = row["hour"] if row["hour"] < 0 else row["hour"] - row["hour"] % span
        found[hour, row["context"], row["combo_key"], row["counted_for"]] += row["trials"]
    return found


@given(counted=COUNTED, late=COUNTED)
def test_folding_loses_nothing(
    worlds: tuple[World, World], counted: Counted, late: Counted
) -> None:
    """Old hours become days, also around what comes late, and every sum stays what it was."""
    world, _ = worlds
    world.begin_anew()
    count(world.storage, counted)
    fold(world.storage, DAY, before=3 * DAY)
    count(world.storage, late)
    before = sums(world.storage, span=DAY)
    fold(world.storage, DAY, before=3 * DAY)

    assert sums(world.storage, span=DAY) == before
    every = [k for k in sums(world.storage) if k[0] == tables.ALL_HOURS]
    by_hour = sum(n for key, n in sums(world.storage).items() if key[0] >= 0)
    assert sum(sums(world.storage)[key] for key in every) == by_hour


def test_old_hours_become_days_and_recent_ones_stay(storage: Storage) -> None:
    """Rows older than the limit lie at their day's first hour, the others where they were."""
    count(storage, [(hour, "", KEYS[0], Group.COMBO, 1) for hour in range(72)])

    assert fold(storage, DAY, before=50) == 23 + 23 + 1
    assert {hour for hour, *_ in sums(storage) if hour >= 0} == {0, 24, 48, *range(50, 72)}
    assert fold(storage, DAY, before=50) == 0


def test_evidence_by_age(storage: Storage) -> None:
    """What is recent comes by the hour, what is older in one sum or by the day."""
    count(storage, [(hour, "region=Bihar", KEYS[0], Group.COMBO, 1) for hour in range(60)])
    count(storage, [(59, "", KEYS[1], Group.POSTPONED, 5), (59, "", KEYS[1], Group.HOLDOUT, 7)])

    with consistent(storage.readers) as evidence:
        plain = evidence.buckets(Mode.LIVE, CHECKOUT, 58, by_context=False, by_day=False)
        daily = evidence.buckets(Mode.LIVE, CHECKOUT, 58, by_context=True, by_day=True)
        totals = evidence.totals(Mode.LIVE, CHECKOUT)

    assert sorted(plain) == [
        (0, "", KEYS[0], False, 58, 58),
        (58, "", KEYS[0], False, 1, 1),
        (59, "", KEYS[1], True, 5, 1),
        (59, "", KEYS[0], False, 1, 1),
    ]
    assert [(row.hour, row.context, row.trials) for row in sorted(daily) if row.trials > 1] == [
        (0, "region=Bihar", 24),
        (24, "region=Bihar", 24),
        (48, "region=Bihar", 10),
        (59, "", 5),
    ]
    assert totals == {KEYS[0]: (60, 60), KEYS[1]: (5, 1)}


def test_one_view_sees_one_moment(storage: Storage) -> None:
    """What is committed while a view is open does not show in it."""
    count(storage, [(1, "", KEYS[0], Group.COMBO, 1)])
    with consistent(storage.readers) as evidence:
        before = evidence.totals(Mode.LIVE, CHECKOUT)
        count(storage, [(1, "", KEYS[0], Group.COMBO, 1)])
        assert evidence.totals(Mode.LIVE, CHECKOUT) == before
    with consistent(storage.readers) as evidence:
        assert evidence.totals(Mode.LIVE, CHECKOUT) == {KEYS[0]: (2, 2)}


def test_sums_add_up_in_any_order(storage: Storage) -> None:
    """Adding rows in any order and grouping gives the same sums."""
    row = {"mode": "live", "cohort": "checkout", "day": 3}
    for names in (["b", "a"], ["a"], ["b", "c", "a"]):
        with storage.transaction() as tx:
            add_up(
                tx.core,
                tables.measurement_sum,
                [{**row, "name": name, "value": 1.5} for name in names],
            )

    found = {r["name"]: r["value"] for r in rows_of(storage, tables.measurement_sum)}
    assert found == {"a": 4.5, "b": 3.0, "c": 1.5}
    with storage.readers.connect() as connection:
        assert connection.execute(select(func.count(tables.measurement_sum.c.name))).scalar() == 3
