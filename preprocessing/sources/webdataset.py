"""WebDataset tars: `key.jpg` and `key.cls` (or `key.json`) are a sample. Images stay in place.

Source: https://github.com/webdataset/webdataset (a key ends at the first dot of the file's name;
the files of a sample stand side by side).
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Final, NamedTuple, NoReturn

import pyarrow as pa

from infra.canonical import digest_of
from infra.errors import DataError
from infra.store import ObjectStore, RangeFile
from preprocessing.settings import PrepareSettings
from preprocessing.sources.archives import SourceFile
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.index import INDEX_VERSION, kept_or_scanned, scan_each
from preprocessing.sources.labelled import COLUMNS, LABELS_STOP, index_labelled
from preprocessing.sources.names import is_name
from preprocessing.sources.splits import find_split_files, split_of_files
from preprocessing.sources.tar import TarMember, walk_open_tar

IMAGES: Final = frozenset(
    ("jpg", "jpeg", "png", "webp", "gif", "bmp", "ppm", "pgm", "pbm", "tif", "tiff")
)
LABELS: Final = frozenset(("cls", "json"))
CLASS_NAMES: Final = ("classes.txt", "classnames.txt")
MAX_LABEL_BYTES: Final = 1 << 20
"""Of a .cls or .json file."""
MAX_NAMES_BYTES: Final = 16 << 20
_SAMPLES_AT_ONCE: Final = 1 << 16
_REMEDY: Final = "give every sample one image, and its class's number in .cls or as label in .json"


class _File(NamedTuple):
    """A file of a sample."""

    key: str
    extension: str
    member: TarMember
    body: bytes
    """Of a label; else empty."""


def index_webdataset(
    store: ObjectStore, prepare: PrepareSettings, workspace: ObjectStore
) -> DatasetIndex:
    """Walk the headers of all tars, and read the labels, unless the workspace keeps that index.

    Raises:
        ArchiveMissing: there are no tars.
        ArchiveCorrupt: one is cut off, is no tar, or holds a member that is no plain file.
        DataError: a sample has no image or no label.
    """
    files = find_split_files(store, ".tar")
    sources = files.all
    dumped = [source.model_dump() for source in sources]
    key = digest_of([INDEX_VERSION, "webdataset", store.uri, dumped])
    table = kept_or_scanned(workspace, key, store, sources, lambda: _scan(store, sources))
    return index_labelled(
        store, table, split_of_files(files), sources, _class_names(store), prepare
    )


def _scan(store: ObjectStore, sources: Sequence[SourceFile]) -> pa.Table:
    tables = scan_each(store, sources, lambda source: _scan_tar(store, source))
    return pa.concat_tables(tables).combine_chunks()


def _scan_tar(store: ObjectStore, source: SourceFile) -> pa.Table:
    rows = _samples(store, source)
    tables = [COLUMNS.empty_table()]
    while some := list(islice(rows, _SAMPLES_AT_ONCE)):
        names, starts, sizes, labels = zip(*some, strict=True)
        columns = {
            "archive": [source.name] * len(some),
            "name": names,
            "start": starts,
            "size_bytes": sizes,
            "label": labels,
            "wnid": [None] * len(some),
        }
        tables.append(pa.table(columns, schema=COLUMNS))
    return pa.concat_tables(tables)


def _samples(store: ObjectStore, source: SourceFile) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, start, size and label of every sample's image."""
    for key, group in groupby(_files(store, source), key=lambda file: file.key):
        files = list(islice(group, 3))
        images = [file.member for file in files if file.extension in IMAGES]
        labels = [file for file in files if file.extension in LABELS]
        if len(images) != 1 or len(labels) != 1 or len(files) > 2:
            _refuse(
                store,
                source,
                key,
                f"has {len(images)} images and {len(labels)} labels, not one each",
            )
        (image,) = images
        label = _label(labels[0])
        if label is None:
            _refuse(store, source, key, f"has no number from 0 on in its .{labels[0].extension}")
        yield f"{source.name}/{image.name}", image.start, image.size_bytes, label


def _files(store: ObjectStore, source: SourceFile) -> Iterator[_File]:
    """Yield the files that matter; a label's bytes lie behind the header that was just read."""
    file = RangeFile(store, source.name, 0, source.size_bytes)
    where = f"{store.uri}/{source.name}"
    for member in walk_open_tar(file, where, 0, source.size_bytes):
        folder, slash, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        extension = extension.lower()
        if not stem or extension not in IMAGES | LABELS:
            continue
        body = b""
        if extension in LABELS:
            if member.size_bytes > MAX_LABEL_BYTES:
                _refuse(store, source, member.name, f"has {member.size_bytes:,} bytes, too many")
            file.seek(member.start)
            body = file.read(member.size_bytes) or b""
        yield _File(f"{folder}{slash}{stem}", extension, member, body)


def _label(file: _File) -> int | None:
    """Read a class's number, or None."""
    try:
        text = file.body.decode("utf-8-sig")
        label = json.loads(text)["label"] if file.extension == "json" else int(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return label if type(label) is int and 0 <= label < LABELS_STOP else None


def _class_names(store: ObjectStore) -> list[str] | None:
    """Read the classes' names, one a line by label, or None where there is no such file."""
    for key in CLASS_NAMES:
        info = store.stat(key)
        if info is None:
            continue
        body = store.read(key) if info.size_bytes <= MAX_NAMES_BYTES else b""
        # Editors on Windows write a mark before the first name.
        names = body.decode("utf-8-sig", errors="surrogateescape").splitlines()
        if not names or not all(is_name(name) for name in names):
            raise DataError(
                f"{store.uri}/{key} is no list of names", remedy="write one class a line, by label"
            )
        return names
    return None


def _refuse(store: ObjectStore, source: SourceFile, name: str, problem: str) -> NoReturn:
    raise DataError(f"{store.uri}/{source.name}: {name!r} {problem}", remedy=_REMEDY)
