"""A report's page: one HTML document that needs nothing beside it. Pure, but for its template."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml

from alexnet.evaluate.evaluation import Accuracy
from alexnet.evaluate.interval import interval_95
from alexnet.evaluate.rows import VIEW_NAMES
from alexnet.inference.split_neighbours import num_among
from pipelines.reporting.pictures import (
    CONFUSION,
    CURVES,
    FILM,
    FILTERS,
    MAPS,
    NEIGHBOURS,
    frame_name,
    marks_of,
    panel_name,
    strip_steps,
)
from pipelines.reporting.sources import NO_CURVE, ClassCount, Sources

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE: Final = "page.html.j2"
MOST_ROWS: Final = 20
"""Of a table, before the rest is folded away."""
_MIME: Final = {"png": "image/png", "jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where MLflow shows the run."""

    run_id: str | None
    link: str
    look: str | None
    """What starts the server that the link names, for a database file."""


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """How often one class was taken for another."""

    true: str
    predicted: str
    count: int
    of: int
    """Images of the true class."""


def render_page(
    sources: Sources, pictures: Mapping[str, bytes], tracked: Tracked, *, made_at: str
) -> str:
    """Write the page.

    Args:
        sources: what it tells.
        pictures: what it shows, by file name; they go into the page itself.
        tracked: where MLflow shows the run.
        made_at: when, as it is to be printed.
    """
    template = _environment().from_string(
        files("pipelines.reporting").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    recipe = sources.recipe
    return template.render(
        s=sources,
        made_at=made_at,
        tracked=tracked,
        picture=lambda name: data_uri(name, pictures[name]),
        views=views_of(sources),
        epochs=recipe.train.epochs,
        images_per_s=median_of(sources, "perf/images_per_s"),
        seconds=total_seconds(sources),
        longest_s=max((t.seconds for c in sources.commands for t in c.steps), default=0),
        versions=versions_of(sources),
        curves=[name for name in CURVES.values() if name in pictures],
        marks=marks_of(sources),
        filters=FILTERS,
        film=FILM if FILM in pictures else None,
        maps=MAPS if MAPS in pictures else None,
        neighbours=NEIGHBOURS if NEIGHBOURS in pictures else None,
        num_among=num_among(sources.manifest),
        confusion=CONFUSION,
        frames=[(step, frame_name(step)) for step in strip_steps(sources)],
        panel=[(panel_name(n), image) for n, image in enumerate(sources.panel, start=1)],
        names=[entry.name for entry in sources.classes],
        pairs=confused_pairs(sources),
        classes=worst_first(sources.classes),
        # A folder per class has no other keys than its names.
        keyed=any(entry.wnid != entry.name for entry in sources.classes),
        recipe_yaml=yaml.safe_dump(
            recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        ),
        most=MOST_ROWS,
    )


def views_of(sources: Sources) -> list[tuple[str, Accuracy]]:
    """Name the views that were evaluated."""
    return [(VIEW_NAMES[view], accuracy) for view, accuracy in sources.evaluation.views.items()]


def confused_pairs(sources: Sources) -> list[ConfusedPair]:
    """List the pairs that were confused most, at most MOST_ROWS; ties by label."""
    wrong = sources.confusion - np.diag(np.diag(sources.confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_ROWS]
    pairs = [divmod(int(place), len(wrong)) for place in order]
    classes = sources.classes
    return [
        ConfusedPair(
            classes[true].name,
            classes[predicted].name,
            int(wrong[true, predicted]),
            classes[true].count,
        )
        for true, predicted in pairs
        if wrong[true, predicted]
    ]


def worst_first(classes: Sequence[ClassCount]) -> list[ClassCount]:
    """Order classes by the share of images that were right at 1; those without images come last."""
    return sorted(
        classes, key=lambda c: (not c.count, c.right["center"][0] / (c.count or 1), c.label)
    )


def median_of(sources: Sources, key: str) -> float | None:
    """Return the median of a curve, or None where there is none."""
    values = sources.curves.get(key, NO_CURVE).values
    return float(np.median(values)) if len(values) else None


def total_seconds(sources: Sources) -> float:
    """Add up the time of all steps that made something, or tried."""
    return sum(t.seconds for c in sources.commands for t in c.steps if t.state != "holds")


def versions_of(sources: Sources) -> list[dict[str, str]]:
    """List the library versions that commands ran with, each once, oldest first."""
    found: list[dict[str, str]] = []
    for command in sources.commands:
        if command.versions not in found:
            found.append(command.versions)
    return found


def data_uri(name: str, body: bytes) -> str:
    """Write a picture as a URI that holds it."""
    return f"data:{_MIME[name.rpartition('.')[2]]};base64,{base64.b64encode(body).decode()}"


def duration(seconds: float) -> str:
    """Write a duration for people, in its two greatest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {whole:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min"


def percent(share: float) -> str:
    """Write a fraction in 0..1 as percent."""
    return f"{100 * share:.2f} %"


def _interval(right: int, count: int) -> str:
    low, high = interval_95(right, count)
    return f"{100 * low:.2f}\N{EN DASH}{100 * high:.2f} %"


def _moment(iso: str) -> str:
    return iso.replace("T", " ").replace("+00:00", "")


def _environment() -> "Environment":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {
        "percent": percent,
        "duration": duration,
        "interval": _interval,
        "moment": _moment,
        "thousands": lambda number: f"{number:,}",
    }
    environment.filters.update(filters)
    return environment
