"""The nearest rows of a long table by Euclidean distance, exactly, a block at a time. Pure.

Products of matrices find the few rows that may be among the nearest: |x - y|² = |x|² + |y|² - 2 xy
is quick, but loses digits where x and y are close. So only a row that is farther by more than its
rounding error can account for is passed over, and the distances of the others are summed up from
their differences. The answer is that of comparing every pair so.

The 2012 release took the best image of each batch of 1024 and no second (`findsimilar.py`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_TILE: Final = 1024
"""Queries and rows that are compared at once: 8 MiB a matrix."""
_NONE: Final = -1
"""The row of a place that no row has taken yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """For each query its nearest rows, nearest first; of equally near ones the lower row first."""

    rows: npt.NDArray[np.int64]
    """(queries, count), counted from 0 over all blocks."""
    distances: npt.NDArray[np.float64]
    """(queries, count)."""


class NearestSearch:
    """Takes the table's blocks in order, and knows the nearest rows so far.

    Args:
        queries: (queries, width), finite.
        count: nearest rows to find, at least one.
    """

    def __init__(self, queries: Floats, count: int) -> None:
        self._queries = queries.astype(np.float64)
        self._query_norms = _squared_norms(self._queries)
        self._rows = np.full((len(queries), count), _NONE, np.int64)
        self._squares = np.full((len(queries), count), np.inf)
        self._num_rows = 0

    def add(self, block: Floats) -> None:
        """Look at the next rows, (rows, width), finite."""
        for start in range(0, len(block), _TILE):
            rows = block[start : start + _TILE].astype(np.float64)
            norms = _squared_norms(rows)
            for first in range(0, len(self._queries), _TILE):
                self._compare(slice(first, first + _TILE), rows, norms)
            self._num_rows += len(rows)

    @property
    def found(self) -> Neighbours:
        """The nearest of the rows so far: fewer than `count` if there were fewer."""
        count = min(self._rows.shape[1], self._num_rows)
        return Neighbours(self._rows[:, :count].copy(), np.sqrt(self._squares[:, :count]))

    def _compare(
        self, queries: slice, rows: npt.NDArray[np.float64], row_norms: npt.NDArray[np.float64]
    ) -> None:
        norms = self._query_norms[queries, None] + row_norms
        approximate = norms - 2 * (self._queries[queries] @ rows.T)
        doubt = _rounding(rows.shape[1]) * norms
        least, most = approximate - doubt, approximate + doubt
        # As far as the last of the nearest can be at most, by what is known without differences.
        far = np.minimum(self._squares[queries, -1], _smallest(most, self._squares.shape[1]))
        for query in np.flatnonzero((least <= far[:, None]).any(axis=1)).tolist():
            near = np.flatnonzero(least[query] <= far[query])
            self._merge(queries.start + query, near, rows[near])

    def _merge(self, query: int, near: npt.NDArray[np.intp], rows: npt.NDArray[np.float64]) -> None:
        differences = rows - self._queries[query]
        squares = np.concatenate([self._squares[query], _squared_norms(differences)])
        numbers = np.concatenate([self._rows[query], self._num_rows + near])
        # Stable, and later rows stand behind earlier ones: of equals the lower row stays first.
        nearest = np.argsort(squares, kind="stable")[: self._squares.shape[1]]
        self._squares[query], self._rows[query] = squares[nearest], numbers[nearest]


def _smallest(values: npt.NDArray[np.float64], place: int) -> npt.NDArray[np.float64]:
    """Return each line's smallest value but `place` - 1; infinity where there are fewer."""
    if values.shape[1] < place:
        return np.full(len(values), np.inf)
    found: npt.NDArray[np.float64] = np.partition(values, place - 1, axis=1)[:, place - 1]
    return found


def _squared_norms(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    norms: npt.NDArray[np.float64] = np.square(rows).sum(axis=1)
    return norms


def _rounding(width: int) -> float:
    """Bound the error of |x|² + |y|² - 2 xy, and of |x - y|² summed up, over |x|² + |y|².

    Products of float32 are exact in float64, so only the sums round: each of the norms and the
    product by at most width · u (u = 2⁻⁵³) of |x|² + |y|², the differences, their squares and
    their sum by (width + 3) · u of |x - y|² ≤ 2 (|x|² + |y|²). Together (4 width + 12) · u, doubled
    to cover terms in u².
    """
    return (4 * width + 12) * float(np.finfo(np.float64).eps)
