"""Intervals that hold at every look.

An ordinary interval holds at one look that was planned beforehand; who looks every day and stops
at the first good one errs far more often. These hold at all looks at once, at the price of width.
"""

from math import log, sqrt

ALPHA = 0.05
TIGHTEST_AT = 10_000.0  # observations at which the interval is tightest for its level


def half_width(
    variance: float, observations: float, *, alpha: float = ALPHA, tightest: float = TIGHTEST_AT
) -> float:
    """Return half the width of the interval around an estimate with this variance.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Annals
    of Statistics 2024, theorem 2.2), written for an estimate whose variance after t observations
    is `variance` (that of the mean, not of one observation).
    """
    if observations <= 0:
        return float("inf")
    bound = -2 * log(alpha)
    spread = (bound + log(bound + 1)) / tightest  # the rho squared that is best there
    grown = observations * spread + 1
    return sqrt(variance * 2 * grown / (observations * spread) * log(sqrt(grown) / alpha))
