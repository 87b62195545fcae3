"""Predictions as a table, and as a Parquet or CSV file: whole, or not there."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from alexnet.inference.classify import ALL_PROBABILITIES
from pipelines.inference.output_files import table_bytes, write_output
from preprocessing.dataset.labels import Classes

_LISTS: Final = ("labels", "wnids", "names", "probabilities")


def answers_table(answers: pa.Table, classes: Classes) -> pa.Table:
    """Give answers names.

    Args:
        answers: of `ClassifySpec.schema`.
        classes: those of the network.

    Returns:
        A row an image, in order: `path`, the columns of a registered model's answer,
        `all_probabilities` if they were kept, and `reason`, null unless it is no image; then all
        others are null.
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
    every = {name: answers[name] for name in answers.column_names if name == ALL_PROBABILITIES.name}
    reason = answers["reason"]
    return pa.table({"path": answers["path"], **best, **lists, **every, "reason": reason})


def write_predictions(table: pa.Table, output: str) -> None:
    """Write a table of `answers_table`, replacing any file; a reader never sees a part of it.

    CSV has a column for each of the best five: label_1, wnid_1, name_1, probability_1, label_2, …
    """
    flat = table if output.endswith(".parquet") else _without_lists(table)
    write_output(output, table_bytes(flat, output))


def _without_lists(table: pa.Table) -> pa.Table:
    longest = pc.max(pc.list_value_length(table["top5_labels"])).as_py() or 0
    columns = {"path": table["path"]}
    for place in range(longest):
        for name in _LISTS:
            of_one = "probability" if name == "probabilities" else name.removesuffix("s")
            columns[f"{of_one}_{place + 1}"] = pc.list_element(table[f"top5_{name}"], place)
    return pa.table({**columns, "reason": table["reason"]})


def _taken(labels: pa.ListArray, values: list[str]) -> pa.ListArray:
    taken = pa.array(values).take(labels.values)
    return pa.ListArray.from_arrays(labels.offsets, taken, mask=labels.is_null())
