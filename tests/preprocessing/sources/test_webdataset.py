import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from jpeg_archives import make_jpeg, make_tar

from infra.errors import DataError
from infra.store import FolderStore
from infra.store.s3 import S3Store
from preprocessing.errors import ArchiveCorrupt, ArchiveMissing
from preprocessing.settings import DatasetSettings, PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.source import read_index

RowsOf = Callable[[DatasetIndex], list[tuple[str, str, str, bytes]]]
Files = Sequence[tuple[str, bytes]]


def samples(*labels: int, first: int = 0) -> Files:
    return [
        file
        for i, label in enumerate(labels, first)
        for file in ((f"{i:04}.jpg", make_jpeg(i)), (f"{i:04}.cls", b"%d" % label))
    ]


def index_of(folder: Path, workspace: FolderStore, **options: Any) -> DatasetIndex:
    dataset = DatasetSettings(webdataset=str(folder))
    return read_index(dataset, PrepareSettings(**options), workspace)


def test_images_are_read_in_place(tmp_path: Path, workspace: FolderStore, rows_of: RowsOf) -> None:
    (tmp_path / "train-0.tar").write_bytes(make_tar(samples(0, 10)))
    (tmp_path / "train-1.tar").write_bytes(make_tar(samples(2, first=2)))
    (tmp_path / "val-0.tar").write_bytes(make_tar(samples(10)))
    index = index_of(tmp_path, workspace)
    assert index.store.uri == str(tmp_path)
    assert index.classes.names == ("0", "2", "10")
    assert rows_of(index) == [
        ("train", "train-0.tar/0000.jpg", "00", make_jpeg(0)),
        ("train", "train-0.tar/0001.jpg", "10", make_jpeg(1)),
        ("train", "train-1.tar/0002.jpg", "02", make_jpeg(2)),
        ("val", "val-0.tar/0000.jpg", "10", make_jpeg(0)),
    ]
    assert not list(Path(workspace.uri).glob("archives/*"))


def test_names_json_labels_folders_and_strangers_are_understood(
    tmp_path: Path, workspace: FolderStore, rows_of: RowsOf
) -> None:
    files = [
        ("a/x.v1/1.PNG", make_jpeg(0)),
        ("a/x.v1/1.json", json.dumps({"label": 1, "caption": "größe"}).encode()),
        ("a/x.v1/1.seg.png", b"a mask"),
        ("a/x.v1/1.txt", b"words"),
        ("a/.DS_Store", b"dirt"),
        ("readme.md", b"words"),
        ("a/2.cls", b" 0\n"),
        ("a/2.webp", make_jpeg(1)),
    ]
    (tmp_path / "train.tar").write_bytes(make_tar(files))
    (tmp_path / "test.tar").write_bytes(make_tar(samples(1)))
    (tmp_path / "classes.txt").write_text("Apfel\nBirne, süß\n日本\n")
    index = index_of(tmp_path, workspace)
    assert index.classes.names == ("Apfel", "Birne, süß", "日本")
    assert [(name, wnid) for _, name, wnid, _ in rows_of(index)] == [
        ("train.tar/a/x.v1/1.PNG", "1"),
        ("train.tar/a/2.webp", "0"),
        ("test.tar/0000.jpg", "1"),
    ]


def test_what_windows_writes_is_text_too(
    tmp_path: Path, workspace: FolderStore, rows_of: RowsOf
) -> None:
    files = [("1.jpg", b"x"), ("1.cls", b"\xef\xbb\xbf1\r\n"), ("2.jpg", b"x"), ("2.cls", b"0")]
    for name in ("train", "val"):
        (tmp_path / f"{name}.tar").write_bytes(make_tar(files))
    (tmp_path / "classes.txt").write_bytes("cat\r\nHündin\r\n".encode("utf-8-sig"))
    index = index_of(tmp_path, workspace)
    assert index.classes.names == ("cat", "Hündin")
    assert [wnid for _, _, wnid, _ in rows_of(index)] == ["1", "0"] * 2


def test_without_a_word_for_a_split_each_class_gives_a_share(
    tmp_path: Path, workspace: FolderStore, rows_of: RowsOf
) -> None:
    (tmp_path / "00000.tar").write_bytes(make_tar(samples(0, 1) + samples(0, 1, first=2)))
    index = index_of(tmp_path, workspace, val_fraction=0.5)
    assert (index.count("train"), index.count("val")) == (2, 2)
    assert sorted(body for *_, body in rows_of(index)) == sorted(make_jpeg(i) for i in range(4))


def test_the_index_is_kept_while_the_tars_stay_as_they_are(
    tmp_path: Path, workspace: FolderStore
) -> None:
    for name in ("train", "val"):
        (tmp_path / f"{name}.tar").write_bytes(make_tar(samples(0, 1)))
    first = index_of(tmp_path, workspace)
    (kept,) = Path(workspace.uri).glob("indexes/*/index.json")
    written = kept.stat().st_mtime_ns
    assert index_of(tmp_path, workspace).digest == first.digest
    assert kept.stat().st_mtime_ns == written
    (tmp_path / "val.tar").write_bytes(make_tar(samples(1, 0)))
    assert index_of(tmp_path, workspace).digest != first.digest


def test_tars_in_s3_are_indexed_alike(
    s3_store: S3Store, tmp_path: Path, workspace: FolderStore
) -> None:
    for name in ("train-0.tar", "train-1.tar", "val.tar"):
        body = make_tar(samples(0, 1, 1))
        (tmp_path / name).write_bytes(body)
        s3_store.write(name, body)
    dataset = DatasetSettings(webdataset=s3_store.uri)
    far = read_index(dataset, PrepareSettings(), workspace)
    assert far.digest == index_of(tmp_path, workspace).digest


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([("1.jpg", b"x")], "'1' has 1 images and 0 labels"),
        ([("1.cls", b"0")], "'1' has 0 images and 1 labels"),
        ([("1.jpg", b"x"), ("1.png", b"x"), ("1.cls", b"0")], "'1' has 2 images and 1 labels"),
        ([("1.jpg", b"x"), ("1.cls", b"0"), ("1.json", b"{}")], "'1' has 1 images and 2 labels"),
        ([("1.jpg", b"x"), ("2.cls", b"0")], "'1' has 1 images and 0 labels"),
        ([("1.jpg", b"x"), ("1.cls", b"cat")], r"no number from 0 on in its \.cls"),
        ([("1.jpg", b"x"), ("1.cls", b"-1")], r"no number from 0 on in its \.cls"),
        ([("1.jpg", b"x"), ("1.cls", b"9" * 5000)], r"no number from 0 on in its \.cls"),
        ([("1.jpg", b"x"), ("1.cls", b"\xff")], r"no number from 0 on in its \.cls"),
        ([("1.jpg", b"x"), ("1.json", b"[" * 100_000)], r"no number from 0 on in its \.json"),
        ([("1.jpg", b"x"), ("1.json", b'{"label": true}')], r"no number from 0 on in its \.json"),
        ([("1.jpg", b"x"), ("1.json", b"[1]")], r"no number from 0 on in its \.json"),
        ([("1.jpg", b"x"), ("1.cls", b" " * (2 << 20))], r"'1\.cls' has 2,097,152 bytes, too many"),
    ],
)
def test_a_sample_has_one_image_and_one_label(
    files: Files, problem: str, tmp_path: Path, workspace: FolderStore
) -> None:
    (tmp_path / "train.tar").write_bytes(make_tar(files))
    with pytest.raises(DataError, match=problem):
        index_of(tmp_path, workspace)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path, workspace: FolderStore) -> None:
    twice = [*samples(0), ("other.cls", b"1"), ("other.jpg", b"x"), *samples(0)]
    (tmp_path / "train.tar").write_bytes(make_tar(twice))
    (tmp_path / "val.tar").write_bytes(make_tar(samples(0)))
    with pytest.raises(DataError, match=r"more than once in train, 'train\.tar/0000\.jpg'"):
        index_of(tmp_path, workspace)


def test_a_label_without_a_name_is_refused(tmp_path: Path, workspace: FolderStore) -> None:
    (tmp_path / "train.tar").write_bytes(make_tar(samples(0, 2)))
    (tmp_path / "val.tar").write_bytes(make_tar(samples(0)))
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="label 2 is none of 2 classes"):
        index_of(tmp_path, workspace)


@pytest.mark.parametrize("body", [b"", b"cat\n\ndog\n", b"cat\ndog\xff\n", b"x" * 2000])
def test_a_list_of_names_that_is_none_is_refused(
    body: bytes, tmp_path: Path, workspace: FolderStore
) -> None:
    (tmp_path / "train.tar").write_bytes(make_tar(samples(0, 0)))
    (tmp_path / "classes.txt").write_bytes(body)
    with pytest.raises(DataError, match=r"classes\.txt is no list of names"):
        index_of(tmp_path, workspace)


def test_packed_tars_are_to_be_unpacked(tmp_path: Path, workspace: FolderStore) -> None:
    packed = gzip.compress(make_tar(samples(0, 1)))
    (tmp_path / "train.tar.gz").write_bytes(packed)
    with pytest.raises(ArchiveMissing, match=r"holds no \*\.tar files"):
        index_of(tmp_path, workspace)
    (tmp_path / "train.tar").write_bytes(packed)
    with pytest.raises(ArchiveCorrupt, match=r"train\.tar is no tar"):
        index_of(tmp_path, workspace)


def test_a_cut_tar_is_named(tmp_path: Path, workspace: FolderStore) -> None:
    (tmp_path / "train.tar").write_bytes(make_tar(samples(0, 1))[:2000])
    with pytest.raises(ArchiveCorrupt, match=r"train\.tar"):
        index_of(tmp_path, workspace)


def test_tars_without_samples_are_no_dataset(tmp_path: Path, workspace: FolderStore) -> None:
    (tmp_path / "train.tar").write_bytes(make_tar([("readme.txt", b"words")]))
    with pytest.raises(DataError, match="holds no images"):
        index_of(tmp_path, workspace)
