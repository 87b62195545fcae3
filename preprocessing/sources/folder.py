"""Stage 2 of 11 for a folder per class: every file is an archive of its own.

    FOLDER/train/<class>/…  and  FOLDER/val/<class>/…     as they are
    FOLDER/train/<class>/…  or   FOLDER/<class>/…         a keyed share of each class becomes val

Names that begin with a dot are passed over; what no listing shows is refused (unlisted.py).
"""

from collections.abc import Iterable, Mapping

import pyarrow as pa

from infra.errors import DataError
from infra.store import FolderStore, ObjectInfo, ObjectStore
from preprocessing.errors import ArchiveMissing
from preprocessing.sources.archives import SourceFile, problem_of_folder
from preprocessing.sources.members import Member, Members, SplitName
from preprocessing.sources.names import is_utf8
from preprocessing.sources.splits import split_by_key
from preprocessing.sources.unlisted import entries_of, refuse_unlisted

_HIDDEN = "."
_LAYOUT = "lay it out as train/<class>/… and val/<class>/…, or as <class>/…"


def index_folder(
    store: ObjectStore, *, seed: int, val_fraction: float
) -> tuple[Members, tuple[SourceFile, ...]]:
    """List a folder per class: its members by split and name, and the files they are.

    Raises:
        ArchiveMissing: there is no such folder, or it holds no files.
        DataError: a file is in no class's folder, or val has a class that train has not; a folder
            cannot be read or is a link, or a link leads nowhere.
    """
    infos = {info.key: info for info in store.list() if not _hidden(info.key)}
    if isinstance(store, FolderStore):
        _refuse_what_no_listing_shows(store.uri)
    if not infos:
        raise ArchiveMissing(
            f"{store.uri} {problem_of_folder(store) or 'holds no files'}", remedy=_LAYOUT
        )
    members = sorted(_members(store, infos, seed, val_fraction), key=lambda m: (m.split, m.name))
    _check_classes(store, members)
    columns = {name: [getattr(m, name) for m in members] for name in Member.__slots__}
    sources = tuple(
        SourceFile(name=key, size_bytes=infos[key].size_bytes, version=infos[key].version)
        for key in sorted(member.archive for member in members)
    )
    return Members(pa.table(columns, schema=Members.schema())), sources


def _refuse_what_no_listing_shows(root: str) -> None:
    shown = entries_of(root, _HIDDEN)
    if any(entry.name == "train" for entry in shown):
        shown = [entry for entry in shown if entry.name in ("train", "val")]
    refuse_unlisted(shown, hidden=_HIDDEN)


def _members(
    store: ObjectStore, infos: Mapping[str, ObjectInfo], seed: int, val_fraction: float
) -> Iterable[Member]:
    top = {key.partition("/")[0] for key in infos if "/" in key}
    if "val" in top and "train" not in top:
        raise DataError(f"{store.uri} holds val/ but no train/", remedy=_LAYOUT)
    if "train" in top and "val" in top:
        return [
            *_class_folders(store, infos, "train/", "train"),
            *_class_folders(store, infos, "val/", "val"),
        ]
    prefix = "train/" if "train" in top else ""
    return split_by_key(_class_folders(store, infos, prefix, "train"), seed, val_fraction)


def _class_folders(
    store: ObjectStore, infos: Mapping[str, ObjectInfo], prefix: str, split: SplitName
) -> list[Member]:
    members = []
    for key, info in infos.items():
        if not key.startswith(prefix):
            continue
        if not is_utf8(key):
            raise DataError(
                f"{store.uri}: {key!r} has a name that is not UTF-8", remedy="rename it"
            )
        wnid, slash, _ = key.removeprefix(prefix).partition("/")
        if not slash:
            raise DataError(f"{store.uri}/{key} is in no class's folder", remedy=_LAYOUT)
        members.append(Member(split, key, key, 0, info.size_bytes, wnid))
    return members


def _check_classes(store: ObjectStore, members: Iterable[Member]) -> None:
    classes: Mapping[SplitName, set[str]] = {"train": set(), "val": set()}
    for member in members:
        classes[member.split].add(member.wnid)
    for split, found in classes.items():
        if not found:
            raise DataError(f"{store.uri} has no images for {split}", remedy=_LAYOUT)
    unknown = sorted(classes["val"] - classes["train"])
    if unknown:
        raise DataError(
            f"{store.uri}: class {unknown[0]!r} of val/ is not in train/",
            remedy="give it training images, or take it out of val/",
        )


def _hidden(key: str) -> bool:
    return any(part.startswith(_HIDDEN) for part in key.split("/"))
