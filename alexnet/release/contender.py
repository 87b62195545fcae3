"""From a committed evaluation to what the gate compares."""

import numpy as np

from alexnet.evaluate.evaluation import open_evaluation, read_predictions
from alexnet.release.gate import Contender
from infra.store import ObjectStore


def read_contender(store: ObjectStore, name: str) -> Contender:
    """Read an evaluation and which images it got right.

    Raises:
        DataError: there is no evaluation.
        ObjectCorrupt: its bytes are damaged.
    """
    evaluation = open_evaluation(store)
    rows = read_predictions(store, evaluation, ["sample_id", "label", "center_rank"])
    return Contender(
        name=name,
        evaluation=evaluation,
        sample_ids=rows["sample_id"].to_numpy(),
        labels=rows["label"].to_numpy(),
        correct=np.asarray(rows["center_rank"].to_numpy() == 0),
    )
