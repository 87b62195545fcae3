"""From what the recipe names to one index of all its images, classes included."""

import re
from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.canonical import digest_of
from infra.errors import DataError
from infra.store import ObjectStore, open_store
from preprocessing.archives import (
    DEVKIT_ARCHIVE,
    TRAIN_ARCHIVE,
    VAL_ARCHIVE,
    SourceFile,
    find_archives,
)
from preprocessing.dataset.labels import Classes, make_classes
from preprocessing.devkit import Devkit, read_devkit
from preprocessing.drawn import ensure_drawn_archives
from preprocessing.errors import DevkitMismatch
from preprocessing.folder import index_folder
from preprocessing.index import archive_index
from preprocessing.members import Members, SplitName
from preprocessing.settings import DRAWN, DatasetSettings, PrepareSettings

_VAL_NAME: Final = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.JPEG")
_SAME_RELEASE: Final = (
    f"{DEVKIT_ARCHIVE}, {TRAIN_ARCHIVE} and {VAL_ARCHIVE} must be of the same release"
)


@dataclass(frozen=True)
class DatasetIndex:
    """Every image there is, where it lies, and what the classes are."""

    store: ObjectStore
    """Where the members' archives are."""
    members: Members
    classes: Classes
    sources: tuple[SourceFile, ...]
    """The files themselves; with their versions they are the source's identity."""

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of members and classes; the same wherever and whenever the archives are."""
        return digest_of({"members": self.members.digest(), "classes": self.classes.model_dump()})

    @cached_property
    def source_digest(self) -> str:
        """Hex SHA-256 of the files' names, sizes and versions."""
        return digest_of([source.model_dump() for source in self.sources])

    def count(self, split: SplitName) -> int:
        """Members of one split."""
        return len(self.members.of_split(split))


def read_index(
    dataset: DatasetSettings, prepare: PrepareSettings, workspace: ObjectStore
) -> DatasetIndex:
    """Index the recipe's images, from indexes kept in the workspace where they still hold.

    Raises:
        ArchiveMissing: an archive, or the folder, is not there.
        ArchiveCorrupt: an archive is cut off or is no tar.
        DevkitMismatch: the devkit does not fit the archives.
        DataError: a folder is not laid out by class, or a name stands twice in a split.
    """
    if dataset.folder is not None:
        store = open_store(dataset.folder)
        members, sources = index_folder(store, seed=prepare.seed, val_fraction=prepare.val_fraction)
        wnids = pc.unique(members.table["wnid"]).to_pylist()
        index = DatasetIndex(store, members, make_classes({wnid: wnid for wnid in wnids}), sources)
    elif dataset.archives is None or dataset.archives == DRAWN:
        index = _index_archives(workspace, ensure_drawn_archives(dataset.drawn, workspace))
    else:
        index = _index_archives(workspace, open_store(dataset.archives))
    _check_names(index)
    return index


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
