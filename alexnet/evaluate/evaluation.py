"""The receipt of an evaluation: which images, which weights, how many were right."""

from typing import Literal

import pyarrow as pa

from alexnet.evaluate.counts import Counts
from alexnet.evaluate.rows import View
from infra.canonical import canonical_json, digest_of
from infra.commit import (
    Frozen,
    Sha256,
    StoredObject,
    check_listing,
    parse_receipt,
    read_object,
    read_receipt,
)
from infra.errors import DataError
from infra.parquet import read_parquet
from infra.store import ObjectStore
from preprocessing.dataset.manifest import Manifest

RECEIPT = "evaluation.json"


class Accuracy(Frozen):
    """What one view gave over all images."""

    top1: float
    """Fraction in 0..1."""
    top5: float
    correct1: int
    correct5: int
    loss: float
    """Mean of -ln p over the images."""


class Evaluation(Frozen):
    """One network on one set of images; objects' paths are relative to the receipt's folder."""

    schema_version: Literal[1] = 1
    key: str
    dataset_fingerprint: str
    validation_digest: Sha256
    """Same digest, same images with the same labels: `validation_digest`."""
    classes_digest: Sha256
    checkpoint_digest: Sha256
    """Of the weights."""
    step: int
    count: int
    center: Accuracy
    ten_crop: Accuracy | None
    nine_crop: Accuracy | None = None
    per_class: StoredObject
    confusion: StoredObject
    predictions: StoredObject

    @property
    def views(self) -> dict[View, Accuracy]:
        """What each view gave that was evaluated, the centre first."""
        found: dict[View, Accuracy | None] = {
            "center": self.center,
            "ten_crop": self.ten_crop,
            "nine_crop": self.nine_crop,
        }
        return {view: accuracy for view, accuracy in found.items() if accuracy is not None}

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """Every object the receipt vouches for."""
        return (self.per_class, self.confusion, self.predictions)

    def to_bytes(self) -> bytes:
        """Write as canonical JSON; later steps' keys hold its digest.

        Nine crops are left out where there are none: so were those of before there were any.
        """
        left_out = {"nine_crop"} if self.nine_crop is None else set()
        return canonical_json(self.model_dump(mode="json", exclude=left_out))


def accuracy_of(counts: Counts) -> Accuracy:
    """Turn sums over at least one image into fractions."""
    return Accuracy(
        top1=counts.correct1 / counts.count,
        top5=counts.correct5 / counts.count,
        correct1=counts.correct1,
        correct5=counts.correct5,
        loss=counts.loss_sum / counts.count,
    )


def validation_digest(manifest: Manifest) -> str:
    """Hex SHA-256 of the validation shards and the classes.

    Two evaluations with the same one can be compared image by image.
    """
    shards = [shard.sha256 for shard in manifest.val.shards]
    return digest_of({"classes": manifest.classes.sha256, "val": shards})


def read_evaluation(store: ObjectStore) -> Evaluation | None:
    """Read the receipt at a store, or None when there is none.

    Raises:
        ObjectCorrupt: it cannot be understood.
    """
    body = read_receipt(store, RECEIPT)
    if body is None:
        return None
    remedy = f"delete {store.uri} and evaluate again"
    return parse_receipt(Evaluation, body, f"{store.uri}/{RECEIPT}", remedy=remedy)


def open_evaluation(store: ObjectStore) -> Evaluation:
    """Read the receipt and check by one listing that all it names is there.

    Raises:
        DataError: there is none, or it cannot be understood.
        ObjectCorrupt: an object is missing or has another size.
    """
    evaluation = read_evaluation(store)
    if evaluation is None:
        raise DataError(
            f"{store.uri} holds no {RECEIPT}",
            remedy="name the folder of an evaluation, or run `alexnet evaluate`",
        )
    check_listing(store, evaluation.objects)
    return evaluation


def read_predictions(
    store: ObjectStore, evaluation: Evaluation, columns: list[str] | None = None
) -> pa.Table:
    """Read what was kept of each image, digest checked; columns as `tables.predictions_table`."""
    return read_parquet(read_object(store, evaluation.predictions), columns)
