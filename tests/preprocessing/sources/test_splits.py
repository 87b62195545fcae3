import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import DataError
from infra.store import MemoryStore
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
    assert sum(m.split == "val" for m in parts.values()) == 3
