"""Figures: a median with its spread, of measurements or of ratios. Pure, and without imports of Temporal's.

So peers and pictures, which run in an environment of their own, can use it too.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A median, and the lowest and the highest of what it is the median of."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Return the figure of some measurements; of none it is 0."""
        if not values:
            return cls(median=0.0, low=0.0, high=0.0)
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    @classmethod
    def of_ratios(cls, mine: Sequence[float], its: Sequence[float]) -> "Figure":
        """Return the figure of the ratios of measurements made side by side. A floor of 0 is left out.

        Raises:
            ValueError: There are not as many of the one as of the other.
        """
        return cls.of([value / floor for value, floor in zip(mine, its, strict=True) if floor])
