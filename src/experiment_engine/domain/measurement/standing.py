"""How combos stand against each other: draws of all their rates at once."""

from collections.abc import Sequence
from functools import cached_property
from math import lgamma

import numpy as np

from experiment_engine.domain.bandit.statistics import Floats

QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)  # of 95, 80 and 50 % bands, and the middle
_DRAWS = 2_000
_FIRMNESS = (1.0, 0.5, 0.25, 0.125)  # shares of the prior's weight, tried where combos differ much
_SEED = 1  # the same counts give the same answer


class Standing:
    """Rates of K combos drawn from what is known of them, shape (draws, K)."""

    def __init__(self, drawn: Floats) -> None:
        """Take the draws."""
        self.drawn = drawn
        self._together: dict[tuple[int, ...], tuple[float, float, float]] = {}

    @cached_property
    def means(self) -> Floats:
        """Return each combo's mean rate, shape (K,)."""
        return np.asarray(self.drawn.mean(axis=0))

    @cached_property
    def quantiles(self) -> Floats:
        """Return the quantiles of each combo's rate, shape (len(QUANTILES), K)."""
        return np.asarray(np.quantile(self.drawn, QUANTILES, axis=0))

    @cached_property
    def best(self) -> Floats:
        """Return the probability of each combo to be the best, shape (K,), sums to 1."""
        wins = np.bincount(self.drawn.argmax(axis=1), minlength=self.drawn.shape[1])
        return np.asarray(wins / len(self.drawn), dtype=np.float64)

    def together(self, places: Sequence[int]) -> tuple[float, float, float]:
        """Return the mean rate over some combos, each as heavy, with its 95 % band."""
        key = tuple(places)
        if key not in self._together:
            drawn = self.drawn[:, list(places)].mean(axis=1)
            low, high = np.quantile(drawn, (0.025, 0.975))
            self._together[key] = float(drawn.mean()), float(low), float(high)
        return self._together[key]

    def beats(self, one: int, other: int) -> float:
        """Return the probability that one combo's rate is higher than another's."""
        return float((self.drawn[:, one] > self.drawn[:, other]).mean())

    def difference(self, one: int, other: int) -> tuple[float, float, float]:
        """Return by how much one rate is higher than another, with its 95 % band."""
        drawn = self.drawn[:, one] - self.drawn[:, other]
        low, high = np.quantile(drawn, (0.025, 0.975))
        return float(drawn.mean()), float(low), float(high)


def standing(
    successes: Floats,
    trials: Floats,
    *,
    prior_weight: float,
    prior_rate: float = 0.02,
    draws: int = _DRAWS,
) -> Standing:
    """Draw from independent Beta posteriors whose common prior the combos tell.

    The prior is at most as firm as `prior_weight` trials. Counts have shape (K,).
    """
    weight = max(
        (prior_weight * share for share in _FIRMNESS),
        key=lambda firm: _evidence(successes, trials, firm, prior_rate),
    )
    middle = _middle(successes, trials, weight, prior_rate)
    ahead = successes + weight * middle
    behind = np.maximum(trials - successes, 0.0) + weight * (1 - middle)
    return Standing(np.random.default_rng(_SEED).beta(ahead, behind, size=(draws, len(successes))))


def _middle(successes: Floats, trials: Floats, weight: float, prior_rate: float) -> float:
    """Return the mean rate over combos, of which each counts for one at most.

    A combo's rate counts by n / (n + weight), and `prior_rate` like one with `weight` trials. The
    mean over messages would not do: most of them go to the best combos, and little tried ones
    would look as good.
    """
    known = (trials / (trials + weight)).sum() + 0.5
    return float(((successes / (trials + weight)).sum() + 0.5 * prior_rate) / known)


def _evidence(successes: Floats, trials: Floats, weight: float, prior_rate: float) -> float:
    """Return the log probability of the counts where rates differ as such a prior says."""
    middle = _middle(successes, trials, weight, prior_rate)
    ahead, behind = weight * middle, weight * (1 - middle)
    failures = np.maximum(trials - successes, 0.0)
    return sum(
        _log_beta(won + ahead, lost + behind) - _log_beta(ahead, behind)
        for won, lost in zip(successes.tolist(), failures.tolist(), strict=True)
    )


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
