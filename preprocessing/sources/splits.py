"""Which split a file of images is of, as its name says; else a keyed share of each class."""

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final, Literal

from infra.errors import DataError
from infra.store import FolderStore, ObjectStore
from preprocessing.errors import ArchiveMissing
from preprocessing.sources.archives import SourceFile
from preprocessing.sources.members import Member, SplitName
from preprocessing.sources.names import is_utf8
from preprocessing.sources.unlisted import entries_of, refuse_unlisted

_HIDDEN: Final = "._"
Meaning = Literal["train", "val", "test"]
_MEANING: Final[Mapping[str, Meaning]] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""The words that Hugging Face's datasets know."""
_WORD: Final = re.compile(rf"(?<![a-z])({'|'.join(_MEANING)})(?![a-z])")
_NAME: Final = re.compile(rf"({'|'.join(_MEANING)})([ _-]?(set|data|images))?")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files of a dataset by split; without any for val, a share of train is meant."""

    train: tuple[SourceFile, ...]
    val: tuple[SourceFile, ...]

    @property
    def all(self) -> tuple[SourceFile, ...]:
        """Train first."""
        return self.train + self.val


def find_split_files(store: ObjectStore, suffix: str) -> SplitFiles:
    """Find the files with a suffix, and which split each is of.

    The last word for a split in a file's path counts. Test stands in for val where there is none.
    Names that begin with a dot or an underscore are passed over, and so are files without such a
    word beside files that have one. What no listing of a directory shows is refused.

    Raises:
        ArchiveMissing: there are no such files.
        DataError: none is for train, or a file's name is no name; a folder cannot be read or is a
            link, or a link to such a file leads nowhere.
    """
    if isinstance(store, FolderStore):
        refuse_unlisted(entries_of(store.uri, _HIDDEN), hidden=_HIDDEN, suffix=suffix)
    found: defaultdict[str, list[SourceFile]] = defaultdict(list)
    for info in store.list():
        if info.key.endswith(suffix) and not re.search(rf"(^|/)[{_HIDDEN}]", info.key):
            _check_key(store, info.key)
            found[split_word(info.key) or ""].append(SourceFile.of(info))
    if not found:
        raise ArchiveMissing(
            f"{store.uri} holds no *{suffix} files",
            remedy="name the folder that holds them; if they are packed, unpack them first",
        )
    if found.keys() == {""}:
        return SplitFiles(tuple(found[""]), ())
    if not found["train"]:
        raise DataError(
            f"{store.uri}: no *{suffix} file has a name for training images",
            remedy="name files or folders train-…, and val-…, validation-… or test-…",
        )
    val = found["val"] or found["test"]
    used = {source.name for source in found["train"] + val}
    left_out = [s.name for group in found.values() for s in group if s.name not in used]
    if left_out:
        log.info("files_left_out uri=%s count=%d first=%s", store.uri, len(left_out), left_out[0])
    return SplitFiles(tuple(found["train"]), tuple(val))


def split_word(key: str) -> Meaning | None:
    """Return which split a path is of, by the last word for one in it."""
    words = _WORD.findall(key.lower())
    return _MEANING[words[-1]] if words else None


def meaning_of(name: str) -> Meaning | None:
    """Return which split a folder is of, if all of its name says so, as Train or test_set does.

    Less would take a class for one: there are test tubes and trains.
    """
    match = _NAME.fullmatch(name.lower())
    return _MEANING[match[1]] if match else None


def split_by_key(members: Iterable[Member], seed: int, val_fraction: float) -> list[Member]:
    """Give val the images whose sha256(seed/val/name), as a part of one, is below val_fraction.

    What an image is for hangs on its own name, so images that are added move no other. Except in a
    class so small that one split would have none: of two images or more the lowest is for val and
    the highest for train, wherever they lie. A single one is for train.
    """
    by_class: defaultdict[str, list[tuple[bytes, Member]]] = defaultdict(list)
    for member in members:
        digest = hashlib.sha256(f"{seed}/val/{member.name}".encode()).digest()
        by_class[member.wnid].append((digest, member))
    result: list[Member] = []
    for group in by_class.values():
        group.sort(key=itemgetter(0))
        num_below = sum(_part_of_one(digest) < val_fraction for digest, _ in group)
        num_val = min(max(1, num_below), len(group) - 1)
        result += [
            replace(member, split="val" if i < num_val else "train")
            for i, (_, member) in enumerate(group)
        ]
    return result


def _part_of_one(digest: bytes) -> float:
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of_files(files: SplitFiles) -> Mapping[str, SplitName]:
    """Return the split of each file by its name."""
    train: Sequence[tuple[str, SplitName]] = [(source.name, "train") for source in files.train]
    val: Sequence[tuple[str, SplitName]] = [(source.name, "val") for source in files.val]
    return dict([*train, *val])


def _check_key(store: ObjectStore, key: str) -> None:
    """Refuse keys that are no paths, as an object store may hold, or no text."""
    if "" in key.split("/") or not is_utf8(key):
        raise DataError(f"{store.uri}: {key!r} is no file's name", remedy="rename that object")
