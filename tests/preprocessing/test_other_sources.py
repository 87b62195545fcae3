"""Datasets of other people's layouts are built like any other: whole builds over a local Ray."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jpeg_archives import make_jpeg, make_tar
from small_build import build_without_ray, run_here

from infra.errors import DataError, ObjectCorrupt
from infra.lease import Lease
from infra.store import FolderStore
from preprocessing.care import repair as care
from preprocessing.care.verify import Verification
from preprocessing.care.verify_files import Problem
from preprocessing.dataset.manifest import Manifest, open_dataset
from preprocessing.dataset.statistics import read_statistics
from preprocessing.dataset.stored import decode_stored
from preprocessing.prepare import (
    dataset_folder,
    dataset_key,
    prepare_dataset,
    repair_dataset,
)
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.source import read_index

OPTIONS = PrepareSettings(stored_px=32, encoding="raw", rows_per_group=2, rows_per_shard=4)
Writer = Callable[[Path], Path]


def write_cifar(folder: Path, seed: int = 0) -> Path:
    """CIFAR-100 in miniature; returns the file that holds validation images."""
    folder.mkdir(exist_ok=True)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a", "b"]}, 2))
    for name, count in (("train", 6), ("test", 4)):
        data = np.random.default_rng([seed, count]).integers(0, 256, (count, 3072), np.uint8)
        batch = {"fine_labels": [i % 2 for i in range(count)], "data": data}
        (folder / name).write_bytes(pickle.dumps(batch, 2))
    return folder / "test"


def write_huggingface(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for name, count in (("train", 6), ("test", 4)):
        images = [{"bytes": make_jpeg(100 * seed + count + i), "path": None} for i in range(count)]
        table = pa.table({"image": images, "label": [i % 2 for i in range(count)]})
        pq.write_table(table, folder / f"{name}.parquet")
    return folder / "test.parquet"


def write_webdataset(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for name, count in (("train", 6), ("test", 4)):
        images = [(f"{i}.jpg", make_jpeg(100 * seed + count + i)) for i in range(count)]
        labels = [(f"{i}.cls", b"%d" % (i % 2)) for i in range(count)]
        files = [file for pair in zip(images, labels, strict=True) for file in pair]
        (folder / f"{name}.tar").write_bytes(make_tar(files))
    return folder / "test.tar"


WRITERS = {
    "cifar": write_cifar,
    "huggingface": write_huggingface,
    "webdataset": write_webdataset,
}


def prepare(workspace: FolderStore, kind: str, folder: Path) -> tuple[Manifest, FolderStore]:
    dataset = DatasetSettings.model_validate({"name": "other", kind: str(folder)})
    index = read_index(dataset, OPTIONS, workspace)
    manifest = prepare_dataset(index, dataset, OPTIONS, workspace)
    return manifest, workspace.child(dataset_folder("other", dataset_key(index, OPTIONS)))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_dataset_is_built_kept_and_compared(
    kind: str, tmp_path: Path, workspace: FolderStore
) -> None:
    folder = tmp_path / "source"
    val_file = WRITERS[kind](folder)
    manifest, store = prepare(workspace, kind, folder)
    assert (manifest.train.count, manifest.val.count, manifest.num_classes) == (6, 4, 2)
    assert open_dataset(store) == manifest
    tables = [pq.read_table(pa.BufferReader(store.read(s.path))) for s in manifest.train.shards]
    rows = pa.concat_tables(tables).to_pylist()
    assert sorted(row["label"] for row in rows) == [0, 0, 0, 1, 1, 1]
    images = np.stack([decode_stored(row["image"]["bytes"]) for row in rows])
    mean = read_statistics(store, manifest.statistics).mean_image
    assert np.allclose(mean, images.mean(axis=0), atol=1e-4)
    # Touched, its bytes are compared, and hold.
    os.utime(val_file, ns=(1, 1))
    assert prepare(workspace, kind, folder)[0] == manifest
    # Other images of the same names and sizes are another source.
    if kind == "cifar":
        WRITERS[kind](folder, seed=1)
        with pytest.raises(DataError, match="is not the one that"):
            prepare(workspace, kind, folder)


@pytest.mark.parametrize("kind", ["cifar", "huggingface"])
@pytest.mark.parametrize("flipped", ["images/train", "images/test"])
def test_a_bit_flipped_in_an_unpacked_copy_is_noticed_and_mended_when_it_is_run_again(
    kind: str, flipped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_without_ray(monkeypatch)
    WRITERS[kind](folder := tmp_path / "source")
    expected = prepare(FolderStore(tmp_path / "quiet"), kind, folder)[0]
    workspace = FolderStore(tmp_path / "workspace")
    dataset = DatasetSettings.model_validate({"name": "other", kind: str(folder)})
    copies = read_index(dataset, OPTIONS, workspace).store
    (archive,) = (info.key for info in copies.list(flipped))
    whole = copies.read(archive)
    copies.write(archive, whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    other = {info.key: info.version for info in copies.list("images/") if info.key != archive}
    with pytest.raises(ObjectCorrupt, match=f"{archive}: image .* the bytes that were") as caught:
        prepare(workspace, kind, folder)
    assert "run the same command again" in caught.value.remedy
    manifest, _ = prepare(workspace, kind, folder)
    assert manifest.fingerprint == expected.fingerprint
    assert copies.read(archive) == whole
    after = {info.key: info.version for info in copies.list("images/")}
    assert other.items() <= after.items()


def test_a_repair_from_a_damaged_copy_mends_the_copy_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_without_ray(monkeypatch)
    monkeypatch.setattr(care, "run_tasks", run_here)
    write_cifar(folder := tmp_path / "source")
    workspace = FolderStore(tmp_path / "workspace")
    manifest, store = prepare(workspace, "cifar", folder)
    dataset = DatasetSettings(name="other", cifar=str(folder))
    shard = manifest.train.shards[0]
    whole = store.read(shard.path)
    store.write(shard.path, b"damaged")
    copies = read_index(dataset, OPTIONS, workspace).store
    copies.write("images/train", bytes(len(copies.read("images/train"))))

    def repair() -> None:
        index = read_index(dataset, OPTIONS, workspace)
        problem = Problem(shard.path, "is damaged", is_damage=True)
        found = Verification(1, 1, 1, (problem,))
        repair_dataset(index, OPTIONS, store, found, lease=Lease(store, 1))

    with pytest.raises(ObjectCorrupt, match="images/train"):
        repair()
    repair()
    assert store.read(shard.path) == whole
