"""An evaluation's tables: what is kept per image, per class, and per pair of classes."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alexnet.evaluate.counts import Counts
from alexnet.evaluate.rows import BlockResult, View
from preprocessing.dataset.labels import Classes

PER_CLASS: Final = "per_class.parquet"
CONFUSION: Final = "confusion.parquet"
PREDICTIONS: Final = "predictions.parquet"


def predictions_table(result: BlockResult) -> pa.Table:
    """One row an image, in the order of the split: enough to compare and combine networks.

    `<view>_pred` is the best class, `<view>_top5` the five best (or all, where there are fewer),
    best first, `<view>_rank` how many classes stand before the true one, all of the exact scores;
    `<view>_probabilities` are float16.
    """
    columns: dict[str, Any] = {"sample_id": result.sample_ids, "label": result.labels}
    for view, rows in result.views.items():
        columns[f"{view}_pred"] = rows.predicted
        columns[f"{view}_top5"] = _lists(rows.top5)
        columns[f"{view}_rank"] = rows.rank
        columns[f"{view}_probabilities"] = _lists(rows.probabilities)
    return pa.table(columns)


def _lists(rows: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def per_class_table(counts: Mapping[View, Counts], classes: Classes) -> pa.Table:
    """One row a class, in label order: how many images, and how many were right."""
    columns: dict[str, Any] = {
        "label": pa.array([entry.label for entry in classes.classes], pa.int64()),
        "wnid": [entry.wnid for entry in classes.classes],
        "name": list(classes.names),
        "count": counts["center"].class_counts,
    }
    for view, sums in counts.items():
        columns[f"{view}_correct1"] = sums.class_correct1
        columns[f"{view}_correct5"] = sums.class_correct5
    return pa.table(columns)


def confusion_table(counts: Mapping[View, Counts]) -> pa.Table:
    """One row a pair (true, predicted) that occurs in any view."""
    occurs = np.sum([sums.confusion for sums in counts.values()], axis=0)
    true, predicted = np.nonzero(occurs)
    columns = {"true": true, "predicted": predicted}
    for view, sums in counts.items():
        columns[f"{view}_count"] = sums.confusion[true, predicted]
    return pa.table(columns)
