"""Where a command's result goes: refused before any work, or written so that it is whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv

from infra.errors import RecipeError
from infra.looking import is_file, is_folder, may_exist
from infra.parquet import parquet_bytes
from infra.store import FolderStore, ObjectStore, open_parent, open_store
from infra.store.scratch import scratch_place
from pipelines.context import refuse_relative_in_a_job

TABLES: Final = (".parquet", ".csv")


def check_output_file(output: str, suffixes: Sequence[str], option: str = "--output") -> None:
    """Refuse a file that could not be written in the end.

    Args:
        output: a path or a URI.
        suffixes: what it may end with.
        option: what it was named by.

    Raises:
        RecipeError: it ends otherwise, is a folder, or is relative in a submitted job.
        StoreError: the place cannot be written.
    """
    refuse_relative_in_a_job(option, output)
    store, name = open_parent(output)
    if Path(name).suffix not in suffixes:
        raise RecipeError(
            f"{option} {output} does not end with {' or '.join(suffixes)}",
            remedy=f"name a {' or a '.join(suffixes)} file",
        )
    if isinstance(store, FolderStore) and is_folder(Path(store.uri, name)):
        raise RecipeError(f"{option} {output} is a folder", remedy="name a file, which is made")
    _check_writable(store)


def check_output_folder(output: str, option: str = "--output") -> None:
    """Refuse a folder into which nothing could be written in the end.

    Raises:
        RecipeError: it is a file, or relative in a submitted job.
        StoreError: the place cannot be written.
    """
    refuse_relative_in_a_job(option, output)
    store = open_store(output)
    if isinstance(store, FolderStore) and is_file(Path(store.uri)):
        raise RecipeError(f"{option} {output} is a file", remedy="name a folder, which is made")
    _check_writable(store)


def write_output(output: str, body: bytes) -> None:
    """Write a file, replacing any; a reader never sees a part of it."""
    store, name = open_parent(output)
    store.write(name, body)


def table_bytes(table: pa.Table, output: str) -> bytes:
    """Encode a table as the suffix says, one of TABLES; CSV takes no lists."""
    if output.endswith(".parquet"):
        return parquet_bytes(table)
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(table, sink)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _check_writable(store: ObjectStore) -> None:
    """Write to a place and undo it; folders that are not there yet are not made for it."""
    if isinstance(store, FolderStore):
        folder = Path(store.uri)
        store = FolderStore(next(p for p in (folder, *folder.parents) if may_exist(p)))
    with scratch_place(store, ".writable") as place:
        place.write("trial", b"")
