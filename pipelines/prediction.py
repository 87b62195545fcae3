"""`alexnet predict`: a model answers for images; the answers are printed or written."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import IO, Any, Final

import pyarrow as pa

from alexnet.evaluate.rows import View
from alexnet.evaluate.trained import TrainedNetwork
from alexnet.release.bulk import ANSWERS, BulkPredictor
from alexnet.release.errors import InputRejected
from alexnet.release.inputs import Piece, find_pieces
from alexnet.release.package import copy_package, open_package
from infra.nodes import check_nodes_see, check_nodes_share
from infra.progress import StatusLine
from infra.ray_runtime import LOCAL, cluster_address, ray_session
from infra.store import ObjectStore, open_store
from pipelines.context import refuse_relative_in_a_job
from pipelines.inspection import MODELS
from pipelines.models import open_model
from pipelines.prediction_file import check_output, predictions_table, write_predictions
from preprocessing.dataset.labels import Classes

MANY: Final = 1024
"""Views from which on Ray is started. That takes ten seconds on two cores, and saves half of the 20
ms that a view takes one core with the network of 2012: at a thousand views it breaks even."""
_CROPS: Final[dict[View, int]] = {"center": 1, "ten_crop": 10, "nine_crop": 9}
_TOLD: Final = 5
"""Of files that are no images, when none is one."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model answered for each image, in the order in which they were named."""

    model: str
    """URI of the registered version or of the checkpoint."""
    step: int
    view: View
    classes: Classes
    answers: pa.Table
    """Of `alexnet.release.bulk.ANSWERS`."""
    output: str | None
    """Where they were written, if they were."""

    @property
    def table(self) -> pa.Table:
        """The answers with names, as they are written to Parquet."""
        return predictions_table(self.answers, self.classes)

    def fields(self) -> dict[str, Any]:
        """Describe them as `predict --json` does."""
        good: list[dict[str, Any]] = []
        rejected: list[dict[str, str]] = []
        for path, labels, probabilities, reason in _rows(self.answers):
            if reason is None:
                good.append({"path": path, "top": self._top(labels, probabilities)})
            else:
                rejected.append({"path": path, "reason": reason})
        return {
            "model": self.model,
            "global_step": self.step,
            "view": self.view,
            "output": self.output,
            "count": len(good),
            "num_rejected": len(rejected),
            "predictions": good,
            "rejected": rejected,
        }

    def _top(self, labels: list[int], probabilities: list[float]) -> list[dict[str, Any]]:
        return [
            {**self.classes.classes[label].model_dump(), "probability": probability}
            for label, probability in zip(labels, probabilities, strict=True)
        ]


def predict_images(
    model: str,
    images: Sequence[str],
    *,
    view: View,
    output: str | None,
    workspace: str,
    tracking_uri: str | None,
    stream: IO[str],
) -> Predictions:
    """Let a model answer for images; what is no image is listed and does not stop the others.

    Args:
        model: as `pipelines.models.open_model` takes it.
        images: files, folders, Parquet files, datasets (their validation split); paths or URIs.
        view: the centre alone, or an average over crops.
        output: a .parquet or .csv file to write, a path or a URI.
        workspace: where the model is looked for.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.
        stream: gets the progress.

    Raises:
        RecipeError: the output has another suffix, or several runs have the model's name.
        InputRejected: a path that is not there, or none is an image.
        DataError: there is no such model, or it is damaged.
        ServiceError: a place, MLflow or Ray is away.
    """
    refuse_relative_in_a_job("the workspace", workspace)
    if output is not None:
        refuse_relative_in_a_job("--output", output)
        check_output(output)
    pieces = find_pieces(images)
    # Ray and MLflow print now and then; standard output holds the result and nothing else.
    with (
        redirect_stdout(stream),
        open_model(model, workspace=workspace, tracking_uri=tracking_uri) as (uri, trained),
    ):
        classes = trained.load_classes()
        answers = _answer(uri, trained, pieces, view, open_store(workspace), stream)
    _refuse_if_none(answers)
    predictions = Predictions(uri, trained.step, view, classes, answers, output)
    if output is not None:
        write_predictions(predictions.table, output)
    return predictions


def _rows(answers: pa.Table) -> Iterator[tuple[Any, ...]]:
    for batch in answers.to_batches():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _answer(
    uri: str,
    trained: TrainedNetwork,
    pieces: Sequence[Piece],
    view: View,
    workspace: ObjectStore,
    stream: IO[str],
) -> pa.Table:
    total = sum(piece.count for piece in pieces)
    progress, tables, done = StatusLine("predict", stream), [ANSWERS.empty_table()], 0
    try:
        with _tables(uri, trained, pieces, view, workspace, stream) as answers:
            for table in answers:
                tables.append(table)
                done += len(table)
                progress(done, total)
    finally:
        progress.close()
    return pa.concat_tables(tables)


@contextmanager
def _tables(
    uri: str,
    trained: TrainedNetwork,
    pieces: Sequence[Piece],
    view: View,
    workspace: ObjectStore,
    stream: IO[str],
) -> Iterator[Iterator[pa.Table]]:
    """Give the block its answers: from this process for a few images, from Ray for many."""
    num_views = sum(piece.count for piece in pieces) * _CROPS[view]
    if num_views < MANY:
        num_threads = max(1, (os.cpu_count() or 1) - 1)
        yield BulkPredictor(trained, view, num_threads=num_threads).answer(pieces)
        return
    from alexnet.release.predict_many import predict_many

    address = cluster_address()
    stream.write("starting Ray\n" if address == LOCAL else f"joining Ray at {address}\n")
    with ray_session():
        if address != LOCAL:
            trained = _visible(uri, trained, workspace)
            _check_nodes_see(trained, pieces)
        yield predict_many(trained, pieces, view)


def _visible(uri: str, trained: TrainedNetwork, workspace: ObjectStore) -> TrainedNetwork:
    """Put a downloaded model where the workers of all nodes see it."""
    if not uri.startswith(MODELS):
        return trained
    check_nodes_share(workspace)
    return open_package(copy_package(trained.weights.store, workspace.child("models")))


def _check_nodes_see(trained: TrainedNetwork, pieces: Sequence[Piece]) -> None:
    check_nodes_see(trained.weights.store, trained.weights.item.path)
    firsts = {piece.store.uri: piece for piece in reversed(pieces) if not piece.refused}
    for piece in firsts.values():
        check_nodes_see(piece.store, piece.key)


def _refuse_if_none(answers: pa.Table) -> None:
    if answers["reason"].null_count:
        return
    told = [f"{path} ({reason})" for path, _, _, reason in _rows(answers.slice(0, _TOLD))]
    more = f" and {len(answers) - _TOLD:,} more" if len(answers) > _TOLD else ""
    raise InputRejected(
        f"none of {len(answers):,} files is an image: {', '.join(told)}{more}"
        if told
        else "there are no images in what was named",
        remedy="name JPEG, PNG, GIF, BMP, WebP, TIFF or PPM files, or folders or Parquet of them",
    )
