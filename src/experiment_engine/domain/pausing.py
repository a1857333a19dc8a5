"""What a pause may hold for: all, a cohort, a channel, a combo, or every combo of a level."""

from collections.abc import Iterator

from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import Combo
from experiment_engine.domain.identifiers import Channel, CohortName

EVERYTHING = "*"


def of_channel(channel: Channel) -> str:
    """Return the scope of a channel, in every cohort."""
    return f"channel:{channel}"


def of_combo(cohort: CohortName, combo_key: str) -> str:
    """Return the scope of one combo."""
    return f"combo:{cohort}:{combo_key}"


def of_level(cohort: CohortName, dimension: str, level: str) -> str:
    """Return the scope of every combo of a cohort with one level."""
    return f"level:{cohort}:{dimension}:{level}"


def scopes_of(cohort: Cohort, combo: Combo) -> Iterator[str]:
    """Return the scopes, narrower than the cohort, under which a combo may be paused."""
    yield of_channel(combo.channel)
    yield of_combo(cohort.name, combo.key)
    for dimension, level in combo.levels().items():
        yield of_level(cohort.name, dimension, level)


def is_taken_out(cohort: Cohort, combo: Combo, paused: frozenset[str]) -> bool:
    """Say whether the combo itself is paused: what waits for it is cancelled (R15).

    A paused channel is no such case: its messages wait, as they do for a paused cohort.
    """
    scopes = set(scopes_of(cohort, combo)) - {of_channel(combo.channel)}
    return not paused.isdisjoint(scopes)
