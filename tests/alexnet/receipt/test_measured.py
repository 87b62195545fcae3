import math

import pytest
from receipt_runs import a_run
from scipy import stats

from alexnet.receipt.measured import (
    BASELINE,
    Effect,
    effect_of,
    interval,
    ten_crop_effect,
)


def test_runs_are_paired_by_seed_and_counted_in_points() -> None:
    runs = [
        a_run("dropout", 1, 165),
        a_run(BASELINE, 0, 150),
        a_run(BASELINE, 1, 145),
        a_run(BASELINE, 2, 25),  # its partner is missing
        a_run("dropout", 0, 160),
        a_run("towers", 2, 247),
    ]
    effect = effect_of(runs, "dropout", "center")
    assert effect is not None
    assert effect.differences == {"0": 2.0, "1": 4.0}
    assert effect.points == 3.0
    assert effect.spread == pytest.approx(math.sqrt(2))
    assert effect_of(runs, "towers", "center") is not None
    assert effect_of(runs, "colour-noise", "center") is None


def test_views_are_told_apart() -> None:
    runs = [a_run(BASELINE, 0, 150, 100), a_run("dropout", 0, 155, 125)]
    for view, points in (("center", 1.0), ("ten_crop", 5.0)):
        effect = effect_of(runs, "dropout", view)  # type: ignore[arg-type]  # both are views
        assert effect is not None
        assert effect.points == points


def test_ten_crops_are_measured_by_every_run_and_a_seed_counts_once() -> None:
    runs = [
        a_run(BASELINE, 0, 150, 140),
        a_run("dropout", 0, 155, 135),
        a_run(BASELINE, 1, 150, 145),
    ]
    effect = ten_crop_effect(runs)
    assert effect is not None
    assert effect.differences == {"0": pytest.approx(3.0), "1": pytest.approx(1.0)}
    assert (effect.low, effect.high) == pytest.approx(interval([3.0, 1.0]))
    assert ten_crop_effect([]) is None


def test_the_interval_is_students() -> None:
    values = [0.4, 1.4, -0.2, 2.2]
    expected = stats.t.interval(0.95, df=3, loc=sum(values) / 4, scale=stats.sem(values))
    assert interval(values) == pytest.approx(expected)


def test_a_single_pair_has_no_interval_and_proves_nothing() -> None:
    effect = effect_of([a_run(BASELINE, 0, 150), a_run("dropout", 0, 200)], "dropout", "center")
    assert effect is not None
    assert math.isnan(effect.low)
    assert math.isnan(effect.spread)
    assert effect.beside(1.0) == "not told apart from none"


@pytest.mark.parametrize(
    ("low", "high", "published", "said"),
    [
        (0.5, 1.5, 1.4, "the same sign"),
        (-1.5, -0.5, 1.4, "contradicts"),
        (0.5, 1.5, -0.1, "contradicts"),
        (-0.5, 1.5, 1.4, "not told apart from none"),
    ],
)
def test_what_is_said_beside_a_published_figure(
    low: float, high: float, published: float, said: str
) -> None:
    effect = Effect(differences={"0": low, "1": high}, low=low, high=high)
    assert effect.beside(published) == said
