"""Is a committed dataset still what its manifest says? Every shard, every row, every other file.

Bytes come first. Only an object that has its bytes is looked into: what is then wrong is the
manifest's fault, and rendering again would not mend it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.progress import ProgressReport, no_progress
from infra.ray_tasks import run_tasks
from infra.store import ObjectStore, RangeFile, is_remote
from preprocessing.building.digests import damage_of
from preprocessing.care.verify_files import (
    Problem,
    check_files,
    check_manifest,
    refuse_failing_place,
)
from preprocessing.dataset.labels import Classes
from preprocessing.dataset.manifest import Manifest, Shard, read_manifest
from preprocessing.dataset.pixels import Pixels
from preprocessing.dataset.stored import decode_original, decode_stored
from preprocessing.errors import ImageRejected, ManifestError

_FACTS: Final = ("label", "sample_id", "wnid", "height", "width")
_FACTS_READ_AHEAD_BYTES: Final = 64 << 10
_MAKE_ROOM: Final = (
    "see Ray's logs; if memory ran out, free some on that node, or start Ray there with fewer CPUs,"
    " so that fewer checks run at a time"
)
_UNREADABLE: Final = (pa.ArrowException, ValueError, KeyError, OSError)


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of looking at all of a dataset."""

    num_shards: int
    num_rows: int
    size_bytes: int
    """Of all that the manifest names."""
    problems: tuple[Problem, ...]
    """Empty for a whole dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What the checks of all shards have in common. Picklable."""

    store: ObjectStore
    manifest: Manifest
    classes: Classes | None
    """None when they are damaged: then labels are only held against their range."""
    deep: bool


@dataclass(frozen=True, slots=True)
class CheckedShard:
    """What was found of one shard."""

    shard: Shard
    problems: tuple[Problem, ...]


def require_manifest(store: ObjectStore) -> Manifest:
    """Read the manifest; whether what it names is there is not looked at.

    Raises:
        ManifestError: there is none, or it cannot be understood.
    """
    manifest = read_manifest(store)
    if manifest is None:
        raise ManifestError(
            f"{store.uri} is no dataset: it holds no manifest",
            remedy="name the folder of a committed dataset, as `alexnet prepare` prints it",
        )
    return manifest


def verify_dataset(
    store: ObjectStore,
    manifest: Manifest,
    *,
    deep: bool = False,
    parallelism: int | None = None,
    progress: ProgressReport = no_progress,
) -> Verification:
    """Check all that a manifest names, a task a shard; find every problem. Ray must be up.

    Args:
        deep: decode every image too.
        parallelism: shards at a time; None: as many as the cluster has CPUs.
    """
    problems = check_manifest(manifest)
    found, classes = check_files(store, manifest)
    problems += found
    shards = manifest.shards
    total = sum(shard.num_rows for shard in shards)
    done = 0
    check = Check(store=store, manifest=manifest, classes=classes, deep=deep)
    progress(0, total)
    tasks = run_tasks(
        check_shard,
        check,
        shards,
        what="a check",
        name_of=attrgetter("path"),
        parallelism=parallelism,
        remedy=_MAKE_ROOM,
    )
    for result in tasks:
        problems += result.problems
        done += result.shard.num_rows
        progress(done, total)
    return Verification(
        num_shards=len(shards),
        num_rows=total,
        size_bytes=sum(item.size_bytes for item in manifest.objects()),
        problems=tuple(sorted(problems, key=lambda problem: problem.path)),
    )


def check_shard(check: Check, shard: Shard) -> CheckedShard:
    """Check one shard: its bytes, then its rows, a row group in memory at a time.

    Bytes that a disk does not give back are damage, which a repair writes elsewhere.

    Raises:
        StoreError: the place fails when the rows of whole bytes are read.
    """
    damage = damage_of(check.store, shard)
    if damage is not None:
        return CheckedShard(shard, (Problem(shard.path, damage, is_damage=True),))
    try:
        found = list(_row_problems(check, shard))
    except _UNREADABLE as error:
        refuse_failing_place(error, f"{check.store.uri}/{shard.path}")
        found = [f"cannot be read: {error}"]
    return CheckedShard(shard, tuple(Problem(shard.path, text, is_damage=False) for text in found))


def _row_problems(check: Check, shard: Shard) -> Iterator[str]:
    columns = [*_FACTS, *(["image"] if check.deep else [])]
    ids: list[npt.NDArray[np.int64]] = []
    with _open(check, shard) as source:
        file = pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False)
        yield from _layout_problems(file.metadata, check.manifest.rows_per_group)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns, use_threads=False)
            ids.append(table["sample_id"].to_numpy())
            yield from _label_problems(check, table)
            yield from _size_problems(check.manifest, table)
            if check.deep:
                yield from _image_problems(check.manifest, table)
    yield from _id_problems(shard, np.concatenate([*ids, np.empty(0, np.int64)]))


def _open(check: Check, shard: Shard) -> pa.NativeFile:
    if check.deep or not is_remote(check.store):
        return check.store.open_input(shard.path)
    # Of each row group all but the images is a few kilobytes: one small request.
    facts = RangeFile(
        check.store, shard.path, 0, shard.size_bytes, read_ahead_bytes=_FACTS_READ_AHEAD_BYTES
    )
    return pa.PythonFile(facts, mode="r")


def _layout_problems(metadata: pq.FileMetaData, rows_per_group: int) -> Iterator[str]:
    for group in range(metadata.num_row_groups - 1):
        rows = metadata.row_group(group).num_rows
        if rows != rows_per_group:
            yield f"row group {group} has {rows} rows, all but the last have {rows_per_group}"


def _id_problems(shard: Shard, ids: npt.NDArray[np.int64]) -> Iterator[str]:
    planned = shard.sample_ids()
    if len(ids) != len(planned):
        yield f"has {len(ids)} rows, the manifest names {len(planned)}"
    shorter = min(len(ids), len(planned))
    (other,) = np.nonzero(ids[:shorter] != planned[:shorter])
    if len(other):
        row = int(other[0])
        yield f"row {row} is sample {ids[row]}, planned is {planned[row]}"


def _label_problems(check: Check, table: pa.Table) -> Iterator[str]:
    labels, ids = table["label"].to_numpy(), table["sample_id"].to_numpy()
    num_classes = check.manifest.num_classes
    outside = (labels < 0) | (labels >= num_classes)
    for row in np.flatnonzero(outside):
        yield f"sample {ids[row]} has label {labels[row]}, there are {num_classes} classes"
    if check.classes is None:
        return
    expected = np.array([entry.wnid for entry in check.classes.classes], object)
    wnids = table["wnid"].to_numpy(zero_copy_only=False)
    labels = np.where(outside, 0, labels)
    for row in np.flatnonzero(~outside & (expected[labels] != wnids)):
        yield f"sample {ids[row]} is {wnids[row]!r}, its label says {expected[labels[row]]!r}"


def _size_problems(manifest: Manifest, table: pa.Table) -> Iterator[str]:
    heights, widths = table["height"].to_numpy(), table["width"].to_numpy()
    side = manifest.stored_px
    match manifest.shape:
        case "square":
            good = (heights == side) & (widths == side)
        case "keep-aspect":
            good = np.minimum(heights, widths) == side
        case "original":
            good = np.minimum(heights, widths) > 0
    ids = table["sample_id"].to_numpy()
    for row in np.flatnonzero(~good):
        yield f"sample {ids[row]} is {widths[row]}x{heights[row]}, not {manifest.shape} of {side}"


def _image_problems(manifest: Manifest, table: pa.Table) -> Iterator[str]:
    facts = table.select(["sample_id", "height", "width"]).to_pylist()
    for fact, image in zip(facts, table["image"], strict=True):
        try:
            height, width = _decoded(manifest, image["bytes"].as_py()).shape[:2]
        except ImageRejected as error:
            yield f"sample {fact['sample_id']}: {error.problem}"
            continue
        if (height, width) != (fact["height"], fact["width"]):
            yield (
                f"sample {fact['sample_id']} decodes to {width}x{height},"
                f" its row says {fact['width']}x{fact['height']}"
            )


def _decoded(manifest: Manifest, body: bytes) -> Pixels:
    return decode_original(body) if manifest.shape == "original" else decode_stored(body)
