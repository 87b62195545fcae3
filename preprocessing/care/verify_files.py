"""Is what lies beside a dataset's shards what the manifest says? Classes, statistics, lists.

And does the manifest itself add up.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.commit import StoredObject, read_object
from infra.errors import ProjectError, ServiceError, StoreError
from infra.parquet import read_parquet
from infra.store import ObjectStore
from preprocessing.building.digests import damage_of
from preprocessing.dataset.labels import Classes, read_classes
from preprocessing.dataset.manifest import MANIFEST, Manifest
from preprocessing.dataset.rejects import read_rejects
from preprocessing.dataset.statistics import read_statistics

_SPLITS: Final[tuple[Literal["train"], Literal["val"]]] = ("train", "val")
_UNREADABLE: Final = (ProjectError, pa.ArrowException, ValueError, KeyError, TypeError, OSError)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a dataset."""

    path: str
    """Of the object, below the dataset's folder."""
    problem: str
    is_damage: bool
    """Whether the object lacks its bytes; else it has them, and they contradict the manifest."""


def check_manifest(manifest: Manifest) -> list[Problem]:
    """Check that the shards' samples follow one another, and that the rejects are as many."""
    found: list[str] = []
    for split in _SPLITS:
        stop = 0
        for shard in manifest.split(split).shards:
            if shard.start != stop:
                found.append(f"{shard.path} begins with sample {shard.start}, {stop} would be next")
            stop = shard.stop
    holes = sum(len(shard.holes) for split in _SPLITS for shard in manifest.split(split).shards)
    if holes != manifest.num_rejects:
        found.append(f"its shards have {holes} holes, it names {manifest.num_rejects} rejects")
    return [Problem(MANIFEST, text, is_damage=False) for text in found]


def check_files(store: ObjectStore, manifest: Manifest) -> tuple[list[Problem], Classes | None]:
    """Check all that is no shard; also return the classes, unless they cannot be trusted.

    In memory: 190 MB for the list of ImageNet's members.
    """
    looks: tuple[tuple[StoredObject, _Look], ...] = (
        (manifest.classes, _class_problems),
        (manifest.statistics, _statistics_problems),
        (manifest.members, _member_problems),
        (manifest.rejects, _reject_problems),
    )
    found = [problem for item, look in looks for problem in _check(store, manifest, item, look)]
    is_known = all(problem.path != manifest.classes.path for problem in found)
    return found, read_classes(store, manifest.classes) if is_known else None


def refuse_failing_place(error: BaseException, where: str) -> None:
    """Raise what the system, or a store, said: it is no contradiction in bytes that are whole.

    Raises:
        StoreError: the place fails.
    """
    if isinstance(error, ServiceError):
        raise error
    # Arrow gives a number to what the system said, and none to what it found in the bytes.
    if isinstance(error, OSError) and error.errno is not None:
        raise StoreError(
            f"{where} cannot be read: {error}",
            remedy="check the disk or the network behind it, and run again",
        ) from error


_Look = Callable[[ObjectStore, Manifest], Iterator[str]]


def _check(
    store: ObjectStore, manifest: Manifest, item: StoredObject, look: _Look
) -> list[Problem]:
    damage = damage_of(store, item)
    if damage is not None:
        return [Problem(item.path, damage, is_damage=True)]
    try:
        found = list(look(store, manifest))
    except _UNREADABLE as error:
        refuse_failing_place(error, f"{store.uri}/{item.path}")
        found = [f"cannot be read: {error}"]
    return [Problem(item.path, text, is_damage=False) for text in found]


def _class_problems(store: ObjectStore, manifest: Manifest) -> Iterator[str]:
    count = len(read_classes(store, manifest.classes))
    if count != manifest.num_classes:
        yield f"has {count} classes, the manifest says {manifest.num_classes}"


def _statistics_problems(store: ObjectStore, manifest: Manifest) -> Iterator[str]:
    statistics = read_statistics(store, manifest.statistics)
    shape = (manifest.height_px, manifest.width_px, 3)
    if statistics.mean_image.shape != shape:
        yield f"its mean image is {statistics.mean_image.shape}, not {shape}"
    if len(statistics.class_counts) != manifest.num_classes:
        yield f"counts {len(statistics.class_counts)} classes, there are {manifest.num_classes}"
    num_images = int(statistics.class_counts.sum())
    if num_images != manifest.train.count:
        yield f"is of {num_images} images, train has {manifest.train.count}"


def _member_problems(store: ObjectStore, manifest: Manifest) -> Iterator[str]:
    body = read_object(store, manifest.members)
    table = read_parquet(body, ["split", "sample_id"])
    for split in _SPLITS:
        shards = manifest.split(split).shards
        planned = shards[-1].stop if shards else 0
        ids = table.filter(pc.equal(table["split"], split))["sample_id"].to_numpy()
        if not np.array_equal(np.sort(ids), np.arange(planned)):
            yield f"does not list the samples 0 to {planned - 1} of {split}, each once"


def _reject_problems(store: ObjectStore, manifest: Manifest) -> Iterator[str]:
    rejects = read_rejects(store, manifest)
    for split in _SPLITS:
        listed = sorted(item.sample_id for item in rejects if item.split == split)
        holes = [hole for shard in manifest.split(split).shards for hole in shard.holes]
        if listed != holes:
            first = min(set(holes) ^ set(listed))
            yield f"disagrees with the holes of {split}: sample {first} is only in one of the two"
