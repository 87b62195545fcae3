"""How many CPUs each of a list of tasks gets, so that few of a machine's are idle. Pure."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

TWO_FROM: Final = 1.25
"""With a share of so many CPUs a task gets two: with one, a fifth of all would have no task."""


def plan_cpus(sizes: Sequence[int], cpus: int) -> list[int]:
    """Return the CPUs of each task, one or more; the tasks are begun in this order.

    They come in rounds that fill the CPUs. In each a task gets the share of the CPUs that its
    work has of what is left when the round begins: one while there is enough for all, several at
    the end or where tasks are few. Of 149 equal tasks on 128 CPUs the first 128 get one, the other
    21 get six.

    Args:
        sizes: of each task's work, in any unit, the largest first.
        cpus: of all of them together, one or more.
    """
    left = list(accumulate(reversed(sizes), initial=0))[::-1]
    """Work of each task and of all after it."""
    planned: list[int] = []
    in_round, free = 0, 0
    for number, size in enumerate(sizes):
        wanted = _cpus_of(cpus * size / max(1, in_round))
        if wanted > free:
            in_round, free = left[number], cpus
            wanted = min(cpus, _cpus_of(cpus * size / max(1, in_round)))
        planned.append(wanted)
        free -= wanted
    return planned


def _cpus_of(share: float) -> int:
    # More than two are rounded down: all of a round then fit into it.
    return 2 if TWO_FROM <= share < 2 else max(1, int(share))
