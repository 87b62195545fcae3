"""Archives → dataset: what the others measure on, and images per second of making it."""

import shutil
import time
from pathlib import Path
from typing import Final

from benchmarks.passes import Pass, Results, Stamp, Subject, make_pass, make_series
from benchmarks.settings import Settings
from infra.store import FolderStore
from preprocessing.prepare import dataset_folder, dataset_key, prepare_dataset
from preprocessing.settings import DatasetSettings, DrawnSettings, PrepareSettings
from preprocessing.sources.drawn import ensure_drawn_archives
from preprocessing.sources.source import read_index

MAX_REJECTS: Final = 1
"""Images that may fail to decode."""


def draw_archives(settings: Settings, workspace: Path) -> str:
    """Draw archives into a workspace and return where they lie."""
    count = settings.drawn_per_class
    drawn = DrawnSettings(train_per_class=count, val_per_class=max(1, count // 10))
    return ensure_drawn_archives(drawn, FolderStore(workspace)).uri


def measure(settings: Settings, archives: str, workspace: Path) -> tuple[Results, Path]:
    """Prepare the same archives `passes` times; return the last dataset too, the only one kept.

    Ray is up.
    """
    datasets: list[Path] = []

    def take() -> Pass:
        for dataset in datasets:
            shutil.rmtree(dataset, ignore_errors=True)
        made, dataset = prepare(settings, archives, workspace / f"prepared-{len(datasets)}")
        datasets.append(dataset)
        return made

    subject = Subject(
        name="prepare",
        what="an image of either split, from the archives to the committed dataset: indexed, read,"
        " decoded, squared, encoded, its pixels summed up; Ray is up",
        take=take,
    )
    passes = [subject.take() for _ in range(settings.passes)]
    return Results(series=(make_series(subject, "whole", passes),)), datasets[-1]


def prepare(settings: Settings, archives: str, workspace: Path) -> tuple[Pass, Path]:
    """Prepare archives in an empty workspace, once; return how that went and the dataset."""
    dataset = DatasetSettings(name="benchmark", archives=archives)
    options = PrepareSettings(
        stored_px=settings.stored_px, quality=settings.quality, max_rejects=MAX_REJECTS
    )
    started_s = time.perf_counter()
    index = read_index(dataset, options, FolderStore(workspace))
    manifest = prepare_dataset(index, dataset, options, FolderStore(workspace))
    images = manifest.train.count + manifest.val.count
    made = make_pass(started_s, [[Stamp(time.perf_counter(), images)]])
    return made, workspace / dataset_folder(dataset.name, dataset_key(index, options))
