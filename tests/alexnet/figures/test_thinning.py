import numpy as np
import pytest

from alexnet.figures.thinning import Curve, curve_of, evenly, smoothed, thinned
from infra.tracking.points import MetricPoint


def curve(length: int) -> Curve:
    values = np.random.default_rng(length).normal(size=length)
    return Curve(np.arange(length) * 20, values)


def test_points_are_ordered_and_what_is_no_number_is_left_out() -> None:
    values = {30: 0.5, 10: 2.0, 20: float("nan"), 40: float("inf")}
    points = [MetricPoint(key="k", step=s, value=v, timestamp_ms=0) for s, v in values.items()]
    found = curve_of(points)
    assert (found.steps.tolist(), found.values.tolist()) == ([10, 30], [2.0, 0.5])
    assert len(curve_of(())) == 0


@pytest.mark.parametrize("length", [1, 2, 1999, 2000])
def test_a_short_curve_stays_whole(length: int) -> None:
    whole = curve(length)
    assert thinned(whole, 2000) is whole


@pytest.mark.parametrize("length", [2001, 4500, 45_000])
def test_a_long_curve_keeps_its_ends_and_its_spikes(length: int) -> None:
    whole = curve(length)
    whole.values[length // 3] = 50.0
    whole.values[length // 2] = -50.0
    thin = thinned(whole, 2000)
    assert 1000 <= len(thin) <= 2000
    assert (thin.steps[0], thin.steps[-1]) == (0, (length - 1) * 20)
    assert (np.diff(thin.steps) > 0).all()
    assert (thin.values.max(), thin.values.min()) == (50.0, -50.0)
    assert (whole.values[thin.steps // 20] == thin.values).all()


def test_a_smoothed_curve_is_the_medians_of_its_stretches() -> None:
    whole = Curve(np.arange(6), np.array([0.0, 9.0, 1.0, 5.0, 5.0, 50.0]))
    line = smoothed(whole, 2)
    assert (line.steps.tolist(), line.values.tolist()) == ([1, 4], [1.0, 5.0])
    assert len(smoothed(whole, 100)) == 6


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(0, []), (3, [0, 1, 2]), (8, [0, 2, 5, 7]), (91, [0, 30, 60, 90])],
)
def test_of_many_the_first_the_last_and_some_between_are_chosen(
    count: int, chosen: list[int]
) -> None:
    assert evenly(range(count), 4) == chosen
