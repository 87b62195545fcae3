"""CIFAR-10 and CIFAR-100 in the official Python layout: pickles of 32x32 pixels.

Source: https://www.cs.toronto.edu/~kriz/cifar.html (a row is 1,024 red, 1,024 green and 1,024 blue
values, each plane row by row).
"""

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from infra.errors import DataError
from infra.store import ObjectStore, RangeFile
from preprocessing.dataset.stored import encode_raw
from preprocessing.settings import PrepareSettings
from preprocessing.sources.archives import SourceFile, find_files
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.labelled import LABELS_STOP, index_labelled
from preprocessing.sources.members import SplitName
from preprocessing.sources.names import is_name
from preprocessing.sources.safe_pickle import read_plain_pickle
from preprocessing.sources.unpack import UnpackedImage, images_path, unpack

SIDE_PX: Final = 32
MAX_FILE_BYTES: Final = 256 << 20
"""The largest official file has 155 MB."""
_READ_AHEAD_BYTES: Final = 1 << 20
_REMEDY: Final = "take the official CIFAR archive for Python again, and unpack it"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the files are called, and what is in them."""

    meta: str
    names: str
    labels: str
    train: tuple[str, ...]
    val: tuple[str, ...]


_LAYOUTS: Final = (
    _Layout(
        meta="batches.meta",
        names="label_names",
        labels="labels",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        val=("test_batch",),
    ),
    _Layout(
        meta="meta", names="fine_label_names", labels="fine_labels", train=("train",), val=("test",)
    ),
)


def index_cifar(
    store: ObjectStore, prepare: PrepareSettings, workspace: ObjectStore
) -> DatasetIndex:
    """Unpack CIFAR's pixels as binary PPM files, unless that was done before, and index them.

    Classes are called, and sorted, by the names in the meta file.

    Raises:
        ArchiveMissing: a file of the layout is not there.
        DataError: a file is no pickle of plain values, or its content is not CIFAR's.
    """
    warn_of_changed_pixels(prepare)
    layout = next((one for one in _LAYOUTS if store.stat(one.meta)), _LAYOUTS[0])
    names = (layout.meta, *layout.train, *layout.val)
    sources = find_files(
        store,
        names,
        remedy="name the folder that cifar-10-python.tar.gz unpacks to, or CIFAR-100's",
    )
    classes = _read_names(store, sources[0], layout)
    unpacked, table = unpack(
        workspace, "cifar", store, sources[1:], lambda source: _images(store, source, layout)
    )
    split_of: dict[str, SplitName] = {
        images_path(source): "train" if source.name in layout.train else "val"
        for source in sources[1:]
    }
    return index_labelled(unpacked, table, split_of, sources, classes, prepare, keys=classes)


def warn_of_changed_pixels(prepare: PrepareSettings) -> None:
    """Say so when the options would not store CIFAR's pixels as they are."""
    if prepare.stored_px != SIDE_PX:
        log.warning(
            "cifar_scaled from_px=%d to_px=%d; prepare.stored_px=32 keeps its pixels",
            SIDE_PX,
            prepare.stored_px,
        )
    if prepare.shape != "original" and prepare.encoding == "jpeg":
        log.warning("cifar_encoded_as=jpeg; prepare.encoding=raw keeps its pixels")


def _read_names(store: ObjectStore, meta: SourceFile, layout: _Layout) -> list[str]:
    content = _read(store, meta)
    names = content.get(layout.names)
    if not isinstance(names, list) or not all(is_name(name) for name in names):
        _refuse(store, meta, f"{layout.names} is no list of names")
    if not names or len(set(names)) < len(names):
        _refuse(store, meta, f"{layout.names} is empty, or holds a name twice")
    return names


def _images(store: ObjectStore, source: SourceFile, layout: _Layout) -> Iterator[UnpackedImage]:
    """Yield the images of one batch file, as PPM files of exactly its pixels."""
    content = _read(store, source)
    data, labels = content.get("data"), content.get(layout.labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2:
        _refuse(store, source, "data is no array of bytes in rows")
    if data.shape[1] != 3 * SIDE_PX * SIDE_PX:
        _refuse(store, source, f"a row of data has {data.shape[1]} bytes, not 3x32x32")
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        _refuse(store, source, f"{layout.labels} is no list of numbers")
    if len(labels) != len(data):
        _refuse(store, source, f"{len(data)} rows of data have {len(labels)} labels")
    names = content.get("filenames", [""] * len(labels))
    if not isinstance(names, list) or len(names) != len(labels):
        _refuse(store, source, "filenames is no list of as many names as there are rows")
    for row, (label, name) in enumerate(zip(labels, names, strict=True)):
        if name != "" and not is_name(name):
            _refuse(store, source, f"row {row} has a file name that is none")
        if not 0 <= label < LABELS_STOP:
            _refuse(store, source, f"row {row} has label {label}")
        yield UnpackedImage(
            name="/".join(filter(None, (source.name, f"{row:05}", name))),
            body=encode_raw(_pixels(data[row])),
            label=label,
        )


def _pixels(row: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Planes → (32, 32, 3) RGB."""
    return row.reshape(3, SIDE_PX, SIDE_PX).transpose(1, 2, 0)


def _read(store: ObjectStore, source: SourceFile) -> dict[str, Any]:
    """Read a pickle whose value is a dictionary; keys of bytes become text."""
    where = f"{store.uri}/{source.name}"
    if source.size_bytes > MAX_FILE_BYTES:
        _refuse(store, source, f"it has {source.size_bytes:,} bytes, too many for CIFAR")
    file = RangeFile(store, source.name, 0, source.size_bytes, read_ahead_bytes=_READ_AHEAD_BYTES)
    with io.BufferedReader(file, _READ_AHEAD_BYTES) as buffered:
        content = read_plain_pickle(buffered, source.size_bytes, where)
    if not isinstance(content, dict):
        _refuse(store, source, "it holds no dictionary")
    return {
        key.decode("latin-1") if isinstance(key, bytes) else key: value
        for key, value in content.items()
    }


def _refuse(store: ObjectStore, source: SourceFile, problem: str) -> NoReturn:
    raise DataError(f"{store.uri}/{source.name} is no file of CIFAR's: {problem}", remedy=_REMEDY)
