import csv
import os
from pathlib import Path

import pytest
from jpeg_archives import DEVKIT, TRAIN, VAL, make_devkit, make_tar, write_archives

from infra.errors import DataError
from infra.store import FolderStore
from preprocessing.errors import ArchiveMissing, DevkitMismatch
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.source import read_index


def index_of(folder: Path, workspace: FolderStore) -> DatasetIndex:
    return read_index(DatasetSettings(archives=str(folder)), PrepareSettings(), workspace)


def test_the_index_of_ilsvrc_mini_agrees_with_its_provenance(
    shared_data: Path, workspace: FolderStore
) -> None:
    folder = shared_data / "ilsvrc-mini"
    index = index_of(folder, workspace)
    assert (index.count("train"), index.count("val"), len(index.classes)) == (5000, 500, 10)
    with (folder / "provenance.csv").open() as file:
        rows = {row["member"].rpartition("/")[2]: row for row in csv.DictReader(file)}
    assert all(
        (member.wnid, member.size_bytes)
        == (rows[member.name]["wnid"], int(rows[member.name]["bytes"]))
        for member in index.members
    )


def test_the_digest_knows_neither_place_nor_time(tmp_path: Path, workspace: FolderStore) -> None:
    one = index_of(write_archives(tmp_path / "one"), workspace)
    other = write_archives(tmp_path / "other")
    os.utime(other / TRAIN, ns=(1, 1))
    assert index_of(other, workspace).digest == one.digest
    assert index_of(other, workspace).source_digest != one.source_digest


def test_an_empty_place_lacks_the_archives(tmp_path: Path, workspace: FolderStore) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveMissing, match=f"holds no {TRAIN}"):
        index_of(tmp_path / "empty", workspace)
    with pytest.raises(ArchiveMissing, match="nowhere does not exist"):
        index_of(tmp_path / "nowhere", workspace)


def test_more_images_than_labels_is_a_mismatch(tmp_path: Path, workspace: FolderStore) -> None:
    folder = write_archives(tmp_path, num_val=4)
    words = {"n00000010": "a", "n00000011": "b"}
    (folder / DEVKIT).write_bytes(make_devkit(words, [1, 2, 1]))
    with pytest.raises(DevkitMismatch, match=r"holds 4 images, numbered 1 to 4; .* 1 to 3"):
        index_of(folder, workspace)


def test_a_class_that_the_devkit_lacks_is_a_mismatch(
    tmp_path: Path, workspace: FolderStore
) -> None:
    folder = write_archives(tmp_path, num_classes=3)
    (folder / DEVKIT).write_bytes(make_devkit({"n00000010": "a", "n00000011": "b"}, [1] * 4))
    with pytest.raises(DevkitMismatch, match="no leaves of the devkit: n00000012"):
        index_of(folder, workspace)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path, workspace: FolderStore) -> None:
    folder = write_archives(tmp_path)
    tars = [(f"n{i:08}.tar", make_tar([("same.JPEG", b"x")])) for i in (10, 11)]
    (folder / TRAIN).write_bytes(make_tar(tars))
    with pytest.raises(DataError, match=r"more than once in train, 'same.JPEG'"):
        index_of(folder, workspace)


def test_a_stranger_among_validation_images_is_refused(
    tmp_path: Path, workspace: FolderStore
) -> None:
    folder = write_archives(tmp_path)
    (folder / VAL).write_bytes(make_tar([("holiday.JPEG", b"x")]))
    with pytest.raises(DevkitMismatch, match=r"'holiday.JPEG' is no validation image's name"):
        index_of(folder, workspace)


def test_a_member_of_absurd_size_is_refused_by_name(tmp_path: Path, workspace: FolderStore) -> None:
    for name in ("train/cat/1.jpg", "train/cat/2.jpg", "val/cat/hole.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with (tmp_path / name).open("wb") as file:
            file.truncate(20 << 30 if "hole" in name else 512 << 20)
    dataset = DatasetSettings(folder=str(tmp_path))
    with pytest.raises(
        DataError, match=r"'val/cat/hole\.jpg' has 21,474,836,480 bytes, too many .*1 such"
    ):
        read_index(dataset, PrepareSettings(), workspace)
