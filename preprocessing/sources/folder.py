"""Stage 2 of 11 for a folder per class: every file is an archive of its own.

    FOLDER/train/<class>/…  and  FOLDER/val/<class>/…     as they are
    FOLDER/train/<class>/…  or   FOLDER/<class>/…         a keyed share of each class becomes val

Training, Validation, test and the like are such words too (splits.py): a network that tells
training from validation is nobody's wish. Names that begin with a dot are passed over; what no
listing shows is refused (unlisted.py).
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import pyarrow as pa

from infra.errors import DataError
from infra.store import FolderStore, ObjectInfo, ObjectStore
from preprocessing.errors import ArchiveMissing
from preprocessing.sources.archives import SourceFile, problem_of_folder
from preprocessing.sources.members import Member, Members, SplitName
from preprocessing.sources.names import is_utf8
from preprocessing.sources.splits import Meaning, meaning_of, split_by_key
from preprocessing.sources.unlisted import entries_of, refuse_unlisted

_HIDDEN: Final = "."
_LAYOUT: Final = "lay it out as train/<class>/… and val/<class>/…, or as <class>/…"
_WORDS: Final = f"{_LAYOUT}; a class whose name is a word for a split goes below train/"

log = logging.getLogger(__name__)


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
        refuse_unlisted(entries_of(store.uri, _HIDDEN), hidden=_HIDDEN)
    if not infos:
        raise ArchiveMissing(
            f"{store.uri} {problem_of_folder(store) or 'holds no files'}", remedy=_LAYOUT
        )
    splits = _split_folders(store, {key.partition("/")[0] for key in infos if "/" in key})
    members = [
        member
        for split, folder in splits.items()
        for member in _class_folders(store, infos, folder, split)
    ]
    if "val" not in splits:
        members = split_by_key(members, seed, val_fraction)
    members.sort(key=lambda m: (m.split, m.name))
    _check_classes(store, members, splits)
    columns = {name: [getattr(m, name) for m in members] for name in Member.__slots__}
    sources = tuple(
        SourceFile(name=key, size_bytes=infos[key].size_bytes, version=infos[key].version)
        for key in sorted(member.archive for member in members)
    )
    return Members(pa.table(columns, schema=Members.schema())), sources


def _split_folders(store: ObjectStore, top: Iterable[str]) -> Mapping[SplitName, str]:
    """Return where each split's classes are: "train/", or "" for all of them.

    Test stands in for val where there is none, as in other sources.
    """
    found: defaultdict[Meaning | None, list[str]] = defaultdict(list)
    for folder in sorted(top):
        found[meaning_of(folder)].append(folder)
    others = found.pop(None, [])
    if not found:
        return {"train": ""}
    for same in found.values():
        if len(same) > 1:
            raise DataError(
                f"{store.uri} holds {same[0]}/ and {same[1]}/, which mean the same",
                remedy=f"move one away; {_LAYOUT}",
            )
    if "train" not in found:
        word = next(iter(found.values()))[0]
        raise DataError(f"{store.uri} holds {word}/ but no train/", remedy=_WORDS)
    train = found["train"][0]
    if others:
        raise DataError(f"{store.uri} holds {others[0]!r} beside {train}/", remedy=_WORDS)
    val = found["val"] or found["test"]
    if found["test"]:
        event = "folder_left_out" if found["val"] else "folder_stands_in_for_val"
        log.warning("%s uri=%s name=%s", event, store.uri, found["test"][0])
    return {"train": f"{train}/", "val": f"{val[0]}/"} if val else {"train": f"{train}/"}


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
            raise DataError(f"{store.uri}/{key} is in no class's folder", remedy=_lay_out(prefix))
        members.append(Member(split, key, key, 0, info.size_bytes, wnid))
    return members


def _lay_out(prefix: str) -> str:
    if meaning_of(prefix.rstrip("/")) != "test":
        return _LAYOUT
    return (
        f"{prefix} stands in for val/, of which there is none: move it away to have a share of"
        f" train/ held back, or {_LAYOUT}"
    )


def _check_classes(
    store: ObjectStore, members: Iterable[Member], folders: Mapping[SplitName, str]
) -> None:
    classes: Mapping[SplitName, set[str]] = {"train": set(), "val": set()}
    for member in members:
        classes[member.split].add(member.wnid)
    for split, found in classes.items():
        if not found:
            raise DataError(f"{store.uri} has no images for {split}", remedy=_LAYOUT)
    unknown = sorted(classes["val"] - classes["train"])
    if unknown:
        train, val = folders["train"], folders["val"]
        raise DataError(
            f"{store.uri}: class {unknown[0]!r} of {val} is not in {train}",
            remedy=f"give it training images, or take it out of {val}",
        )


def _hidden(key: str) -> bool:
    return any(part.startswith(_HIDDEN) for part in key.split("/"))
