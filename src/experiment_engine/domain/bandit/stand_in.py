"""What goes out instead where the drawn combo no longer can: its offer is used up, a fact ran out.

The rule: the same delay and channel, because its moment and its way to the user are what was
drawn, and no offer. The same angle goes first; then the likeliest, by the probabilities from which
the combo was drawn. What stands in rests on no fact itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from experiment_engine.domain.bandit.decision import Distribution
from experiment_engine.domain.cohorts.cohort import Cohort
from experiment_engine.domain.cohorts.combo import NO_OFFER, Combo
from experiment_engine.domain.identifiers import ComboKey

_MOST = 3  # kept with an experiment


@dataclass(frozen=True, slots=True)
class StandIn:
    """A combo that may go out instead, with its text, which is fixed with the decision."""

    combo_key: ComboKey
    language: str
    title: str
    body: str


def stand_ins_for(
    drawn: Combo,
    cohort: Cohort,
    distribution: Distribution,
    rests_on_nothing: Callable[[Combo], bool],
) -> list[Combo]:
    """Return what may stand in for the drawn combo, best first."""
    shares = distribution.propensities
    eligible = zip(distribution.eligibility.eligible, shares.tolist(), strict=True)
    found = [
        (combo.angle != drawn.angle, -share, combo.index)
        for combo, share in ((cohort.space[place], share) for place, share in eligible)
        if combo.offer == NO_OFFER
        and (combo.delay, combo.channel) == (drawn.delay, drawn.channel)
        and combo.index != drawn.index
        and rests_on_nothing(combo)
    ]
    return [cohort.space[place] for _, _, place in sorted(found)[:_MOST]]
