import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import DataError
from infra.store import FolderStore, MemoryStore
from preprocessing.errors import ArchiveMissing
from preprocessing.sources.members import Member
from preprocessing.sources.splits import SplitFiles, find_split_files, split_by_key, split_word


def files_of(*keys: str) -> SplitFiles:
    store = MemoryStore()
    for key in keys:
        store.write(key, b"x")
    return find_split_files(store, ".tar")


def names(files: SplitFiles) -> tuple[list[str], list[str]]:
    return [source.name for source in files.train], [source.name for source in files.val]


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("imagenet1k-validation-03.tar", "val"),
        ("Train/val_1.tar", "val"),
        ("default/test/0000.parquet", "test"),
        ("train2017.tar", "train"),
        ("training.tar", "train"),
        ("values-retrained.tar", None),
        ("0000.tar", None),
    ],
)
def test_the_last_word_of_a_path_says_the_split(key: str, split: str | None) -> None:
    assert split_word(key) == split


def test_test_stands_in_for_val_only_where_there_is_none() -> None:
    assert names(files_of("train-0.tar", "test-0.tar")) == (["train-0.tar"], ["test-0.tar"])
    files = files_of("train-0.tar", "test-0.tar", "val-0.tar", "other.tar")
    assert names(files) == (["train-0.tar"], ["val-0.tar"])


def test_files_without_a_word_are_all_for_training_if_none_has_one() -> None:
    files = files_of("a.tar", "b.tar", "_build/c.tar", ".cache/d.tar", "e.txt")
    assert names(files) == (["a.tar", "b.tar"], [])


def test_files_for_validation_alone_are_refused() -> None:
    with pytest.raises(DataError, match=r"no \*\.tar file has a name for training"):
        files_of("val-0.tar", "test-0.tar")


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    for name in ("train/0.tar", "val/0.tar"):
        path = tmp_path / "tars" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    return tmp_path / "tars"


@pytest.mark.parametrize("place", ["more", "train/more"])
def test_a_linked_folder_is_refused_by_name(tars: Path, place: str) -> None:
    (tars / place).symlink_to(tars.parent)
    with pytest.raises(DataError, match=f"tars/{place} is a link that is not followed"):
        find_split_files(FolderStore(tars), ".tar")


def test_links_are_followed_to_files_and_looked_at_where_they_matter(tars: Path) -> None:
    (tars / "train" / "1.tar").symlink_to(tars / "val" / "0.tar")
    (tars / "_logs").symlink_to(tars.parent)
    (tars / "README").symlink_to(tars / "gone")
    assert names(find_split_files(FolderStore(tars), ".tar")) == (
        ["train/0.tar", "train/1.tar"],
        ["val/0.tar"],
    )
    (tars / "train" / "2.tar").symlink_to(tars / "gone")
    with pytest.raises(DataError, match=r"train/2\.tar is a link that is not followed"):
        find_split_files(FolderStore(tars), ".tar")


def test_a_folder_that_may_not_be_read_is_refused_by_name(
    tars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("/val"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # who runs the tests may be root
    with pytest.raises(DataError, match="tars/val cannot be read: Permission denied"):
        find_split_files(FolderStore(tars), ".tar")


@pytest.mark.parametrize("key", ["train//a.tar", "train/\udcff.tar"])
def test_a_key_that_is_no_path_is_refused(key: str) -> None:
    with pytest.raises(DataError, match="is no file's name"):
        files_of(key)


def test_a_place_without_such_files_is_missing() -> None:
    with pytest.raises(ArchiveMissing, match=r"holds no \*\.tar files"):
        files_of("cifar-10-python.tar.gz")


@given(st.integers(1, 30), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_keeps_every_member_and_leaves_some_to_train(
    count: int, val_fraction: float, seed: int
) -> None:
    members = [Member("train", str(i), str(i), 0, 1, "cat") for i in range(count)]
    parts = split_by_key(members, seed, val_fraction)
    assert sorted(m.name for m in parts) == sorted(m.name for m in members)
    num_train = sum(m.split == "train" for m in parts)
    assert num_train >= 1
    assert count == 1 or num_train < count


def test_a_share_keeps_where_members_lie() -> None:
    members = [Member("train", "a.tar", str(i), 100 * i, i, "cat") for i in range(9)]
    parts = {m.name: m for m in split_by_key(members, 0, 0.3)}
    assert all(
        (parts[m.name].start, parts[m.name].size_bytes) == (m.start, m.size_bytes) for m in members
    )
    assert 0 < sum(m.split == "val" for m in parts.values()) < 9


def val_of(count: int, names: Sequence[str] = ()) -> set[str]:
    """Names of val among images of one class, with a share of a tenth."""
    all_names = [*(f"{i}.jpg" for i in range(count)), *names]
    members = [Member("train", name, name, 0, 1, "cat") for name in all_names]
    return {m.name for m in split_by_key(members, 0, 0.1) if m.split == "val"}


@given(st.sets(st.text("abc/", min_size=1, max_size=6), max_size=80), st.integers(60, 200))
def test_images_that_are_added_move_none(added: set[str], count: int) -> None:
    new = {f"new/{name}" for name in added}
    assert val_of(count, sorted(new)) - new == val_of(count)


def test_the_share_is_that_of_the_names() -> None:
    # If these change, pictures move between train and val in everybody's datasets.
    assert val_of(60) == PINNED_VAL
    assert len(val_of(20_000)) == pytest.approx(2000, rel=0.05)


PINNED_VAL = {"0.jpg", "37.jpg", "53.jpg"}


def test_only_in_a_class_too_small_for_both_an_added_image_moves_one() -> None:
    below = sorted(val_of(200))
    above = [f"{i}.jpg" for i in range(200) if f"{i}.jpg" not in val_of(200)]
    # None is below the share: the lowest stands in, until one is.
    (stands_in,) = val_of(0, above[:5])
    assert stands_in in above
    assert val_of(0, [*above[:5], below[0]]) == {below[0]}
    # All are: the highest is for training, until another is.
    assert len(val_of(0, below[:4])) == 3
    assert val_of(0, [*below[:4], above[0]]) == set(below[:4])
    assert (val_of(0, above[:1]), val_of(0, below[:1])) == (set(), set())
