"""Which validation images stand in the panel of predictions, as in figure 4 of the paper. Pure."""

from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

PANEL_IMAGES: Final = 8
GUESSES: Final = 5


@dataclass(frozen=True, slots=True)
class Guess:
    """One of the most probable classes of an image."""

    label: int
    probability: float


def choose_rows(
    labels: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], count: int = PANEL_IMAGES
) -> list[int]:
    """Choose rows to show, ascending: half of them wrong where there are as many, half right.

    Of each kind the first ones in the split's order, which is a random one, and of each class one
    before any gets a second: the same evaluation always shows the same, and not its best.
    """
    wrong_rows = _first_of_each(labels, np.flatnonzero(~right))
    right_rows = _first_of_each(labels, np.flatnonzero(right))
    num_wrong = min(len(wrong_rows), max(count // 2, count - len(right_rows)))
    return sorted(wrong_rows[:num_wrong] + right_rows[: count - num_wrong])


def best_guesses(probabilities: npt.NDArray[np.floating], count: int = GUESSES) -> list[Guess]:
    """Return the most probable classes of one image, best first; ties to the lower label."""
    order = np.argsort(-probabilities.astype(np.float32), kind="stable")[:count]
    return [Guess(int(label), float(probabilities[label])) for label in order]


def _first_of_each(labels: npt.NDArray[np.int64], rows: npt.NDArray[np.intp]) -> list[int]:
    """Order rows: the first of every class, then the second of every class, and so on."""
    rounds: list[list[int]] = []
    seen: dict[int, int] = {}
    for row in rows.tolist():
        number = seen.get(int(labels[row]), 0)
        seen[int(labels[row])] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(row)
    return list(chain.from_iterable(rounds))
