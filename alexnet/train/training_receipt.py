"""The receipt of a training: which checkpoint is its end."""

from alexnet.train.checkpoint import MADE_AGAIN, CheckpointReceipt, open_checkpoint
from infra.commit import (
    Frozen,
    Sha256,
    check_listing,
    commit_receipt,
    parse_receipt,
    read_receipt,
)
from infra.errors import DataError, ObjectCorrupt
from infra.store import ObjectStore

FINISHED = "finished.json"


class TrainingReceipt(Frozen):
    """A finished training."""

    run_key: str
    step: int
    """Updates made in all."""
    checkpoint: str
    """Folder of the last checkpoint, relative to the run's."""
    model_sha256: Sha256


def commit_training(run: ObjectStore, run_key: str, last: CheckpointReceipt) -> TrainingReceipt:
    """Say that a training is finished, with this checkpoint."""
    receipt = TrainingReceipt(
        run_key=run_key,
        step=last.step,
        checkpoint=last.folder,
        model_sha256=last.evaluated_weights.sha256,
    )
    body = commit_receipt(run, FINISHED, receipt.to_bytes())
    return parse_receipt(TrainingReceipt, body, f"{run.uri}/{FINISHED}")


def read_training(run: ObjectStore) -> TrainingReceipt | None:
    """Read the receipt of a finished training whose last checkpoint is whole; None otherwise.

    Raises:
        ObjectCorrupt: it is cut, or the checkpoint is gone, lacks an object or has one of another
            size.
    """
    receipt = read_finished(run)
    if receipt is None:
        return None
    store = run.child(receipt.checkpoint)
    try:
        checkpoint, _ = open_checkpoint(store)
        check_listing(store, checkpoint.objects)
    except DataError as error:
        raise ObjectCorrupt(error.problem, remedy=MADE_AGAIN) from error
    return receipt


def read_finished(run: ObjectStore) -> TrainingReceipt | None:
    """Read the receipt of a training, whatever became of its checkpoint; None while it is at work.

    Raises:
        ObjectCorrupt: it is cut.
    """
    body = read_receipt(run, FINISHED)
    return None if body is None else parse_receipt(TrainingReceipt, body, f"{run.uri}/{FINISHED}")
