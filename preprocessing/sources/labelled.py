"""Images whose labels are numbers in a table → an index, with classes whose order is theirs."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import DataError
from infra.store import ObjectStore
from preprocessing.dataset.labels import make_classes
from preprocessing.settings import PrepareSettings
from preprocessing.sources.archives import SourceFile
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.members import Member, Members, SplitName
from preprocessing.sources.splits import split_by_key

COLUMNS: Final = pa.schema(
    [
        ("archive", pa.string()),
        ("name", pa.string()),
        ("start", pa.int64()),
        ("size_bytes", pa.int64()),
        ("label", pa.int64()),
        ("wnid", pa.string()),  # the class's key, where the source has such; else null
    ]
)
LABELS_STOP: Final = 1 << 31
"""Numbers of classes are below; a source refuses others by the row."""


def index_labelled(
    store: ObjectStore,
    table: pa.Table,
    split_of: Mapping[str, SplitName],
    sources: tuple[SourceFile, ...],
    names: Sequence[str] | None,
    prepare: PrepareSettings,
    *,
    keys: Sequence[str] | None = None,
) -> DatasetIndex:
    """Make an index of a table with columns as COLUMNS, and `sha256` of the images if it is known.

    A class's key is what `keys` says, or its wnid where all classes have one, if those sort as the
    labels do; else its label, padded with zeros so that it does. Without any val, a keyed share of
    each class becomes val.

    Args:
        store: where the archives are.
        split_of: by archive.
        names: of the classes, by label; None: every label that occurs is a class, its own name.
        keys: of the classes, by label.

    Raises:
        DataError: a label is no class's, or a split is empty.
    """
    if table.num_rows == 0:
        raise DataError(f"{store.uri} holds no images", remedy="name the folder that holds them")
    labels = np.unique(table["label"].to_numpy())
    _check_labels(store, labels, names)
    numbers = labels.tolist() if names is None else list(range(len(names)))
    key_of = _sorted(numbers, _wnids(table, numbers) if keys is None else keys)
    classes = make_classes({key_of[i]: str(i) if names is None else names[i] for i in numbers})
    members = _members(table, split_of, key_of)
    if "val" not in split_of.values():
        members = _split(members, prepare)
    index = DatasetIndex(store, members, classes, sources)
    for split in ("train", "val"):
        if not index.count(split):
            raise DataError(
                f"{store.uri} has no images for {split}",
                remedy="give every class two images at least, or add files for that split",
            )
    return index


def _members(
    table: pa.Table, split_of: Mapping[str, SplitName], key_of: Mapping[int, str]
) -> Members:
    found, places = np.unique(table["label"].to_numpy(), return_inverse=True)
    wnids = pa.array([key_of[label] for label in found.tolist()], pa.string())
    archives = table["archive"].combine_chunks().dictionary_encode()
    splits = pa.array([split_of[name] for name in archives.dictionary.to_pylist()], pa.string())
    has_digests = "sha256" in table.column_names
    columns = {
        "split": splits.take(archives.indices),
        "archive": table["archive"],
        "name": table["name"],
        "start": table["start"],
        "size_bytes": table["size_bytes"],
        "wnid": wnids.take(pa.array(places)),
        "sha256": table["sha256"] if has_digests else pa.nulls(table.num_rows, pa.string()),
    }
    return Members(pa.table(columns, schema=Members.schema()))


def _check_labels(
    store: ObjectStore, found: npt.NDArray[np.int64], names: Sequence[str] | None
) -> None:
    limit = np.iinfo(np.int64).max if names is None else len(names)
    wrong = found[(found < 0) | (found >= limit)]
    if len(wrong):
        raise DataError(
            f"{store.uri}: label {wrong[0]} is none of {limit:,} classes",
            remedy="leave out files whose images have no labels; labels begin at 0",
        )


def _wnids(table: pa.Table, numbers: Sequence[int]) -> Sequence[str]:
    """Return the classes' keys that the table has, by label; none unless it has one for each."""
    pairs = table.select(["label", "wnid"]).group_by(["label", "wnid"]).aggregate([])
    pairs = pairs.sort_by("label")
    keys = pairs["wnid"].to_pylist()
    return [] if None in keys or pairs["label"].to_pylist() != list(numbers) else keys


def _sorted(numbers: Sequence[int], keys: Sequence[str]) -> Mapping[int, str]:
    """Return a key for each label, so that they sort alike."""
    if len(keys) == len(numbers) and list(keys) == sorted(set(keys)):
        return dict(zip(numbers, keys, strict=True))
    width = len(str(max(numbers, default=0)))
    return {number: f"{number:0{width}}" for number in numbers}


def _split(members: Members, prepare: PrepareSettings) -> Members:
    parts = split_by_key(members, prepare.seed, prepare.val_fraction)
    columns = {name: [getattr(member, name) for member in parts] for name in Member.__slots__}
    return Members(pa.table(columns, schema=Members.schema()))
