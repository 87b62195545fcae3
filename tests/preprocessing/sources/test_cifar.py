import logging
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import DataError
from infra.store import FolderStore
from preprocessing.building.plan import plan_split
from preprocessing.building.render import RenderJob, render_shard
from preprocessing.dataset.pixels import decode_image
from preprocessing.dataset.stored import decode_stored
from preprocessing.errors import ArchiveMissing
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.fetch import read_members
from preprocessing.sources.source import read_index

NAMES = ("apple", "bee", "crab")


def rows_of(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)


def a_batch(seed: int = 0, **changes: Any) -> dict[str, Any]:
    labels = [0, 1, 2, 2]
    batch = {"batch_label": "x", "labels": labels, "data": rows_of(4, seed)}
    return batch | {"filenames": [f"{label}.png" for label in labels]} | changes


def write_cifar_10(folder: Path, **changes: Any) -> Path:
    """Six batches of four rows; `changes` are to the third."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"num_cases_per_batch": 4, "label_names": list(NAMES), "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, 2))
    for number in range(1, 6):
        batch = a_batch(number, **(changes if number == 3 else {}))
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(batch, 2))
    (folder / "test_batch").write_bytes(pickle.dumps(a_batch(9), 4))
    return folder


def index_of(folder: Path, workspace: FolderStore, **options: Any) -> DatasetIndex:
    settings = PrepareSettings(**{"stored_px": 32, "encoding": "raw"} | options)
    return read_index(DatasetSettings(cifar=str(folder)), settings, workspace)


def pixels_of(index: DatasetIndex) -> dict[str, npt.NDArray[np.uint8]]:
    members = read_members(index.store, index.members)
    return {member.name: decode_image(body) for member, body in members}


def test_real_cifar_10_keeps_its_pixels_labels_and_names(
    shared_data: Path, workspace: FolderStore
) -> None:
    folder = shared_data / "cifar10-mini" / "cifar-10-batches-py"
    index = index_of(folder, workspace)
    assert (index.count("train"), index.count("val")) == (4000, 800)
    assert index.classes.names[:3] == ("airplane", "automobile", "bird")
    pixels = pixels_of(index)
    assert len(pixels) == 4800
    # Nothing but a test may read pickles in the ordinary way.
    for batch in ("data_batch_4", "test_batch"):
        with (folder / batch).open("rb") as file:
            expected = pickle.load(file, encoding="latin1")
        ours = [m for m in index.members if m.archive == f"images/{batch}"]
        labels = [index.classes.label_of[member.wnid] for member in ours]
        assert labels == expected["labels"]
        planes = np.stack([pixels[member.name] for member in ours]).transpose(0, 3, 1, 2)
        assert np.array_equal(planes.reshape(-1, 3072), expected["data"])
        assert [m.name.rpartition("/")[2] for m in ours] == expected["filenames"]


def test_pixels_are_stored_as_they_are(tmp_path: Path, workspace: FolderStore) -> None:
    index = index_of(write_cifar_10(tmp_path / "cifar"), workspace)
    options = PrepareSettings(
        stored_px=32, encoding="raw", rows_per_group=4, rows_per_shard=20, seed=3
    )
    job = RenderJob(source=index.store, target=workspace, classes=index.classes, options=options)
    (shard,) = plan_split(index.members, "train", seed=3, rows_per_shard=20)
    render_shard(job, shard)
    rows = pq.read_table(pa.BufferReader(workspace.read(shard.path))).to_pylist()
    assert len(rows) == 20
    for row in rows:
        batch, number, _ = row["image"]["path"].split("/")
        data = rows_of(4, int(batch[-1]))[int(number)]
        assert np.array_equal(decode_stored(row["image"]["bytes"]).transpose(2, 0, 1).ravel(), data)
        assert row["label"] == [0, 1, 2, 2][int(number)]


def test_cifar_100_has_its_fine_labels(tmp_path: Path, workspace: FolderStore) -> None:
    meta = {b"fine_label_names": ["b", "a"], b"coarse_label_names": ["z"]}
    (tmp_path / "meta").write_bytes(pickle.dumps(meta, 2))
    for name, labels in (("train", [0, 1, 1]), ("test", [1])):
        batch = {
            b"fine_labels": np.array(labels),
            b"coarse_labels": [0] * len(labels),
            b"data": rows_of(len(labels)),
        }
        (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
    index = index_of(tmp_path, workspace)
    # Names that are not sorted would turn labels round as keys.
    assert [(entry.wnid, entry.name) for entry in index.classes.classes] == [("0", "b"), ("1", "a")]
    assert [(m.split, m.name, m.wnid) for m in index.members] == [
        ("train", "train/00000", "0"),
        ("train", "train/00001", "1"),
        ("train", "train/00002", "1"),
        ("val", "test/00000", "1"),
    ]


def test_the_index_is_the_same_wherever_it_is(tmp_path: Path) -> None:
    folders = [write_cifar_10(tmp_path / name) for name in ("one", "two")]
    first, second = (index_of(f, FolderStore(tmp_path / "w" / f.name)) for f in folders)
    assert first.digest == second.digest
    assert [source.name for source in first.sources][:2] == ["batches.meta", "data_batch_1"]


def test_options_that_change_pixels_are_told(
    tmp_path: Path, workspace: FolderStore, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_cifar_10(tmp_path / "cifar")
    with caplog.at_level(logging.WARNING, "preprocessing"):
        index_of(folder, workspace)
        index_of(folder, workspace, shape="original", encoding="jpeg")
        assert caplog.messages == []
        index_of(folder, workspace, stored_px=64, encoding="jpeg")
    assert [re.split(r"[ =]", line)[0] for line in caplog.messages] == [
        "cifar_scaled",
        "cifar_encoded_as",
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data": rows_of(4).tolist()}, "data is no array of bytes in rows"),
        ({"data": rows_of(4).astype(np.int32)}, "data is no array of bytes in rows"),
        ({"data": rows_of(4)[:, :3000]}, "a row of data has 3000 bytes"),
        ({"data": rows_of(5)}, "5 rows of data have 4 labels"),
        ({"labels": [0, 1, 2, 3]}, "label 3 is none of 3 classes"),
        ({"labels": [0, 1, 2, -1]}, "row 3 has label -1"),
        ({"labels": [0, 1, 2, 10**40]}, "row 3 has label 1000"),
        ({"labels": [0, 1, 2, True]}, "labels is no list of numbers"),
        ({"labels": "abcd"}, "labels is no list of numbers"),
        ({"filenames": ["a", "b", "c"]}, "filenames is no list"),
        ({"filenames": ["a", "b", "c", "\ud800"]}, "row 3 has a file name that is none"),
        ({"filenames": ["a", "b", "c", 4]}, "row 3 has a file name that is none"),
    ],
)
def test_a_batch_that_is_not_cifars_is_refused(
    changes: dict[str, Any], problem: str, tmp_path: Path, workspace: FolderStore
) -> None:
    folder = write_cifar_10(tmp_path / "cifar", **changes)
    with pytest.raises(DataError, match=problem):
        index_of(folder, workspace)


@pytest.mark.parametrize("names", [[], ["a", "a", "b"], ["a", "b", 3], ["a", "b", "c\n"], "abc"])
def test_a_meta_file_without_names_is_refused(
    names: Any, tmp_path: Path, workspace: FolderStore
) -> None:
    folder = write_cifar_10(tmp_path / "cifar")
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, 2))
    with pytest.raises(DataError, match=r"batches\.meta is no file of CIFAR's: label_names is"):
        index_of(folder, workspace)


def test_what_is_no_dictionary_is_refused(tmp_path: Path, workspace: FolderStore) -> None:
    folder = write_cifar_10(tmp_path / "cifar")
    (folder / "data_batch_2").write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(DataError, match="data_batch_2 is no file of CIFAR's: it holds no dict"):
        index_of(folder, workspace)


def test_a_file_of_absurd_size_is_not_read(tmp_path: Path, workspace: FolderStore) -> None:
    folder = write_cifar_10(tmp_path / "cifar")
    with (folder / "data_batch_1").open("wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(DataError, match=r"it has 64,424,509,440 bytes, too many"):
        index_of(folder, workspace)


def test_a_packed_archive_is_to_be_unpacked(tmp_path: Path, workspace: FolderStore) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ArchiveMissing, match=r"holds no batches\.meta") as error:
        index_of(tmp_path, workspace)
    assert "cifar-10-python.tar.gz unpacks to" in error.value.remedy
