from collections.abc import Sequence

import pyarrow as pa
import pytest

from infra.errors import DataError
from infra.store import MemoryStore
from preprocessing.settings import PrepareSettings
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.labelled import COLUMNS, index_labelled
from preprocessing.sources.members import SplitName

Row = tuple[str, int, str | None]


def index_of(
    rows: Sequence[Row],
    names: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    **split_of: SplitName,
) -> DatasetIndex:
    table = pa.table(
        {
            "archive": [archive for archive, _, _ in rows],
            "name": [f"{archive}/{i}" for i, (archive, _, _) in enumerate(rows)],
            "start": [10 * i for i in range(len(rows))],
            "size_bytes": [i + 1 for i in range(len(rows))],
            "label": [label for _, label, _ in rows],
            "wnid": [wnid for _, _, wnid in rows],
        },
        schema=COLUMNS,
    )
    prepare = PrepareSettings(val_fraction=0.5)
    splits = split_of or {"a": "train", "b": "val"}
    return index_labelled(MemoryStore(), table, splits, (), names, prepare, keys=keys)


def classes_of(index: DatasetIndex) -> list[tuple[str, str]]:
    return [(entry.wnid, entry.name) for entry in index.classes.classes]


def test_members_are_where_the_table_says() -> None:
    index = index_of([("a", 1, None), ("b", 0, None), ("a", 0, None)], ["x", "y"])
    found = [(m.split, m.archive, m.name, m.start, m.size_bytes, m.wnid) for m in index.members]
    assert found == [
        ("train", "a", "a/0", 0, 1, "1"),
        ("val", "b", "b/1", 10, 2, "0"),
        ("train", "a", "a/2", 20, 3, "0"),
    ]


def test_padded_keys_sort_as_labels_do() -> None:
    rows: list[Row] = [("a", 2, None), ("a", 11, None), ("b", 11, None)]
    assert classes_of(index_of(rows)) == [("02", "2"), ("11", "11")]
    named = index_of(rows, [f"class {i}" for i in range(12)])
    assert [named.classes.label_of[m.wnid] for m in named.members] == [2, 11, 11]
    assert named.classes.names[11] == "class 11"


def test_a_sparse_label_costs_nothing() -> None:
    index = index_of([("a", 2**31, None), ("b", 3, None)])
    assert classes_of(index) == [("0000000003", "3"), ("2147483648", "2147483648")]


@pytest.mark.parametrize(
    ("wnids", "keys"),
    [
        (("n01", "n02"), ["n01", "n02"]),
        (("n02", "n01"), ["0", "1"]),  # would turn the labels round
        (("n01", None), ["0", "1"]),
        (("n01", "n01"), ["0", "1"]),
    ],
)
def test_the_classes_own_keys_are_kept_where_they_sort_as_labels_do(
    wnids: tuple[str | None, str | None], keys: list[str]
) -> None:
    rows: list[Row] = [("a", i, wnids[i]) for i in (0, 1)] + [("b", 1, wnids[1])]
    assert [key for key, _ in classes_of(index_of(rows, ["x", "y"]))] == keys


def test_two_keys_for_one_class_are_none() -> None:
    rows: list[Row] = [("a", 0, "n01"), ("a", 0, "n02"), ("b", 0, "n01")]
    assert classes_of(index_of(rows, ["x"])) == [("0", "x")]


def test_without_val_each_class_gives_a_share_and_keeps_its_place() -> None:
    rows: list[Row] = [("a", i % 2, None) for i in range(400)]
    index = index_of(rows, ["x", "y"], a="train")
    assert index.count("train") + index.count("val") == 400
    assert sorted(m.start for m in index.members) == [10 * i for i in range(400)]
    val = [m.wnid for m in index.members.of_split("val")]
    assert [val.count(key) for key in ("0", "1")] == pytest.approx([100, 100], abs=25)


@pytest.mark.parametrize(("label", "limit"), [(-1, "2"), (2, "2")])
def test_a_label_of_no_class_is_refused(label: int, limit: str) -> None:
    with pytest.raises(DataError, match=f"label {label} is none of {limit} classes"):
        index_of([("a", 0, None), ("b", label, None)], ["x", "y"])


def test_a_source_without_images_is_refused() -> None:
    for names in (None, ["x"]):
        with pytest.raises(DataError, match="holds no images"):
            index_of([], names)


def test_a_split_without_images_is_refused() -> None:
    for rows, split in (([("a", 0, None)], "val"), ([("b", 0, None)], "train")):
        with pytest.raises(DataError, match=f"has no images for {split}"):
            index_of(rows, ["x"])
