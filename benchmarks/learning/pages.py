"""What every page of figures has: where and when they were made, seeds, errors."""

import datetime as dt
from collections.abc import Sequence
from math import sqrt

import numpy as np

from benchmarks import machine
from benchmarks.learning.world import Floats


def heading(title: str) -> str:
    """Return the title with the day and the machine, as Markdown."""
    facts = ", ".join(f"{name} {value}" for name, value in machine.description().items())
    return f"\n{title} ({dt.datetime.now(dt.UTC):%Y-%m-%d}, {facts})\n"


def seeds_of(seeds: Sequence[int]) -> str:
    """Write which seeds."""
    return f"seeds {seeds[0]} to {seeds[-1]}"


def with_error(values: Sequence[float] | Floats, digits: int) -> str:
    """Write the mean and its standard error over the seeds."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def share_with_error(told: Sequence[bool]) -> str:
    """Write in how many of a hundred runs it is so, and the standard error."""
    share = sum(told) / len(told)
    return f"{100 * share:.1f} ± {100 * sqrt(share * (1 - share) / len(told)):.1f}"
