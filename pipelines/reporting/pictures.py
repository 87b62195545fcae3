"""A report's pictures: which there are, drawn from its sources."""

from collections.abc import Mapping
from typing import Final

from alexnet.figures.confusion import draw_confusion
from alexnet.figures.curves import Plot, draw_curve
from alexnet.figures.filters import filters_picture
from alexnet.figures.pixels import Picture, enlarged, picture_png
from alexnet.figures.schedule_marks import ScheduleMark, schedule_marks
from alexnet.figures.thinning import evenly
from alexnet.train.schedule import CosineSchedule
from pipelines.reporting.sources import NO_CURVE, Filters, Sources

MOST_IN_STRIP: Final = 8
_ENLARGED_TO_PX: Final = 800
CONFUSION: Final = "confusion.png"
FILTERS: Final = "filters.png"
CURVES: Final = {
    "train/loss": "loss.png",
    "train/weight_rate": "learning-rate.png",
    "perf/images_per_s": "images-per-s.png",
    "perf/data_wait_frac": "data-wait.png",
}
"""File by metric, in the order in which they are shown."""


def draw_pictures(sources: Sources) -> dict[str, bytes]:
    """Draw every picture of a report, by file name: PNGs, and the panel's images as stored."""
    names = [entry.name for entry in sources.classes]
    panel = {panel_name(n): image.jpeg for n, image in enumerate(sources.panel, start=1)}
    return {
        **_curves(sources),
        FILTERS: picture_png(filters_frame(sources.filters, sources.towers)),
        **{
            frame_name(step): picture_png(filters_frame(sources.frames[step], sources.towers))
            for step in strip_steps(sources)
        },
        CONFUSION: draw_confusion(sources.confusion, names),
        **panel,
    }


def filters_frame(filters: Filters, towers: int) -> Picture:
    """Return the picture of some filters, large enough to look at."""
    picture = filters_picture(filters, towers=towers)
    return enlarged(picture, max(1, round(_ENLARGED_TO_PX / picture.shape[1])))


def strip_steps(sources: Sources) -> list[int]:
    """Choose the steps of the film strip."""
    return evenly(sorted(sources.frames), MOST_IN_STRIP)


def frame_name(step: int) -> str:
    """Name the picture of the filters after `step` updates."""
    return f"filters-{step:08}.png"


def panel_name(number: int) -> str:
    """Name an image of the panel of predictions, counted from 1."""
    return f"prediction-{number}.jpg"


def marks_of(sources: Sources) -> tuple[ScheduleMark, ...]:
    """Return where the schedule changes."""
    train = sources.recipe.train
    steps_per_epoch = sources.training.step // train.epochs
    return schedule_marks(train.schedule, epochs=train.epochs, steps_per_epoch=steps_per_epoch)


def _curves(sources: Sources) -> Mapping[str, bytes]:
    train = sources.recipe.train
    steps_per_epoch = sources.training.step // train.epochs
    # A cosine is read best as it is; rates that fall by factors are even steps in logarithm.
    rates = sources.curves.get("train/weight_rate", NO_CURVE).values
    in_factors = not isinstance(train.schedule, CosineSchedule) and bool((rates > 0).all())
    plots = {
        "train/loss": Plot(title="training loss of a batch (nats)", marks_named=True),
        "train/weight_rate": Plot(
            title="learning rate of the weights", log_scale=in_factors, exact=True
        ),
        "perf/images_per_s": Plot(title="images per second"),
        "perf/data_wait_frac": Plot(
            title="share of the time spent waiting for data", as_percent=True
        ),
    }
    return {
        CURVES[key]: draw_curve(
            sources.curves[key],
            plot,
            epochs=train.epochs,
            steps_per_epoch=steps_per_epoch,
            marks=marks_of(sources),
            validation=sources.curves.get("val/loss", NO_CURVE) if key == "train/loss" else None,
        )
        for key, plot in plots.items()
        if len(sources.curves.get(key, NO_CURVE))
    }
