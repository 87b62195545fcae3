import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alexnet.inference import neighbours
from alexnet.inference.neighbours import NearestSearch, Neighbours

Floats = npt.NDArray[np.float32]


def search(queries: Floats, rows: Floats, count: int, block: int) -> Neighbours:
    found = NearestSearch(queries, count)
    for start in range(0, len(rows), block):
        found.add(rows[start : start + block])
    return found.found


def naive(queries: Floats, rows: Floats, count: int) -> Neighbours:
    """Every pair, in float64, from differences; Python's sort is stable."""
    nearest, distances = [], []
    for query in queries.astype(np.float64):
        squares = [float(np.sum((query - row) ** 2)) for row in rows.astype(np.float64)]
        order = sorted(range(len(rows)), key=squares.__getitem__)[:count]
        nearest.append(order)
        distances.append([np.sqrt(squares[row]) for row in order])
    return Neighbours(np.array(nearest), np.array(distances))


def assert_same(found: Neighbours, expected: Neighbours) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.distances, expected.distances)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Rows that repeat, lie a rounding error apart, far from the origin, or on a coarse grid."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    width = draw(st.integers(1, 70))
    num_rows, num_queries = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    scale = draw(st.sampled_from([1e-30, 1e-4, 1.0, 1e4, 1e30]))
    offset = draw(st.sampled_from([0.0, 1.0, 1e3])) * scale
    kinds = {
        "apart": lambda n: rng.normal(size=(n, width)),
        "grid": lambda n: rng.integers(0, 2, (n, width)),
        "near": lambda n: 1 + rng.integers(0, 3, (n, width)) * 2.0**-22,
    }
    make = kinds[draw(st.sampled_from(sorted(kinds)))]
    both = (offset + scale * make(num_rows + num_queries)).astype(np.float32)
    rows, queries = both[:num_rows], both[num_rows:]
    rows = rows[rng.integers(0, num_rows, num_rows)]  # some twice, some not at all
    if draw(st.booleans()):
        queries[0] = rows[rng.integers(num_rows)]
    return queries, rows


# Drawing arrays is slow on a busy machine.
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(1, 12), st.integers(1, 70))
def test_it_is_the_comparison_of_every_pair(
    given_tables: tuple[Floats, Floats], count: int, block: int
) -> None:
    queries, rows = given_tables
    assert_same(search(queries, rows, count, block), naive(queries, rows, count))


@pytest.mark.parametrize("tile", [1, 3, 7, 50])
def test_what_is_compared_at_once_does_not_matter(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 3, (50, 4)).astype(np.float32)
    queries = rng.integers(0, 3, (9, 4)).astype(np.float32)
    monkeypatch.setattr(neighbours, "_TILE", tile)
    assert_same(search(queries, rows, 6, 23), naive(queries, rows, 6))


def test_products_alone_would_be_wrong() -> None:
    """Rows a few millionths apart, far from the origin: what float32 products cannot tell apart."""
    rng = np.random.default_rng(0)
    rows = (1000 + rng.normal(size=(300, 4096)) * 1e-3).astype(np.float32)
    queries = rows[[5, 200]] + np.float32(1e-4)
    norms = np.square(rows).sum(axis=1)
    products = np.square(queries).sum(axis=1)[:, None] + norms - 2 * queries @ rows.T
    expected = naive(queries, rows, 4)
    assert np.argsort(products, axis=1)[:, :4].tolist() != expected.rows.tolist()
    assert_same(search(queries, rows, 4, 64), expected)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_of_equals_the_lower_row_comes_first(block: int) -> None:
    rows = np.zeros((10, 3), np.float32)
    rows[4] = 1.0
    found = search(np.ones((1, 3), np.float32), rows, 4, block)
    assert found.rows.tolist() == [[4, 0, 1, 2]]
    assert found.distances.tolist() == [[0.0, *[3**0.5] * 3]]


def test_fewer_rows_than_asked_for() -> None:
    queries, rows = np.zeros((2, 1), np.float32), np.array([[2.0], [-1.0]], np.float32)
    assert search(queries, rows, 6, 1).rows.tolist() == [[1, 0], [1, 0]]
    assert search(queries, rows[:0], 6, 1).rows.shape == (2, 0)
