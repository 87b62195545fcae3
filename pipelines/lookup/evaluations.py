"""An evaluation by what people call it, and what it kept of each image."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alexnet.evaluate.evaluation import (
    RECEIPT,
    Accuracy,
    Evaluation,
    open_evaluation,
    read_predictions,
)
from alexnet.evaluate.interval import interval_95
from alexnet.evaluate.rows import View
from infra.errors import DataError
from infra.store import ObjectStore, open_store
from pipelines.lookup.runs import evaluations_of, find_run

_HOW: Final = "name an evaluation's `uri`, or a training that `alexnet runs` lists with a top-1"

Top5 = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]
"""Sample ids, (n,), and the five best labels of each image, (n, 5), best first."""


@dataclass(frozen=True, slots=True)
class Found:
    """A committed evaluation that has a view, and where it lies."""

    store: ObjectStore
    evaluation: Evaluation
    view: View

    @property
    def accuracy(self) -> Accuracy:
        """What the view gave over all images."""
        return self.evaluation.views[self.view]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What an evaluation kept of each image in one view, in the order of the split."""

    sample_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float16]
    """(n, classes)."""


def find_evaluation(name: str, *, workspace: str, view: View) -> Found:
    """Find an evaluation by its folder, or a training's by the training's folder or name.

    Raises:
        DataError: there is none, it has no such view, or what it names is not there.
        RecipeError: several trainings have such a name.
    """
    if "/" in name and (store := open_store(name)).stat(RECEIPT) is not None:
        found = [(store, open_evaluation(store))]
    else:
        found = evaluations_of(_run(name, workspace))
    if not found:
        raise DataError(f"the training {name} has not been evaluated", remedy=_HOW)
    for store, evaluation in found:
        if view in evaluation.views:
            return Found(store, open_evaluation(store), view)
    raise DataError(
        f"the evaluation of {name} has no view {view}, only {', '.join(found[0][1].views)}",
        remedy=f"evaluate with evaluate.{view}=true, or choose another --view",
    )


def _run(name: str, workspace: str) -> ObjectStore:
    try:
        return find_run(name, workspace)
    except DataError as error:
        raise DataError(
            f"{name!r} is no evaluation, and no training of the workspace {workspace}", remedy=_HOW
        ) from error


def accuracy_fields(accuracy: Accuracy, count: int) -> dict[str, Any]:
    """Describe counts as `evaluate --json` does, with the 95 % intervals of the two shares."""
    return {
        **accuracy.model_dump(mode="json"),
        "count": count,
        "top1_interval": list(interval_95(accuracy.correct1, count)),
        "top5_interval": list(interval_95(accuracy.correct5, count)),
    }


def read_kept(found: Found) -> Kept:
    """Read an evaluation's predictions, digest checked.

    Raises:
        ObjectCorrupt: other bytes than the evaluation names.
    """
    column = f"{found.view}_probabilities"
    table = read_predictions(found.store, found.evaluation, ["sample_id", "label", column])
    return Kept(
        sample_ids=table["sample_id"].to_numpy(),
        labels=table["label"].to_numpy(),
        probabilities=_rows(table[column]),
    )


def read_top5(found: Found) -> Top5:
    """Read the sample ids, (n,), and the five best labels of each image, (n, 5), best first.

    Raises:
        DataError: it is of a version that kept only the best one.
        ObjectCorrupt: other bytes than the evaluation names.
    """
    column = f"{found.view}_top5"
    table = read_predictions(found.store, found.evaluation, ["sample_id", column])
    if column not in table.column_names:
        raise DataError(
            f"{found.store.uri} kept probabilities that are rounded, and not the five best classes",
            remedy="evaluate again with this version, `alexnet evaluate RECIPE`",
        )
    return top5_of(table, found.view)


def top5_of(table: pa.Table, view: View) -> Top5:
    """Take sample ids, (n,), and the five best labels of a view, (n, 5), out of predictions."""
    return table["sample_id"].to_numpy(), _rows(table[f"{view}_top5"])


def _rows(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    lists = column.combine_chunks()
    flat: npt.NDArray[Any] = lists.values.to_numpy(zero_copy_only=False)
    return flat.reshape(len(lists), lists.type.list_size)
