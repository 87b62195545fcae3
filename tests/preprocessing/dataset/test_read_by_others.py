"""A dataset of ours is open to others as it is: to plain Arrow, and to Hugging Face's datasets."""

import io
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pytest
from jpeg_archives import write_archives
from PIL import Image

from infra.store import FolderStore
from preprocessing.building.plan import plan_split
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.dataset.pixels import decode_square
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.fetch import read_members
from preprocessing.sources.source import read_index

SIDE_PX = 24


@pytest.fixture
def index(tmp_path: Path, workspace: FolderStore) -> DatasetIndex:
    archives = write_archives(tmp_path / "archives")
    return read_index(DatasetSettings(archives=str(archives)), PrepareSettings(), workspace)


@pytest.fixture
def shards(tmp_path: Path, index: DatasetIndex) -> Path:
    """The folder of shards of raw pixels, which are exact."""
    options = PrepareSettings(stored_px=SIDE_PX, encoding="raw", rows_per_group=2, rows_per_shard=4)
    job = RenderJob(
        source=index.store,
        target=FolderStore(tmp_path / "shards"),
        classes=index.classes,
        options=options,
    )
    for split in ("train", "val"):
        for shard in plan_split(index.members, split, seed=0, rows_per_shard=4):
            render_shard(job, shard)
    return tmp_path / "shards"


def expected_pixels(index: DatasetIndex) -> dict[str, np.ndarray]:
    members = read_members(index.store, index.members.of_split("train"))
    return {member.name: decode_square(body, SIDE_PX) for member, body in members}


def test_plain_arrow_reads_the_shards(shards: Path, index: DatasetIndex) -> None:
    expected = expected_pixels(index)
    table = pyarrow.dataset.dataset(shards / "train", format="parquet").to_table()
    assert table.num_rows == len(expected) == 12
    for row in table.to_pylist():
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        assert np.array_equal(pixels, expected[row["image"]["path"]])
        assert row["label"] == index.classes.label_of[row["wnid"]]


def test_hugging_faces_datasets_reads_images_and_classes(
    shards: Path, index: DatasetIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    read = datasets.load_dataset(
        "parquet",
        data_files={"train": f"{shards}/train/*.parquet", "val": f"{shards}/val/*.parquet"},
        cache_dir=str(tmp_path / "cache"),
    )
    expected = expected_pixels(index)
    features = read["train"].features
    assert isinstance(features["image"], datasets.Image)
    assert features["label"].names == list(index.classes.names)
    assert (len(read["train"]), len(read["val"])) == (12, 4)
    paths = [
        row["path"]
        for row in read["train"].cast_column("image", datasets.Image(decode=False))["image"]
    ]
    for path, row in zip(paths, read["train"], strict=True):
        assert np.array_equal(np.asarray(row["image"]), expected[path])
        assert index.classes.classes[row["label"]].wnid == row["wnid"]
