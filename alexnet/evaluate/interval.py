"""How far a share of right answers is from certain. Pure."""

import math
from typing import Final

_Z95: Final = 1.959963984540054
"""Of the normal distribution, 95 % lies within so many standard deviations."""


def interval_95(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, in 0..1, by Wilson's score; `count` is at least 1.

    Unlike share ± 2 standard errors it is sound near 0 and 1 and never leaves them.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    share, z2 = right / count, _Z95**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count)) / (1 + z2)
    # Of none and of all the score is 0 and 1, which rounding misses by a bit.
    return middle - half if right else 0.0, middle + half if right < count else 1.0
