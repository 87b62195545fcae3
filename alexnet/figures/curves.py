"""Curves over a training, with the schedule's changes marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from alexnet.figures.canvas import BLUE, FAINT, INK, ORANGE, PALE_BLUE, new_figure, new_grid, png_of
from alexnet.figures.schedule_marks import ScheduleMark
from alexnet.figures.thinning import Curve, smoothed, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS: Final = 2000
_SMOOTH_FROM: Final = 400
"""So many points are a band rather than a line: then a line is drawn through it."""
_STRETCHES: Final = 100
_DOTS_BELOW: Final = 10
"""Of so few points each is shown: one alone makes no line."""
_LABEL_WIDTH: Final = 0.15
"""Of the whole width; a mark that is nearer to one with a label gets none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """How one metric is shown."""

    title: str
    """What it is and in which unit."""
    log_scale: bool = False
    as_percent: bool = False
    """A fraction, shown as percent from 0 to 100."""
    exact: bool = False
    """No noise in it: all points are one line."""
    marks_named: bool = False
    """Whether the schedule's marks have their words."""


def draw_curve(
    curve: Curve,
    plot: Plot,
    *,
    epochs: int,
    steps_per_epoch: int,
    marks: Sequence[ScheduleMark] = (),
    validation: Curve | None = None,
) -> bytes:
    """Draw one metric over epochs as a PNG.

    Args:
        curve: at least one point; thinned to MOST_POINTS.
        plot: how.
        epochs: of the whole training.
        steps_per_epoch: turns steps into epochs.
        marks: where the schedule changes.
        validation: the same metric on the validation split, shown as dots.
    """
    figure, axes = new_figure(4.4, 2.1)
    _draw(axes, curve, plot, epochs, steps_per_epoch, marks, validation)
    return png_of(figure)


def draw_curves(
    curves: Sequence[tuple[Curve, Plot]],
    *,
    epochs: int,
    steps_per_epoch: int,
    marks: Sequence[ScheduleMark] = (),
    validation: Curve | None = None,
) -> bytes:
    """Draw several metrics below each other as one PNG, as `draw_curve` draws each.

    Args:
        curves: at least one.
        validation: belongs to the first.
    """
    figure, grid = new_grid(9.6, 2.8 * len(curves), rows=len(curves), columns=1)
    for axes, (curve, plot) in zip(grid, curves, strict=True):
        _draw(axes, curve, plot, epochs, steps_per_epoch, marks, validation)
        validation = None
    return png_of(figure)


def _draw(
    axes: "Axes",
    curve: Curve,
    plot: Plot,
    epochs: int,
    steps_per_epoch: int,
    marks: Sequence[ScheduleMark],
    validation: Curve | None,
) -> None:
    axes.set_title(plot.title, loc="left", fontsize=9, color=INK)
    axes.set_xlabel("epochs", fontsize=8, color=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.set_xlim(0, epochs)
    axes.locator_params(axis="x", integer=True)
    if plot.log_scale:
        axes.set_yscale("log")
    _draw_marks(axes, marks, epochs, steps_per_epoch, named=plot.marks_named)
    shown = thinned(curve, MOST_POINTS)
    crowded = len(curve) >= _SMOOTH_FROM and not plot.exact
    axes.plot(
        shown.steps / steps_per_epoch,
        shown.values,
        color=PALE_BLUE if crowded else BLUE,
        linewidth=0.6 if crowded else 1.2,
        marker="." if len(shown) < _DOTS_BELOW else "",
    )
    if crowded:
        line = smoothed(curve, _STRETCHES)
        axes.plot(line.steps / steps_per_epoch, line.values, color=BLUE, linewidth=1.4)
    if validation is not None and len(validation):
        _draw_validation(axes, validation, steps_per_epoch)
    _bound(axes, plot)


def _draw_marks(
    axes: "Axes",
    marks: Sequence[ScheduleMark],
    epochs: int,
    steps_per_epoch: int,
    *,
    named: bool,
) -> None:
    free_from = 0.0
    for mark in marks:
        x = mark.step / steps_per_epoch
        axes.axvline(x, color=INK, linewidth=0.6, linestyle=(0, (3, 3)), alpha=0.6)
        if named and x >= free_from:
            free_from = x + _LABEL_WIDTH * epochs
            axes.annotate(
                mark.label,
                (x, 1),
                xycoords=("data", "axes fraction"),
                xytext=(2, -1),
                textcoords="offset points",
                va="top",
                fontsize=7,
                color=INK,
            ).set_in_layout(False)


def _draw_validation(axes: "Axes", validation: Curve, steps_per_epoch: int) -> None:
    axes.plot(
        validation.steps / steps_per_epoch,
        validation.values,
        color=ORANGE,
        marker="o",
        markersize=5,
        linestyle="none",
        clip_on=False,
        zorder=3,
    )
    axes.annotate(
        f"validation {validation.values[-1]:.3f}",
        (validation.steps[-1] / steps_per_epoch, validation.values[-1]),
        xytext=(-6, 6),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=ORANGE,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    ).set_in_layout(False)


def _bound(axes: "Axes", plot: Plot) -> None:
    if plot.as_percent:
        from matplotlib.ticker import PercentFormatter

        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    elif not plot.log_scale:
        axes.set_ylim(bottom=0)
