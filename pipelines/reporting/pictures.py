"""A report's pictures: which there are, drawn from its sources."""

from collections.abc import Mapping, Sequence
from typing import Final

from alexnet.figures.confusion import draw_confusion
from alexnet.figures.curves import Plot, draw_curve, draw_curves
from alexnet.figures.film import draw_film
from alexnet.figures.filters import filters_picture
from alexnet.figures.maps import draw_layers
from alexnet.figures.neighbours import Tile, draw_neighbours
from alexnet.figures.pixels import Picture, as_jpeg, enlarged, picture_png
from alexnet.figures.schedule_marks import ScheduleMark, schedule_marks
from alexnet.figures.thinning import Curve, evenly
from alexnet.train.schedule_settings import CosineSchedule
from alexnet.train.settings import TrainSettings
from pipelines.reporting.sources import NO_CURVE, Filters, Sources

MOST_IN_STRIP: Final = 8
LEAST_IN_FILM: Final = 2
"""Moments: one alone shows nothing coming about."""
_ENLARGED_TO_PX: Final = 800
CONFUSION: Final = "confusion.png"
FILTERS: Final = "filters.png"
FILM: Final = "film.png"
MAPS: Final = "maps.png"
NEIGHBOURS: Final = "neighbours.jpg"
LOSS: Final = "train/loss"
RATE: Final = "train/weight_rate"
CURVES: Final = {
    LOSS: "loss.png",
    RATE: "learning-rate.png",
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
        **_film(sources),
        **panel,
        **_maps(sources),
        **_neighbours(sources, names),
        CONFUSION: draw_confusion(sources.confusion, names),
    }


def filters_frame(filters: Filters, towers: int) -> Picture:
    """Return the picture of some filters, large enough to look at."""
    picture = filters_picture(filters, towers=towers)
    return enlarged(picture, max(1, round(_ENLARGED_TO_PX / picture.shape[1])))


def _film(sources: Sources) -> Mapping[str, bytes]:
    if len(sources.frames) < LEAST_IN_FILM:
        return {}
    return {FILM: draw_film(sources.frames, towers=sources.towers)}


def _maps(sources: Sources) -> Mapping[str, bytes]:
    return {MAPS: draw_layers(sources.view, sources.layers)} if sources.layers else {}


def _neighbours(sources: Sources, names: Sequence[str]) -> Mapping[str, bytes]:
    rows = [
        [
            Tile(image.pixels, names[image.label]),
            *(
                Tile(near.pixels, names[near.label], near.label == image.label)
                for near in image.near
            ),
        ]
        for image in sources.panel
        if image.near
    ]
    if not rows:
        return {}
    # As JPEG: of photographs a PNG has many megabytes.
    return {NEIGHBOURS: as_jpeg(draw_neighbours(rows, sources.manifest.stored_px, sources.near_by))}


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
    return _marks(train, sources.training.step // train.epochs)


def draw_training(
    train: TrainSettings, curves: Mapping[str, Curve], steps_per_epoch: int
) -> bytes | None:
    """Draw loss and learning rate below each other as a PNG; None where there is neither."""
    plots = _plots(train, curves)
    shown = [(curves[key], plots[key]) for key in (LOSS, RATE) if key in plots]
    if not shown:
        return None
    return draw_curves(
        shown,
        epochs=train.epochs,
        steps_per_epoch=steps_per_epoch,
        marks=_marks(train, steps_per_epoch),
        validation=curves.get("val/loss") if LOSS in plots else None,
    )


def _curves(sources: Sources) -> Mapping[str, bytes]:
    train = sources.recipe.train
    return {
        CURVES[key]: draw_curve(
            sources.curves[key],
            plot,
            epochs=train.epochs,
            steps_per_epoch=sources.training.step // train.epochs,
            marks=marks_of(sources),
            validation=sources.curves.get("val/loss") if key == LOSS else None,
        )
        for key, plot in _plots(train, sources.curves).items()
    }


def _plots(train: TrainSettings, curves: Mapping[str, Curve]) -> dict[str, Plot]:
    """Say how each metric is shown that has any points."""
    # A cosine is read best as it is; rates that fall by factors are even steps in logarithm.
    rates = curves.get(RATE, NO_CURVE).values
    in_factors = not isinstance(train.schedule, CosineSchedule) and bool((rates > 0).all())
    plots = {
        LOSS: Plot(title="training loss of a batch (nats)", marks_named=True),
        RATE: Plot(title="learning rate of the weights", log_scale=in_factors, exact=True),
        "perf/images_per_s": Plot(title="images per second"),
        "perf/data_wait_frac": Plot(
            title="share of the time spent waiting for data", as_percent=True
        ),
    }
    return {key: plot for key, plot in plots.items() if len(curves.get(key, NO_CURVE))}


def _marks(train: TrainSettings, steps_per_epoch: int) -> tuple[ScheduleMark, ...]:
    return schedule_marks(train.schedule, epochs=train.epochs, steps_per_epoch=steps_per_epoch)
