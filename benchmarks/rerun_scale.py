"""Run `prepare` again on real ImageNet's numbers, without its pictures: nothing is left to do.

    python -m benchmarks.rerun_scale

Archives and shards are holes of the right sizes; the devkit, the kept indexes, the classes, the
rejects and the manifest are whole, as a build would have left them.
"""

import argparse
import gzip
import io
import json
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa
import scipy.io

from benchmarks.plan_scale import made_up_index
from infra.commit import StoredObject, commit_receipt, write_object
from infra.parquet import parquet_bytes
from infra.store import FolderStore
from preprocessing.building.identity import record_source
from preprocessing.building.plan import PlannedShard
from preprocessing.building.versions import encoder_versions
from preprocessing.dataset.manifest import (
    CLASSES,
    MANIFEST,
    MEMBERS,
    REJECTS,
    STATISTICS,
    Manifest,
    Shard,
    Split,
)
from preprocessing.dataset.rejects import rejects_table
from preprocessing.prepare import dataset_folder, dataset_key, plan_dataset, prepare_dataset
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.archives import (
    DEVKIT_ARCHIVE,
    TRAIN_ARCHIVE,
    VAL_ARCHIVE,
    find_archives,
)
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.devkit import GROUND_TRUTH, META
from preprocessing.sources.index import index_key, kept_or_scanned
from preprocessing.sources.source import read_index

NAME: Final = "made-up"
_STORED_BYTES: Final = 22_000
"""A square of 256 px, quality 90."""
_MEMBER_BYTES: Final = 55
_NO_DIGEST: Final = "0" * 64


def measure(share: float = 1.0) -> dict[str, Any]:
    """Leave what a build would, and prepare again; return seconds by part."""
    with TemporaryDirectory(prefix="alexnet-rerun-") as name:
        archives, workspace = FolderStore(Path(name, "in")), FolderStore(Path(name, "workspace"))
        prepare = PrepareSettings()
        dataset = DatasetSettings(name=NAME, archives=archives.uri)
        _keep_indexes(archives, workspace, made_up_index(share))
        manifest = _commit(read_index(dataset, prepare, workspace), prepare, workspace)

        times_s = [time.perf_counter()]
        index = read_index(dataset, prepare, workspace)
        times_s.append(time.perf_counter())
        found = prepare_dataset(index, dataset, prepare, workspace)
        times_s.append(time.perf_counter())
        if found != manifest:
            raise AssertionError("another dataset was found, or one was made")
        read_s, prepare_s = np.diff(times_s).round(2).tolist()
        return {
            "images": len(index.members),
            "shards": len(manifest.shards),
            "seconds": {"read_index": read_s, "prepare_dataset": prepare_s},
        }


def _keep_indexes(archives: FolderStore, workspace: FolderStore, index: DatasetIndex) -> None:
    """Write archives that hold nothing, and the indexes that say what they hold."""
    size_bytes = int(index.members.table["size_bytes"].to_numpy().sum())
    for name in (TRAIN_ARCHIVE, VAL_ARCHIVE):
        _write_hole(archives, name, size_bytes)
    _write_devkit(archives, index)
    sources = find_archives(archives)
    for source, split in zip(sources, ("train", "val"), strict=False):
        is_nested = split == "train"
        table = index.members.of_split("train" if is_nested else "val").table
        inner = table["wnid"] if is_nested else pa.repeat("", table.num_rows)
        kept = table.select(["name", "start", "size_bytes"]).append_column("inner", inner)
        key = index_key(archives, source, nested=is_nested)
        kept_or_scanned(workspace, key, archives, (source,), kept.combine_chunks)


def _commit(index: DatasetIndex, prepare: PrepareSettings, workspace: FolderStore) -> Manifest:
    key = dataset_key(index, prepare)
    store = workspace.child(dataset_folder(NAME, key))
    plan = plan_dataset(index, prepare)
    splits = {
        split: Split(shards=tuple(_shard(store, one) for one in plan if one.split == split))
        for split in ("train", "val")
    }
    num_classes, side_px = len(index.classes), prepare.stored_px
    manifest = Manifest(
        name=NAME,
        key=key,
        num_classes=num_classes,
        height_px=side_px,
        width_px=side_px,
        rows_per_group=prepare.rows_per_group,
        train=splits["train"],
        val=splits["val"],
        classes=write_object(store, CLASSES, index.classes.to_bytes()),
        statistics=_write_hole(store, STATISTICS, 3 * 8 * side_px**2 + 8 * num_classes),
        members=_write_hole(store, MEMBERS, _MEMBER_BYTES * len(index.members)),
        rejects=write_object(store, REJECTS, parquet_bytes(rejects_table([]))),
        num_rejects=0,
        made_with=encoder_versions(),
        options=prepare.deciding(),
    )
    commit_receipt(store, MANIFEST, manifest.to_bytes())
    record_source(store, index)
    return manifest


def _shard(store: FolderStore, planned: PlannedShard) -> Shard:
    hole = _write_hole(store, planned.path, _STORED_BYTES * len(planned.members))
    return Shard(**hole.model_dump(), start=planned.start, stop=planned.stop)


def _write_hole(store: FolderStore, path: str, size_bytes: int) -> StoredObject:
    place = Path(store.uri, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        file.truncate(size_bytes)
    return StoredObject(path=path, size_bytes=size_bytes, sha256=_NO_DIGEST)


def _write_devkit(archives: FolderStore, index: DatasetIndex) -> None:
    """Write a devkit whose classes have the ids 1, 2, 3, … in the order of their labels."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    rows = [(c.label + 1, c.wnid, c.name, 0) for c in index.classes.classes]
    meta, labels = io.BytesIO(), index.classes.label_of
    synsets = np.array([[row] for row in rows], dtype=[(field, object) for field in fields])
    scipy.io.savemat(meta, {"synsets": synsets})  # type: ignore[arg-type]  # stubs know no files
    truth = "".join(f"{labels[member.wnid] + 1}\n" for member in index.members.of_split("val"))
    tar_body = io.BytesIO()
    with tarfile.open(fileobj=tar_body, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, body in ((META, meta.getvalue()), (GROUND_TRUTH, truth.encode())):
            info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    archives.write(DEVKIT_ARCHIVE, gzip.compress(tar_body.getvalue()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rerun_scale", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of ImageNet's images")
    json.dump(measure(parser.parse_args().share), sys.stdout, indent=1)
    print()
