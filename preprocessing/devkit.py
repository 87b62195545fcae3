"""The development kit: which synsets are classes, what they are called, the validation labels.

Two traps of the genuine file: its ids do not follow the order of the WNIDs, and `wordnet_height`
does not tell leaves from inner synsets; `num_children == 0` does.
"""

import io
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.io
from scipy.io.matlab import MatReadError

from infra.store import ObjectStore
from preprocessing.archives import DEVKIT_ARCHIVE
from preprocessing.dataset.labels import Classes, make_classes
from preprocessing.errors import ArchiveCorrupt, DevkitMismatch

META = "data/meta.mat"
GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"

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
    files = _unpack(store.read(DEVKIT_ARCHIVE), f"{store.uri}/{DEVKIT_ARCHIVE}")
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


def parse_leaves(meta_mat: bytes) -> Mapping[int, Leaf]:
    """Read the leaf synsets of meta.mat, by their ILSVRC2012_ID.

    Raises:
        DevkitMismatch: it cannot be read, or has no leaves, or an id or WNID twice.
    """
    try:
        file = io.BytesIO(meta_mat)
        mat = scipy.io.loadmat(file, squeeze_me=True)  # type: ignore[arg-type]  # stubs: no files
        rows = [
            (int(row["ILSVRC2012_ID"]), Leaf(str(row["WNID"]), str(row["words"])))
            for row in np.atleast_1d(mat["synsets"])
            if int(row["num_children"]) == 0
        ]
    except (
        ValueError,
        OverflowError,
        TypeError,
        KeyError,
        IndexError,
        OSError,
        EOFError,
        NotImplementedError,
    ) as e:
        raise DevkitMismatch(f"{META} cannot be read: {e}", remedy=_REMEDY) from e
    except (MatReadError, zlib.error) as error:
        raise DevkitMismatch(f"{META} cannot be read: {error}", remedy=_REMEDY) from error
    leaves = dict(rows)
    if not rows or len(leaves) < len(rows) or len({leaf.wnid for _, leaf in rows}) < len(rows):
        raise DevkitMismatch(f"{META} has no leaves, or one twice", remedy=_REMEDY)
    if min(leaves) < 1:
        raise DevkitMismatch(f"{META} has id {min(leaves)}; ids begin at 1", remedy=_REMEDY)
    return leaves


def parse_ground_truth(text: bytes) -> npt.NDArray[np.int64]:
    """Read one synset id a line; blank lines at the end are nothing.

    Raises:
        DevkitMismatch: a line is no number, or one that no id is.
    """
    try:
        return np.array([int(line) for line in text.split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DevkitMismatch(
            f"{GROUND_TRUTH} is no list of ids: {error}", remedy=_REMEDY
        ) from error


def _unpack(body: bytes, where: str) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
            for info in tar:
                wanted = next((name for name in (META, GROUND_TRUTH) if _ends(info, name)), None)
                file = tar.extractfile(info) if wanted and info.isreg() else None
                if wanted and file:
                    found[wanted] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ArchiveCorrupt(
            f"{where} is cut off or no gzipped tar: {error}", remedy=_REMEDY
        ) from error
    for name in (META, GROUND_TRUTH):
        if name not in found:
            raise DevkitMismatch(f"{where} holds no {name}", remedy=_REMEDY)
    return found


def _ends(info: tarfile.TarInfo, name: str) -> bool:
    return f"/{info.name}".endswith(f"/{name}")
