"""From what the recipe names to one index of all its images, classes included."""

import re
from collections.abc import Set
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import DataError
from infra.store import ObjectStore, open_store
from preprocessing.dataset.labels import make_classes
from preprocessing.errors import DevkitMismatch
from preprocessing.settings import DRAWN, DatasetSettings, PrepareSettings
from preprocessing.sources.archives import (
    DEVKIT_ARCHIVE,
    TRAIN_ARCHIVE,
    VAL_ARCHIVE,
    find_archives,
)
from preprocessing.sources.cifar import index_cifar
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.devkit import Devkit, read_devkit
from preprocessing.sources.drawn import ensure_drawn_archives
from preprocessing.sources.folder import index_folder
from preprocessing.sources.huggingface import index_huggingface
from preprocessing.sources.index import archive_index
from preprocessing.sources.members import Members, SplitName
from preprocessing.sources.webdataset import index_webdataset

MAX_IMAGE_BYTES: Final = 512 << 20
"""Of an image file: 90 megapixels without any compression have 360 MB."""
_VAL_NAME: Final = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.JPEG")
_SAME_RELEASE: Final = (
    f"{DEVKIT_ARCHIVE}, {TRAIN_ARCHIVE} and {VAL_ARCHIVE} must be of the same release"
)


def read_index(
    dataset: DatasetSettings, prepare: PrepareSettings, workspace: ObjectStore
) -> DatasetIndex:
    """Index the recipe's images, from what the workspace keeps of them where that still holds.

    Raises:
        ArchiveMissing: an archive, or the folder, is not there.
        ArchiveCorrupt: an archive is cut off or is no tar.
        DevkitMismatch: the devkit does not fit the archives.
        DataError: a source is not laid out as it should be, a name stands twice in a split, or a
            member is too large to be read whole.
    """
    index = _index(dataset, prepare, workspace)
    _check_names(index)
    _check_sizes(index)
    return index


def _index(
    dataset: DatasetSettings, prepare: PrepareSettings, workspace: ObjectStore
) -> DatasetIndex:
    match dataset:
        case DatasetSettings(folder=str(uri)):
            return _index_folder(open_store(uri), prepare)
        case DatasetSettings(cifar=str(uri)):
            return index_cifar(open_store(uri), prepare, workspace)
        case DatasetSettings(huggingface=str(uri)):
            return index_huggingface(open_store(uri), prepare, workspace)
        case DatasetSettings(webdataset=str(uri)):
            return index_webdataset(open_store(uri), prepare, workspace)
        case DatasetSettings(archives=str(uri)) if uri != DRAWN:
            return _index_archives(workspace, open_store(uri))
        case _:
            return _index_archives(workspace, ensure_drawn_archives(dataset.drawn, workspace))


def _index_folder(store: ObjectStore, prepare: PrepareSettings) -> DatasetIndex:
    members, sources = index_folder(store, seed=prepare.seed, val_fraction=prepare.val_fraction)
    wnids = pc.unique(members.table["wnid"]).to_pylist()
    return DatasetIndex(store, members, make_classes({wnid: wnid for wnid in wnids}), sources)


def _index_archives(workspace: ObjectStore, store: ObjectStore) -> DatasetIndex:
    sources = find_archives(store)
    devkit = read_devkit(store)
    train = archive_index(workspace, store, sources[0], nested=True)
    val = archive_index(workspace, store, sources[1], nested=False)
    _check_wnids(set(pc.unique(train["inner"]).to_pylist()), set(devkit.classes.label_of))
    tables = [
        _as_members(train, "train", TRAIN_ARCHIVE, train["inner"]),
        _as_members(val, "val", VAL_ARCHIVE, _val_wnids(val["name"].to_pylist(), devkit)),
    ]
    return DatasetIndex(store, Members(pa.concat_tables(tables)), devkit.classes, sources)


def _as_members(table: pa.Table, split: SplitName, archive: str, wnids: pa.Array) -> pa.Table:
    columns = {
        "split": pa.repeat(split, table.num_rows),
        "archive": pa.repeat(archive, table.num_rows),
        "name": table["name"],
        "start": table["start"],
        "size_bytes": table["size_bytes"],
        "wnid": wnids,
        "sha256": pa.nulls(table.num_rows, pa.string()),
    }
    return pa.table(columns, schema=Members.schema())


def _val_wnids(names: list[str], devkit: Devkit) -> pa.Array:
    matches = [_VAL_NAME.fullmatch(name) for name in names]
    if None in matches:
        raise DevkitMismatch(
            f"{VAL_ARCHIVE}: {names[matches.index(None)]!r} is no validation image's name",
            remedy=_SAME_RELEASE,
        )
    numbers = np.array([int(match[1]) for match in matches if match], np.int64)
    expected = len(devkit.val_labels)
    if not np.array_equal(np.sort(numbers), np.arange(1, expected + 1)):
        raise DevkitMismatch(
            f"{VAL_ARCHIVE} holds {len(numbers):,} images, numbered {numbers.min():,} to"
            f" {numbers.max():,}; the devkit has labels for 1 to {expected:,}",
            remedy=_SAME_RELEASE,
        )
    wnids = pa.array([entry.wnid for entry in devkit.classes.classes])
    return wnids.take(pa.array(devkit.val_labels[numbers - 1]))


def _check_wnids(archive: Set[str], devkit: Set[str]) -> None:
    for wnids, what in (
        (archive - devkit, f"{TRAIN_ARCHIVE} has classes that are no leaves of the devkit"),
        (devkit - archive, f"the devkit has classes that {TRAIN_ARCHIVE} has not"),
    ):
        if wnids:
            some = ", ".join(sorted(wnids)[:3])
            raise DevkitMismatch(f"{what}: {some} ({len(wnids)} in all)", remedy=_SAME_RELEASE)


def _check_names(index: DatasetIndex) -> None:
    """Names key the order of samples, so two of one name have none."""
    names: tuple[SplitName, SplitName] = ("train", "val")
    for split in names:
        counts = pc.value_counts(index.members.of_split(split).table["name"])
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise DataError(
                f"{index.store.uri}: {len(twice)} names stand more than once in {split},"
                f" {twice[0]['values'].as_py()!r} for one",
                remedy="give every image of a split a name of its own",
            )


def _check_sizes(index: DatasetIndex) -> None:
    """Images are read whole, some at a time; a hole of gigabytes would take all memory."""
    table = index.members.table
    large = table.filter(pc.greater(table["size_bytes"], MAX_IMAGE_BYTES))
    if large.num_rows:
        row = large.slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{index.store.uri}/{row['archive']}: member {row['name']!r} has"
            f" {row['size_bytes']:,} bytes, too many for an image ({large.num_rows} such in all)",
            remedy=f"take it out: an image file has {MAX_IMAGE_BYTES:,} bytes at most",
        )
