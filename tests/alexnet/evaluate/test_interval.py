import pytest
from scipy.stats import binomtest

from alexnet.evaluate.interval import interval_95


@pytest.mark.parametrize(
    ("right", "count"), [(0, 1), (1, 1), (0, 50), (489, 500), (500, 500), (28_550, 50_000)]
)
def test_it_is_wilsons(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert interval_95(right, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("count", [1, 3, 50, 250, 500, 50_000])
def test_of_none_and_of_all_its_end_is_exact(count: int) -> None:
    assert interval_95(0, count)[0] == 0.0
    assert interval_95(count, count)[1] == 1.0
