"""What is to be predicted: files, folders, Parquet and datasets become parts, read when needed.

a file, or each file of a folder    one part, one image
a Parquet file                      one part, an image a row
a dataset (a folder with a manifest)   a part a shard of its val split, or of train
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from alexnet.inference.errors import InputRejected
from alexnet.inference.input_parts import InputPart, printable, reason_of
from infra.errors import RecipeError
from infra.parquet import READ_ERRORS, open_parquet
from infra.store import FolderStore, ObjectStore, open_parent, open_store
from preprocessing.dataset.manifest import MANIFEST, SplitName, open_dataset

SPLITS: Final[tuple[SplitName, ...]] = ("train", "val")


def split_called(word: str) -> SplitName:
    """Return the split of this name.

    Raises:
        RecipeError: there is none.
    """
    for split in SPLITS:
        if split == word:
            return split
    raise RecipeError(f"there is no split {word!r}", remedy=f"choose one of {', '.join(SPLITS)}")


def find_parts(names: Iterable[str], split: SplitName = "val") -> list[InputPart]:
    """Look up what was named, in order; a folder's files by name, hidden ones passed over.

    Of a dataset the images of one split.

    Raises:
        InputRejected: there is no such file, folder or dataset.
        DataError: a dataset is not whole.
        StoreError: a place cannot be read.
    """
    return [part for name in names for part in _parts_of(name, split)]


def _parts_of(name: str, split: SplitName) -> Iterator[InputPart]:
    store = open_store(name)
    parent, key = open_parent(name)
    info = parent.stat(key) if key else None
    if info is not None:
        yield from _file_parts(parent, key, printable(name), info.size_bytes)
    elif store.stat(MANIFEST) is not None:
        yield from _dataset_parts(store, name, split)
    else:
        yield from _folder_parts(store, name.rstrip("/") or "/")


def _file_parts(store: ObjectStore, key: str, path: str, size_bytes: int) -> Iterator[InputPart]:
    part = InputPart(store, key, path, size_bytes)
    yield _parquet_part(part) if path.lower().endswith(".parquet") else part


def _dataset_parts(store: ObjectStore, name: str, split: SplitName) -> Iterator[InputPart]:
    for shard in open_dataset(store).split(split).shards:
        path, rows = printable(f"{name.rstrip('/')}/{shard.path}"), (0, shard.num_rows)
        yield InputPart(store, shard.path, path, shard.size_bytes, rows, "image", labelled=True)


def _folder_parts(store: ObjectStore, name: str) -> Iterator[InputPart]:
    found = False
    for info in store.list():
        if any(name.startswith(".") for name in info.key.split("/")):
            continue
        found = True
        path = printable(f"{name}/{info.key}")
        yield from _file_parts(store, info.key, path, info.size_bytes)
    if not found and isinstance(store, FolderStore) and Path(store.uri).is_dir():
        yield InputPart(store, "", printable(name), 0, refused="the folder holds no files")
    elif not found:
        raise InputRejected(
            f"there is no file or folder {printable(name)}",
            remedy="name image files, folders of them, Parquet files or datasets that exist",
        )


def _parquet_part(part: InputPart) -> InputPart:
    try:
        with open_parquet(part.store, part.key) as file:
            column = _image_column(file.schema_arrow)
            if not column:
                fields = ", ".join(file.schema_arrow.names)
                reason = f"it has neither a column `image` of bytes nor one binary column: {fields}"
                return replace(part, refused=reason)
            labelled = _has_labels(file.schema_arrow)
            rows = (0, file.metadata.num_rows)
            return replace(part, rows=rows, column=column, labelled=labelled)
    except READ_ERRORS as error:
        return replace(part, refused=reason_of(part, error))


def _image_column(schema: pa.Schema) -> str:
    """Find the column of images: `image`, as Hugging Face has it or bytes, or the only binary one.

    "" if there is none.
    """
    if "image" in schema.names:
        kind = schema.field("image").type
        if _is_binary(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
            return "image"
    binary = [field.name for field in schema if _is_binary(field.type)]
    return binary[0] if len(binary) == 1 else ""


def _has_labels(schema: pa.Schema) -> bool:
    return "label" in schema.names and pa.types.is_integer(schema.field("label").type)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
