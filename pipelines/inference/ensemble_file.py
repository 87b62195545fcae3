"""A file of averaged probabilities: an evaluation's columns, and of which images they are."""

import json
from typing import Final

import pyarrow as pa

from alexnet.evaluate.rows import View
from infra.errors import DataError
from infra.parquet import parquet_bytes, read_parquet
from infra.store import open_parent
from pipelines.lookup.evaluations import Top5, top5_of

_KEY: Final = b"alexnet.ensemble"
_REMEDY: Final = "name a file that `alexnet ensemble --output` wrote, or write it anew"


def ensemble_bytes(table: pa.Table, dataset_fingerprint: str) -> bytes:
    """Encode a table of predictions, with the dataset whose validation split it is of."""
    described = json.dumps({"dataset_fingerprint": dataset_fingerprint}).encode()
    return parquet_bytes(table.replace_schema_metadata({_KEY: described}))


def is_ensemble_file(name: str) -> bool:
    """Tell whether a name means such a file, and no evaluation or training."""
    return name.lower().endswith(".parquet")


def read_ensemble(name: str, view: View) -> tuple[str, Top5]:
    """Read such a file: its dataset's fingerprint, and the five best labels of each image.

    Raises:
        DataError: there is no such file, it is another one, or of another view.
    """
    store, key = open_parent(name)
    if store.stat(key) is None:
        raise DataError(f"there is no file {name}", remedy=_REMEDY)
    try:
        table = read_parquet(store.read(key))
        fingerprint = json.loads((table.schema.metadata or {})[_KEY])["dataset_fingerprint"]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{name} is no file of an ensemble", remedy=_REMEDY) from error
    if f"{view}_top5" not in table.column_names:
        raise DataError(
            f"{name} has no view {view}",
            remedy="choose the --view of the ensemble, or another file",
        )
    return fingerprint, top5_of(table, view)
