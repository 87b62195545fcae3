"""A committed dataset of small random images and a checkpoint trained on it for no step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from alexnet.settings import AugmentSettings, NetworkSettings
from alexnet.train.checkpoint import TrainState, write_checkpoint
from alexnet.trained import TrainedNetwork, trained_network
from infra.commit import write_object
from infra.store import FolderStore
from preprocessing.building.summing import PixelAdder
from preprocessing.dataset.labels import make_classes
from preprocessing.dataset.manifest import MANIFEST, Manifest, Shard, Split
from preprocessing.dataset.schema import open_shard_writer, shard_schema
from preprocessing.dataset.statistics import finish
from preprocessing.dataset.stored import encode_jpeg

STORED_PX, CROP_PX, NUM_CLASSES, ROWS_PER_GROUP = 48, 40, 7, 32


@dataclass(frozen=True)
class TinyTraining:
    """Where everything of the tiny training lies."""

    store: FolderStore
    manifest: Manifest
    checkpoint: FolderStore
    trained: TrainedNetwork


@pytest.fixture(name="write_tiny_dataset")
def _write_tiny_dataset() -> Any:
    """What writes a tiny dataset; a fixture, for tests cannot import this file."""
    return write_tiny_dataset


@pytest.fixture(scope="session")
def tiny_training(tmp_path_factory: pytest.TempPathFactory) -> TinyTraining:
    root = tmp_path_factory.mktemp("tiny-training")
    store = FolderStore(root / "dataset")
    manifest = write_tiny_dataset(store)
    checkpoint = write_tiny_checkpoint(root / "run", manifest)
    return TinyTraining(store, manifest, checkpoint, trained_network(checkpoint, store, manifest))


@dataclass(frozen=True)
class TrainingData:
    """A committed dataset of several windows: what readers and loaders go through."""

    store: FolderStore
    manifest: Manifest


@pytest.fixture(scope="session")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """Train of 2496 rows: shards of 1085, 1024 and 387 with holes in two, both with a short group.

    Tests that damage it copy it first.
    """
    store = FolderStore(tmp_path_factory.mktemp("training-data"))
    holes = (5, 6, 700, 2200)
    return TrainingData(store, write_dataset(store, ((0, 1088), (1088, 2112), (2112, 2500)), holes))


def write_dataset(
    store: FolderStore, train_bounds: tuple[tuple[int, int], ...], holes: tuple[int, ...]
) -> Manifest:
    """Commit a train split of these shards (start, stop), and a val split of one image."""
    rng = np.random.default_rng(1)
    classes = make_classes({f"n{label:08}": f"class {label}" for label in range(NUM_CLASSES)})
    sums = PixelAdder(STORED_PX, STORED_PX, NUM_CLASSES)
    train = []
    for number, (start, stop) in enumerate(train_bounds):
        own = tuple(hole for hole in holes if start <= hole < stop)
        path = f"train/part-{number}.parquet"
        shard = _write_shard(store, path, range(start, stop), own, rng, classes.names, sums)
        train.append(shard)
    val = _write_shard(store, "val/part-0.parquet", range(1), (), rng, classes.names, None)
    manifest = _manifest(
        store,
        train=Split(shards=tuple(train)),
        val=Split(shards=(val,)),
        classes=write_object(store, "classes.json", classes.to_bytes()),
        statistics=write_object(store, "stats.safetensors", finish(sums.result()).to_bytes()),
        num_rejects=len(holes),
    )
    store.create(MANIFEST, manifest.to_bytes())
    return manifest


def _manifest(store: FolderStore, stored_px: int = STORED_PX, **fields: Any) -> Manifest:
    return Manifest(
        name="tiny",
        key="tiny",
        num_classes=NUM_CLASSES,
        height_px=stored_px,
        width_px=stored_px,
        rows_per_group=ROWS_PER_GROUP,
        members=write_object(store, "members.parquet", b""),
        rejects=write_object(store, "rejects.parquet", b""),
        made_with={},
        **fields,
    )


def write_tiny_dataset(store: FolderStore, stored_px: int = STORED_PX) -> Manifest:
    """Train of 20 images; val of 99 and 51 rows, two rejects: its blocks are 64, 64 and 22."""
    rng = np.random.default_rng(0)
    classes = make_classes({f"n{label:08}": f"class {label}" for label in range(NUM_CLASSES)})
    sums = PixelAdder(stored_px, stored_px, NUM_CLASSES)

    def shard(path: str, ids: range, holes: tuple[int, ...], adder: PixelAdder | None) -> Shard:
        return _write_shard(store, path, ids, holes, rng, classes.names, adder, stored_px)

    train = shard("train/part-0.parquet", range(20), (), sums)
    val = [
        shard("val/part-0.parquet", range(101), (3, 40), None),
        shard("val/part-1.parquet", range(101, 152), (), None),
    ]
    manifest = _manifest(
        store,
        stored_px,
        train=Split(shards=(train,)),
        val=Split(shards=tuple(val)),
        classes=write_object(store, "classes.json", classes.to_bytes()),
        statistics=write_object(store, "stats.safetensors", finish(sums.result()).to_bytes()),
        num_rejects=2,
    )
    store.create(MANIFEST, manifest.to_bytes())
    return manifest


def write_tiny_checkpoint(run: Path, manifest: Manifest) -> FolderStore:
    network = NetworkSettings(name="alexnet-2012", width=0.05, init="fan-in")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = network.build(NUM_CLASSES, CROP_PX)
    state = TrainState(
        step=0,
        epoch=0,
        attempt=1,
        run_key="0" * 64,
        dataset_fingerprint=manifest.fingerprint,
        seed=0,
        global_batch=8,
        num_classes=NUM_CLASSES,
        network=network,
        augment=AugmentSettings(crop_px=CROP_PX),
    )
    receipt = write_checkpoint(FolderStore(run), state, model.state_dict(), {})
    return FolderStore(run / "checkpoints" / receipt.name)


def _write_shard(
    store: FolderStore,
    path: str,
    ids: range,
    holes: tuple[int, ...],
    rng: np.random.Generator,
    names: tuple[str, ...],
    sums: PixelAdder | None,
    stored_px: int = STORED_PX,
) -> Shard:
    rows = []
    for sample_id in sorted(set(ids) - set(holes)):
        label = int(rng.integers(NUM_CLASSES))
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        pixels = np.kron(coarse, np.ones((stored_px // 4, stored_px // 4, 1), np.uint8))
        if sums is not None:
            sums.add(pixels, label)
        image = {"bytes": encode_jpeg(pixels, 90), "path": f"{sample_id}.jpg"}
        size = {"height": stored_px, "width": stored_px}
        rows.append(
            {"image": image, "label": label, "sample_id": sample_id, "wnid": names[label], **size}
        )
    sink = pa.BufferOutputStream()
    schema = shard_schema(names)
    with open_shard_writer(sink, schema) as writer:
        for start in range(0, len(rows), ROWS_PER_GROUP):
            part = rows[start : start + ROWS_PER_GROUP]
            writer.write_table(pa.Table.from_pylist(part, schema=schema))
    written = write_object(store, path, sink.getvalue().to_pybytes())
    return Shard(**written.model_dump(), start=ids.start, stop=ids.stop, holes=holes)
