import errno
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


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("training", "validation"),
        ("Train", "Val"),
        ("Training", "Testing"),
        ("train", "valid"),
        ("train", "test"),
        ("TRAIN_SET", "Eval Images"),
    ],
)
def test_other_words_mean_the_same_splits(train: str, val: str) -> None:
    members = index(f"{train}/cat/1.png", f"{train}/dog/1.png", f"{val}/cat/1.png")
    assert [(m.split, m.name, m.wnid) for m in members] == [
        ("train", f"{train}/cat/1.png", "cat"),
        ("train", f"{train}/dog/1.png", "dog"),
        ("val", f"{val}/cat/1.png", "cat"),
    ]


def test_test_stands_in_for_val_only_where_there_is_none() -> None:
    members = index("train/cat/1.png", "test/cat/2.png", "val/cat/3.png")
    assert [m.name for m in members] == ["train/cat/1.png", "val/cat/3.png"]


def test_a_class_may_have_a_word_for_a_split_in_its_name() -> None:
    members = index(*(f"{c}/{i}.png" for c in ("test tube", "bullet train") for i in range(2)))
    assert {m.wnid for m in members} == {"test tube", "bullet train"}
    members = index("train/train/1.png", "train/test/1.png", "val/train/2.png")
    assert {m.wnid for m in members} == {"train", "test"}


@pytest.mark.parametrize("prefix", ["", "train/", "Training/"])
def test_without_val_each_class_gives_its_share(prefix: str) -> None:
    members = index(*(f"{prefix}{c}/{i}.png" for c in ("cat", "dog") for i in range(400)))
    val = [m.wnid for m in members.of_split("val")]
    assert [val.count(c) for c in ("cat", "dog")] == pytest.approx([100, 100], abs=25)
    assert len(members) == 800


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
        (["val/cat/1.png"], "holds val/ but no train/"),
        (["Test/1.png", "cat/1.png", "cat/2.png"], "holds Test/ but no train/"),
        (["train/cat/1.png", "bird/1.png"], "holds 'bird' beside train/"),
        (["train/cat/1.png", "Train/cat/1.png"], "holds Train/ and train/, which mean the same"),
        (
            ["train/cat/1.png", "validation/cat/1.png", "val/cat/1.png"],
            "holds val/ and validation/, which mean the same",
        ),
        (["training/cat/1.png", "Test/dog/1.png"], "class 'dog' of Test/ is not in training/"),
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


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two classes beside others that are elsewhere."""
    for name in ("images/cat", "images/dog", "data/bird"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for i in range(4):
            (folder / f"{i}.png").write_bytes(b"image")
    return tmp_path / "images"


def indexed(root: Path) -> Members:
    return index_folder(FolderStore(root), seed=0, val_fraction=0.25)[0]


@pytest.mark.parametrize("place", ["bird", "cat/more"])
def test_a_linked_folder_is_refused_by_name(pictures: Path, place: str) -> None:
    (pictures / place).symlink_to(pictures.parent / "data" / "bird")
    with pytest.raises(DataError, match=f"images/{place} is a link that is not followed") as caught:
        indexed(pictures)
    assert "link its files" in caught.value.remedy


def test_a_folder_of_nothing_but_linked_folders_is_not_called_empty(
    pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "cat").symlink_to(pictures / "cat")
    with pytest.raises(DataError, match="links/cat is a link that is not followed"):
        indexed(tmp_path / "links")


def test_a_link_that_leads_nowhere_is_refused(pictures: Path) -> None:
    (pictures / "cat" / "9.png").symlink_to(pictures / "gone.png")
    with pytest.raises(DataError, match=r"cat/9\.png is a link that is not followed"):
        indexed(pictures)


def test_links_to_files_and_a_link_to_the_whole_are_followed(
    pictures: Path, tmp_path: Path
) -> None:
    (pictures / "cat" / "9.png").symlink_to(tmp_path / "data" / "bird" / "0.png")
    (pictures / ".cache").symlink_to(tmp_path / "data")
    (tmp_path / "linked").symlink_to(pictures)
    assert [m.name for m in indexed(tmp_path / "linked")] == [m.name for m in indexed(pictures)]
    assert len(indexed(pictures)) == 9


def test_a_link_to_a_folder_beside_train_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    pictures.rename(tmp_path / "all" / "train")
    assert len(indexed(tmp_path / "all")) == 8
    (tmp_path / "all" / "test").symlink_to(tmp_path / "data")
    with pytest.raises(DataError, match="all/test is a link that is not followed"):
        indexed(tmp_path / "all")
    (tmp_path / "all" / "test").unlink()
    (tmp_path / "all" / "train").rename(pictures)
    (tmp_path / "all" / "train").symlink_to(pictures)
    with pytest.raises(DataError, match="all/train is a link that is not followed"):
        indexed(tmp_path / "all")


def test_a_folder_that_may_not_be_read_is_refused_by_name(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith(("/dog", "/lost+found")):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # who runs the tests may be root
    (pictures / "lost+found").mkdir()
    with pytest.raises(DataError, match="images/dog cannot be read: Permission denied"):
        indexed(pictures)
    (pictures / "dog").rename(pictures.parent / "dogs")
    assert len(indexed(pictures)) == 4
