"""Predictions as a table, and as a Parquet or CSV file: whole, or not there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from infra.errors import RecipeError
from infra.parquet import parquet_bytes
from infra.store import FolderStore, ObjectStore, open_store
from infra.store.scratch import scratch_place
from preprocessing.dataset.labels import Classes

SUFFIXES: Final = (".parquet", ".csv")
_LISTS: Final = ("labels", "wnids", "names", "probabilities")


def predictions_table(answers: pa.Table, classes: Classes) -> pa.Table:
    """Give answers names.

    Args:
        answers: of `alexnet.release.bulk.ANSWERS`.
        classes: those of the network.

    Returns:
        A row an image, in order: `path`, the columns of a registered model's answer, and
        `reason`, null unless it is no image; then all others are null.
    """
    labels, probabilities = (answers[name].combine_chunks() for name in ("labels", "probabilities"))
    tops = {
        "labels": labels,
        "wnids": _taken(labels, [entry.wnid for entry in classes.classes]),
        "names": _taken(labels, list(classes.names)),
        "probabilities": probabilities,
    }
    best = {name.removesuffix("s"): pc.list_element(tops[name], 0) for name in _LISTS[:3]}
    best["probability"] = pc.list_element(probabilities, 0)
    lists = {f"top5_{name}": tops[name] for name in _LISTS}
    return pa.table({"path": answers["path"], **best, **lists, "reason": answers["reason"]})


def check_output(output: str, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Refuse what could not be written in the end.

    Raises:
        RecipeError: the suffix is no known one, or it is a folder.
        StoreError: the place cannot be written.
    """
    store, name = placed(output)
    if Path(name).suffix not in suffixes:
        raise RecipeError(
            f"--output {output} does not end with {' or '.join(suffixes)}",
            remedy=f"name a {' or a '.join(suffixes)} file",
        )
    if isinstance(store, FolderStore) and Path(store.uri, name).is_dir():
        raise RecipeError(f"--output {output} is a folder", remedy="name a file, which is made")
    with scratch_place(store, ".writable") as place:
        place.write("trial", b"")


def write_predictions(table: pa.Table, output: str) -> None:
    """Write a table of `predictions_table`, replacing any file; a reader never sees a part of it.

    CSV has a column for each of the best five: label_1, wnid_1, name_1, probability_1, label_2, …
    """
    store, name = placed(output)
    store.write(name, parquet_bytes(table) if name.endswith(".parquet") else _csv_bytes(table))


def placed(output: str) -> tuple[ObjectStore, str]:
    """Split a file's path or URI into its folder, as a store, and its name there."""
    folder, _, name = open_store(output).uri.rpartition("/")
    return open_store(folder or "/"), name


def _csv_bytes(table: pa.Table) -> bytes:
    longest = pc.max(pc.list_value_length(table["top5_labels"])).as_py() or 0
    columns = {"path": table["path"]}
    for place in range(longest):
        for name in _LISTS:
            of_one = "probability" if name == "probabilities" else name.removesuffix("s")
            columns[f"{of_one}_{place + 1}"] = pc.list_element(table[f"top5_{name}"], place)
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(pa.table({**columns, "reason": table["reason"]}), sink)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _taken(labels: pa.ListArray, values: list[str]) -> pa.ListArray:
    taken = pa.array(values).take(labels.values)
    return pa.ListArray.from_arrays(labels.offsets, taken, mask=labels.is_null())
