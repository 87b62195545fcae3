"""Hugging Face's image datasets: Parquet files with image files and class numbers in them.

Source: https://huggingface.co/docs/datasets/image_dataset and repository_structure (a column
`struct<bytes, path>` of type Image, one of type ClassLabel; splits by file names).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import DataError
from infra.store import ObjectStore
from preprocessing.settings import PrepareSettings
from preprocessing.sources.archives import SourceFile
from preprocessing.sources.dataset_index import DatasetIndex
from preprocessing.sources.labelled import LABELS_STOP, index_labelled
from preprocessing.sources.names import is_name
from preprocessing.sources.splits import find_split_files, split_of_files
from preprocessing.sources.unpack import MAX_IMAGES, UnpackedImage, images_path, unpack

MAX_GROUP_BYTES: Final = 2 << 30
"""Of a row group, unpacked: Arrow may need all of it at once."""
_ROWS_AT_ONCE: Final = 64
_BUFFER_BYTES: Final = 1 << 20
_REMEDY: Final = (
    "write it with `to_parquet`, with an Image column `image` and a ClassLabel column `label`"
)
_ARROW_ERRORS: Final = (OSError, pa.ArrowException, UnicodeDecodeError, KeyError)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns of a file are which, and the classes' names."""

    image: str
    label: str
    wnid: str | None
    names: tuple[str, ...] | None


def index_huggingface(
    store: ObjectStore, prepare: PrepareSettings, workspace: ObjectStore
) -> DatasetIndex:
    """Unpack the images of Parquet files, unless that was done before, and index them.

    Raises:
        ArchiveMissing: there are no Parquet files.
        DataError: a file is damaged, or has no such columns; or one has other classes.
    """
    files = find_split_files(store, ".parquet")
    names = _names_of(store, files.train[0])
    unpacked, table = unpack(
        workspace, "huggingface", store, files.all, lambda source: _images(store, source, names)
    )
    splits = split_of_files(files)
    split_of = {images_path(source): splits[source.name] for source in files.all}
    return index_labelled(unpacked, table, split_of, files.all, names, prepare)


def _names_of(store: ObjectStore, source: SourceFile) -> tuple[str, ...] | None:
    with _open(store, source) as file:
        return _columns_of(store, source, file.schema_arrow).names


def _images(
    store: ObjectStore, source: SourceFile, names: tuple[str, ...] | None
) -> Iterator[UnpackedImage]:
    """Yield the images of one file; some rows are in memory at a time."""
    with _open(store, source) as file:
        columns = _columns_of(store, source, file.schema_arrow)
        if columns.names != names:
            _refuse(store, source, "it has other classes than the first file for training")
        if file.metadata.num_rows > MAX_IMAGES:
            _refuse(store, source, f"it has more than {MAX_IMAGES:,} rows")
        wanted = [name for name in (columns.image, columns.label, columns.wnid) if name]
        row = 0
        for group in range(file.num_row_groups):
            if file.metadata.row_group(group).total_byte_size > MAX_GROUP_BYTES:
                _refuse(store, source, f"row group {group} has more than {MAX_GROUP_BYTES:,} bytes")
            batches = file.iter_batches(
                _ROWS_AT_ONCE, row_groups=[group], columns=wanted, use_threads=False
            )
            for batch in batches:
                yield from _unpacked(store, source, columns, batch, row)
                row += batch.num_rows


def _unpacked(
    store: ObjectStore, source: SourceFile, columns: _Columns, batch: pa.RecordBatch, first: int
) -> Iterator[UnpackedImage]:
    images = batch.column(columns.image)
    fields = {images.type.field(i).name: part for i, part in enumerate(images.flatten())}
    bodies = fields["bytes"].to_pylist()
    paths = fields["path"].to_pylist() if "path" in fields else [None] * len(bodies)
    labels = batch.column(columns.label).to_pylist()
    wnids = batch.column(columns.wnid).to_pylist() if columns.wnid else [None] * len(bodies)
    rows = zip(bodies, paths, labels, wnids, strict=True)
    for row, (body, path, label, wnid) in enumerate(rows, first):
        if body is None:
            _refuse(store, source, f"row {row} has no image in it, at most its path")
        if label is None or label < 0:
            _refuse(store, source, f"row {row} has no label")
        if label >= LABELS_STOP:
            _refuse(store, source, f"row {row} has label {label}")
        key = wnid if is_name(wnid) else None
        yield UnpackedImage(_name(source, row, path), body, label, key)


def _name(source: SourceFile, row: int, path: str | None) -> str:
    """Return a name that no other image has, with the one that the file gives, if that is one."""
    base = (path or "").rpartition("/")[2]
    return "/".join((source.name, f"{row:06}", *([base] if is_name(base) else [])))


def _columns_of(store: ObjectStore, source: SourceFile, schema: pa.Schema) -> _Columns:
    features = _features(schema)
    image = _named(features, "Image", "image")
    label = _named(features, "ClassLabel", "label")
    for name in (image, label):
        if schema.get_field_index(name) < 0:
            _refuse(store, source, f"it has no column {name!r}, but {schema.names[:20]}")
    kind = schema.field(image).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        _refuse(store, source, f"column {image!r} is {kind}, no struct<bytes, path>")
    body = kind.field("bytes").type
    path = kind.field("path").type if kind.get_field_index("path") >= 0 else pa.null()
    if not _is_binary(body) or not (_is_text(path) or pa.types.is_null(path)):
        _refuse(store, source, f"column {image!r} is {kind}, no struct<bytes, path>")
    if not pa.types.is_integer(schema.field(label).type):
        _refuse(store, source, f"column {label!r} is {schema.field(label).type}, no numbers")
    has_wnid = schema.get_field_index("wnid") >= 0 and _is_text(schema.field("wnid").type)
    names = features.get(label, {}).get("names")
    if names is not None and not _are_names(names):
        _refuse(store, source, f"the classes of column {label!r} have no names")
    return _Columns(image, label, "wnid" if has_wnid else None, tuple(names) if names else None)


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Read what Hugging Face says of the columns; nothing where it says nothing."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _named(features: dict[str, dict[str, Any]], kind: str, usual: str) -> str:
    """Return the column of a type: the usual one, or the only one of that type."""
    found = [name for name, feature in features.items() if feature.get("_type") == kind]
    return found[0] if len(found) == 1 and usual not in found else usual


def _are_names(names: object) -> bool:
    return isinstance(names, list) and all(is_name(name) for name in names)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


@contextmanager
def _open(store: ObjectStore, source: SourceFile) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; whatever Arrow cannot read is an error about that file."""
    try:
        with (
            store.open_input(source.name) as opened,
            # Not on threads of Arrow's, as infra.parquet says; pages, not whole column chunks.
            pq.ParquetFile(
                opened,
                page_checksum_verification=True,
                pre_buffer=False,
                buffer_size=_BUFFER_BYTES,
            ) as file,
        ):
            yield file
    except _ARROW_ERRORS as error:
        raise DataError(
            f"{store.uri}/{source.name} is damaged, or no Parquet file: {str(error)[:300]}",
            remedy="download it again",
        ) from error


def _refuse(store: ObjectStore, source: SourceFile, problem: str) -> NoReturn:
    raise DataError(f"{store.uri}/{source.name} holds no image dataset: {problem}", remedy=_REMEDY)
