import os
from pathlib import Path

import pytest

from infra.errors import DataError
from infra.store import FolderStore, MemoryStore
from preprocessing.errors import ArchiveMissing
from preprocessing.sources.folder import index_folder
from preprocessing.sources.members import Members


def index(*keys: str) -> Members:
    store = MemoryStore()
    for key in keys:
        store.write(key, b"image")
    return index_folder(store, seed=0, val_fraction=0.25)[0]


def test_train_and_val_are_taken_as_they_are() -> None:
    members = list(index("train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "readme.txt"))
    assert [(m.split, m.archive, m.start, m.wnid) for m in members] == [
        ("train", "train/cat/1.png", 0, "cat"),
        ("train", "train/dog/1.png", 0, "dog"),
        ("val", "val/cat/1.png", 0, "cat"),
    ]


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_without_val_each_class_gives_its_share(prefix: str) -> None:
    members = index(*(f"{prefix}{c}/{i}.png" for c in ("cat", "dog") for i in range(8)))
    val = [m.wnid for m in members.of_split("val")]
    assert sorted(val) == ["cat", "cat", "dog", "dog"]
    assert len(members) == 16


def test_what_is_wrong_with_a_place_without_files_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name, problem in (
        ("gone", "does not exist"),
        ("file", "is no folder"),
        ("empty", "holds no files"),
    ):
        with pytest.raises(ArchiveMissing, match=f"/{name} {problem}"):
            index_folder(FolderStore(tmp_path / name), seed=0, val_fraction=0.1)


def test_hidden_files_are_no_images() -> None:
    assert len(index("cat/1.png", "cat/2.png", "cat/.DS_Store", ".git/config")) == 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["train/loose.png", "train/cat/1.png"], "train/loose.png is in no class"),
        (["val/cat/1.png"], "no train/"),
        (["train/cat/1.png", "val/dog/1.png"], "class 'dog' of val/ is not in train/"),
        (["cat/1.png"], "no images for val"),
    ],
)
def test_a_layout_that_is_not_understood_is_refused(keys: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        index(*keys)


def test_an_empty_folder_is_missing() -> None:
    with pytest.raises(ArchiveMissing):
        index()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jpg")).write_bytes(b"image")
    with pytest.raises(DataError, match=r"'train/cat/.*\.jpg' has a name that is not UTF-8"):
        index_folder(FolderStore(tmp_path), seed=0, val_fraction=0.1)
