"""The development kit: which synsets are classes, what they are called, the validation labels.

Two traps of the genuine file: its ids do not follow the order of the WNIDs, and `wordnet_height`
does not tell leaves from inner synsets; `num_children == 0` does.
"""

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from infra.store import ObjectStore
from preprocessing.dataset.labels import Classes, make_classes
from preprocessing.errors import ArchiveCorrupt, DevkitMismatch
from preprocessing.sources.archives import DEVKIT_ARCHIVE, find_files
from preprocessing.sources.mat_file import read_structs
from preprocessing.sources.names import is_name
from preprocessing.sources.tar import walk_open_tar

META = "data/meta.mat"
GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
MAX_PACKED_BYTES: Final = 64 << 20
"""The genuine archive has 2.5 MB."""
MAX_UNPACKED_BYTES: Final = 64 << 20
_WANTED: Final = {META: MAX_UNPACKED_BYTES, GROUND_TRUTH: 4 << 20}
"""What is read, and how large it may be."""
_FIELDS: Final = ("ILSVRC2012_ID", "WNID", "words", "num_children")

_REMEDY = f"download {DEVKIT_ARCHIVE} again: it must be that of the same release as the archives"


@dataclass(frozen=True, slots=True)
class Devkit:
    """Classes, and the label of every validation image in the order of their numbers."""

    classes: Classes
    val_labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A synset without children: a class."""

    wnid: str
    words: str


def read_devkit(store: ObjectStore) -> Devkit:
    """Read the devkit's archive.

    Raises:
        ArchiveCorrupt: it is no gzipped tar, or is cut off.
        DevkitMismatch: a file in it is missing, unreadable, or contradicts the other.
    """
    files = _unpack(_read(store), f"{store.uri}/{DEVKIT_ARCHIVE}")
    leaves = parse_leaves(files[META])
    ids = parse_ground_truth(files[GROUND_TRUTH])
    classes = make_classes({leaf.wnid: leaf.words for leaf in leaves.values()})
    unknown = sorted(set(ids.tolist()) - set(leaves))
    if unknown:
        raise DevkitMismatch(
            f"{GROUND_TRUTH} has id {unknown[0]}, which is no leaf of {META}", remedy=_REMEDY
        )
    labels = [classes.label_of[leaves[synset_id].wnid] for synset_id in ids.tolist()]
    return Devkit(classes, np.array(labels, np.int64))


def read_ids(store: ObjectStore) -> dict[str, int]:
    """Read the devkit's archive: every class's ILSVRC2012_ID by its WNID.

    Raises:
        ArchiveMissing, ArchiveCorrupt: it is not there, no gzipped tar, or cut off.
        DevkitMismatch: a file in it is missing or unreadable.
    """
    find_files(store, (DEVKIT_ARCHIVE,), remedy="name the folder of the development kit's archive")
    files = _unpack(_read(store), f"{store.uri}/{DEVKIT_ARCHIVE}")
    return {leaf.wnid: number for number, leaf in parse_leaves(files[META]).items()}


def parse_leaves(meta_mat: bytes) -> Mapping[int, Leaf]:
    """Read the leaf synsets of meta.mat, by their ILSVRC2012_ID.

    Raises:
        DevkitMismatch: it cannot be read, or has no leaves, or an id or WNID twice.
    """
    try:
        rows = [_leaf(row) for row in read_structs(meta_mat, "synsets", _FIELDS)]
    except (ValueError, OverflowError) as error:
        raise DevkitMismatch(f"{META} cannot be read: {error}", remedy=_REMEDY) from error
    pairs = [row for row in rows if row is not None]
    leaves = dict(pairs)
    if not leaves or len({leaf.wnid for leaf in leaves.values()}) < len(pairs):
        raise DevkitMismatch(f"{META} has no leaves, or one twice", remedy=_REMEDY)
    if min(leaves) < 1:
        raise DevkitMismatch(f"{META} has id {min(leaves)}; ids begin at 1", remedy=_REMEDY)
    return leaves


def _leaf(row: Mapping[str, str | float | None]) -> tuple[int, Leaf] | None:
    """Read one synset's id and what it is called; None of one with children."""
    wnid, words = row.get("WNID"), row.get("words")
    number, children = row.get("ILSVRC2012_ID"), row.get("num_children")
    if not isinstance(number, int | float) or not isinstance(children, int | float):
        raise ValueError("a synset has no id, or no number of children")
    if int(children):
        return None
    if not is_name(wnid) or not is_name(words):
        raise ValueError(f"synset {int(number)} has no WNID, or no words")
    return int(number), Leaf(wnid, words)


def parse_ground_truth(text: bytes, name: str = GROUND_TRUTH) -> npt.NDArray[np.int64]:
    """Read one synset id a line; blank lines at the end are nothing.

    Raises:
        DevkitMismatch: a line is no number, or one that no id is.
    """
    try:
        return np.array([int(line) for line in text.split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DevkitMismatch(f"{name} is no list of ids: {error}", remedy=_REMEDY) from error


def _read(store: ObjectStore) -> bytes:
    info = store.stat(DEVKIT_ARCHIVE)
    if info is not None and info.size_bytes > MAX_PACKED_BYTES:
        raise ArchiveCorrupt(
            f"{store.uri}/{DEVKIT_ARCHIVE} has {info.size_bytes:,} bytes, too many for a devkit",
            remedy=_REMEDY,
        )
    return store.read(DEVKIT_ARCHIVE)


def _unpack(body: bytes, where: str) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            tar = io.BytesIO(packed.read(MAX_UNPACKED_BYTES))
    except (EOFError, zlib.error, OSError) as error:
        raise ArchiveCorrupt(
            f"{where} is cut off or no gzipped tar: {error}", remedy=_REMEDY
        ) from error
    size_bytes = tar.getbuffer().nbytes
    # All we do not need may be what it likes.
    for member in walk_open_tar(tar, where, 0, size_bytes, others="pass over"):
        for name, limit in _WANTED.items():
            if f"/{member.name}".endswith(f"/{name}") and member.size_bytes <= limit:
                tar.seek(member.start)
                found[name] = tar.read(member.size_bytes)
    for name in (META, GROUND_TRUTH):
        if name not in found:
            raise DevkitMismatch(f"{where} holds no {name}", remedy=_REMEDY)
    return found
