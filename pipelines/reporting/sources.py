"""What a report is made of, read from where the steps left it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alexnet.evaluate.evaluation import Evaluation
from alexnet.evaluate.rows import View, view_suffix
from alexnet.figures.thinning import Curve, curve_of, evenly
from alexnet.inference.model_probe import ModelProbe
from alexnet.release.gate import Verdict
from alexnet.release.registration import Registration
from alexnet.train.attempts import Attempt, read_attempts
from alexnet.train.filters import count_towers, first_filters, list_filters, read_filters
from alexnet.train.training_receipt import TrainingReceipt
from infra.commit import read_object
from infra.parquet import read_parquet
from infra.progress import ProgressReport, no_progress
from infra.store import ObjectStore
from infra.tracking.journal import Journal
from infra.tracking.points import MetricPoint
from pipelines.recipe import Recipe
from pipelines.reporting.panel_images import PanelImage, read_panel
from pipelines.timeline import CommandNote, with_last_signs
from preprocessing.dataset.manifest import Manifest, Reject
from preprocessing.dataset.pixels import Pixels
from preprocessing.dataset.rejects import read_rejects

MOST_FRAMES: Final = 20
"""Pictures of the filters over time that MLflow gets."""
NO_CURVE: Final = curve_of(())

Filters = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassCount:
    """One class, and how many of its validation images were right."""

    label: int
    wnid: str
    name: str
    count: int
    right: Mapping[View, tuple[int, int]]
    """Right at 1 and at 5, by view."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sources:
    """One training, from its dataset to its registration."""

    recipe: Recipe
    dataset_uri: str
    manifest: Manifest
    rejects: Sequence[Reject]
    run_uri: str
    training: TrainingReceipt
    attempts: Sequence[Attempt]
    curves: Mapping[str, Curve]
    """By metric, as MLflow calls them."""
    filters: Filters
    """(maps, 3, k, k) of the last checkpoint."""
    towers: int
    frames: Mapping[int, Filters]
    """Filters by step, at most MOST_FRAMES of those that were kept."""
    evaluation_uri: str
    evaluation: Evaluation
    classes: Sequence[ClassCount]
    confusion: npt.NDArray[np.int64]
    """(true, predicted), centre view."""
    panel: Sequence[PanelImage]
    near_by: str
    """The layer by which some are near."""
    view: Pixels
    """What the network saw of the panel's first image."""
    layers: Sequence[tuple[str, npt.NDArray[np.float32]]]
    """That image's maps of every layer with weights that has maps, (maps, height, width)."""
    verdict: Verdict
    registration: Registration
    commands: Sequence[CommandNote]
    """Those that made any of this, oldest first; the last one is still at work on the report."""


def read_sources(
    *,
    recipe: Recipe,
    dataset: ObjectStore,
    manifest: Manifest,
    run: ObjectStore,
    training: TrainingReceipt,
    evaluated: ObjectStore,
    evaluation: Evaluation,
    verdict: Verdict,
    registration: Registration,
    probe: ModelProbe,
    commands: Sequence[CommandNote],
    progress: ProgressReport = no_progress,
) -> Sources:
    """Read everything a report shows.

    Args:
        dataset, run, evaluated: where these lie; what is committed there was read already.
        probe: the network of the last checkpoint.
        commands: those that made any of this, oldest first; the one that runs now is the last.
        progress: gets the images that were looked through for the panel's neighbours, and in all.

    Raises:
        ObjectCorrupt, ShardCorrupt: stored bytes are damaged.
    """
    classes = read_class_counts(evaluated, evaluation)
    points = read_points(run)
    filters, towers = filters_of(probe)
    panel = read_panel(dataset, manifest, evaluated, evaluation, probe, progress)
    return Sources(
        recipe=recipe,
        dataset_uri=dataset.uri,
        manifest=manifest,
        rejects=read_rejects(dataset, manifest) if manifest.num_rejects else (),
        run_uri=run.uri,
        training=training,
        attempts=read_attempts(run),
        curves=curves_of(points),
        filters=filters,
        towers=towers,
        frames=read_frames(run),
        evaluation_uri=evaluated.uri,
        evaluation=evaluation,
        classes=classes,
        confusion=read_confusion(evaluated, evaluation, len(classes)),
        panel=panel,
        near_by=probe.hidden_layer,
        view=probe.views([panel[0].pixels])[0],
        layers=probe.maps_by_layer(panel[0].pixels),
        verdict=verdict,
        registration=registration,
        commands=with_last_signs(commands, sorted(p.timestamp_ms / 1000 for p in points)),
    )


def filters_of(probe: ModelProbe) -> tuple[Filters, int]:
    """Return a network's first layer's filters, and how many towers they are of."""
    return first_filters(probe.weights).float().numpy(), count_towers(probe.weights)


def read_frames(run: ObjectStore) -> dict[int, Filters]:
    """Read filters of a run by step, at most MOST_FRAMES of those that were kept."""
    return {
        step: read_filters(run, step).numpy() for step in evenly(list_filters(run), MOST_FRAMES)
    }


def read_points(run: ObjectStore) -> list[MetricPoint]:
    """Read all that was measured of a run."""
    journal = Journal(run)
    segments = (journal.segment(number) for number in range(1, journal.num_segments + 1))
    return [point for segment in segments for point in segment]


def read_curves(run: ObjectStore) -> dict[str, Curve]:
    """Read all metrics of a run, by name as MLflow calls them."""
    return curves_of(read_points(run))


def curves_of(points: Iterable[MetricPoint]) -> dict[str, Curve]:
    """Order points by metric, named as MLflow calls them."""
    by_key: dict[str, list[MetricPoint]] = defaultdict(list)
    for point in points:
        by_key[point.key].append(point)
    return {key: curve_of(of_key) for key, of_key in by_key.items()}


def read_class_counts(evaluated: ObjectStore, evaluation: Evaluation) -> list[ClassCount]:
    """Read how many images of each class were right, in label order."""
    rows: list[dict[str, Any]] = read_parquet(
        read_object(evaluated, evaluation.per_class)
    ).to_pylist()
    return [
        ClassCount(
            label=row["label"],
            wnid=row["wnid"],
            name=row["name"],
            count=row["count"],
            right={
                view: (row[f"{view}_correct1"], row[f"{view}_correct5"])
                for view in evaluation.views
            },
        )
        for row in rows
    ]


def class_columns(classes: Sequence[ClassCount]) -> dict[str, list[Any]]:
    """Return the classes as a table: label, wnid, name, count, and shares of each view."""

    def shares(view: View, place: int) -> list[float | None]:
        rights = [entry.right[view][place] for entry in classes]
        return [
            right / entry.count if entry.count else None
            for right, entry in zip(rights, classes, strict=True)
        ]

    columns: dict[str, list[Any]] = {
        field: [getattr(entry, field) for entry in classes]
        for field in ("label", "wnid", "name", "count")
    }
    for view in classes[0].right:
        columns[f"top1{view_suffix(view)}"] = shares(view, 0)
        columns[f"top5{view_suffix(view)}"] = shares(view, 1)
    return columns


def read_confusion(
    evaluated: ObjectStore, evaluation: Evaluation, num_classes: int
) -> npt.NDArray[np.int64]:
    """Read how often which class was taken for which, (true, predicted), centre view."""
    table = read_parquet(read_object(evaluated, evaluation.confusion))
    counts = np.zeros((num_classes, num_classes), np.int64)
    true, predicted = table["true"].to_numpy(), table["predicted"].to_numpy()
    counts[true, predicted] = table["center_count"].to_numpy()
    return counts
