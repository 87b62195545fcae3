"""What trainings with and without an element came to, and what their differences say. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Final, Literal

from pydantic import Field

from infra.commit import Frozen

SCHEMA_VERSION: Final = 1
BASELINE: Final = "baseline"
"""The recipe as it is."""
TEN_CROPS: Final = "ten-crops"
"""The element whose effect every run's own evaluation shows."""

View = Literal["center", "ten_crop"]


class Errors(Frozen):
    """What one view got wrong."""

    wrong1: int
    """Images whose best guess is another class."""
    wrong5: int
    """Images whose class is not among the five best guesses."""
    loss: float
    """Mean of -ln p over the images."""


class Run(Frozen):
    """One training, evaluated."""

    element: str
    """The ablation's name, or `BASELINE`."""
    seed: int
    settings: tuple[str, ...] = Field(strict=False)
    """`--set` beyond the recipe's own values, without the place of the data."""
    recipe_digest: str
    """Hex SHA-256 of the resolved recipe, the place of the data included."""
    weights_sha256: str
    """Of the network that was evaluated."""
    steps: int
    """Updates made."""
    count: int
    """Validation images."""
    center: Errors
    ten_crop: Errors

    def error_percent(self, view: View) -> float:
        """Return the top-1 error of a view in percent."""
        return 100 * (self.center if view == "center" else self.ten_crop).wrong1 / self.count


class Measurements(Frozen):
    """All runs of a series, and what they were made on."""

    schema_version: Literal[1] = SCHEMA_VERSION
    started_at: str
    """ISO 8601, UTC; of the command that wrote this, which may have found runs done."""
    elapsed_s: float
    recipe: str
    settings: tuple[str, ...] = Field(strict=False)
    """`--set` of every run."""
    archives: str
    """The last part of the folder's name."""
    dataset_fingerprint: str
    train_count: int
    val_count: int
    machine: str
    """Processor, CPUs, memory, GPUs."""
    versions: dict[str, str]
    commit: str
    """Of the code; with `modified` where files differed from it."""
    load_average: tuple[float, float] = Field(strict=False)
    """Of a minute, before and after: above the number of CPUs where other work ran."""
    runs: tuple[Run, ...] = Field(strict=False)
    failures: dict[str, str]
    """Runs that ended with an error, by element and seed, and which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How many points of top-1 error are lost without an element, paired by seed."""

    differences: Mapping[str, float]
    """Points by pair, named by its seed: the error without it, less the error with it."""
    low: float
    """Of the 95 % interval of the mean, by Student's t; NaN of a single pair."""
    high: float

    @property
    def points(self) -> float:
        """The mean; above 0 the element helps."""
        return mean(self.differences.values())

    @property
    def spread(self) -> float:
        """The standard deviation from seed to seed; NaN of a single pair."""
        values = list(self.differences.values())
        return stdev(values) if len(values) > 1 else math.nan

    def beside(self, published: float) -> str:
        """Say in words whether it agrees with published points, of another size and task."""
        if not (self.low > 0 or self.high < 0):
            return "not told apart from none"
        return "the same sign" if self.points * published > 0 else "contradicts"


def effect_of(runs: Sequence[Run], element: str, view: View) -> Effect | None:
    """Return what an ablation showed, or None without a seed that both sides have."""
    with_it = {run.seed: run for run in runs if run.element == BASELINE}
    without = {run.seed: run for run in runs if run.element == element}
    pairs = {
        str(seed): without[seed].error_percent(view) - with_it[seed].error_percent(view)
        for seed in sorted(with_it.keys() & without.keys())
    }
    return _effect(pairs)


def effect(runs: Sequence[Run], element: str, view: View) -> Effect | None:
    """Return what an element is worth; None without runs that tell.

    Args:
        runs: of one series.
        element: an ablation's name; of `TEN_CROPS` every run tells, whatever the view.
        view: whose errors are compared.
    """
    return ten_crop_effect(runs) if element == TEN_CROPS else effect_of(runs, element, view)


def ten_crop_effect(runs: Iterable[Run]) -> Effect | None:
    """Return what averaging over ten crops is worth, of every run: each has both figures.

    A seed is one difference, the mean over its runs: with and without an element, they share
    their order and augmentation, and mostly their start, and so are not independent.
    """
    by_seed: dict[int, list[float]] = {}
    for run in runs:
        points = run.error_percent("center") - run.error_percent("ten_crop")
        by_seed.setdefault(run.seed, []).append(points)
    return _effect({str(seed): mean(by_seed[seed]) for seed in sorted(by_seed)})


def _effect(differences: Mapping[str, float]) -> Effect | None:
    if not differences:
        return None
    low, high = interval(list(differences.values()))
    return Effect(differences=differences, low=low, high=high)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of normal values, by Student's t; NaN of one value."""
    if len(values) < 2:
        return math.nan, math.nan
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half
