"""A trial before registering: the model, loaded elsewhere, answers as its evaluation did."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alexnet.evaluate.blocks import Block, BlockReader, RowRange, StoredRows, plan_blocks
from alexnet.evaluate.rows import VIEW_NAMES, View
from alexnet.release.errors import ModelNotServable
from infra.store import ObjectStore
from infra.temporary import temporary_folder
from infra.tracking.place import without_credentials
from preprocessing.dataset.manifest import Manifest

NUM_IMAGES: Final = 16
TOLERANCE: Final = 0.01
"""Of a probability: float16 in the predictions, and other hardware, stay well below it."""
TIMEOUT_S: Final = 600.0
STDERR_CHARACTERS: Final = 2000
"""Of what the fresh process says last, so many are told."""

Answers = dict[str, dict[str, list[Any]]]


def try_model(
    model_uri: str,
    tracking_uri: str,
    *,
    dataset: ObjectStore,
    manifest: Manifest,
    predictions: pa.Table,
) -> None:
    """Load a model in a fresh process and hold its answers against an evaluation.

    Args:
        model_uri: "models:/…".
        tracking_uri: MLflow's.
        dataset: the evaluation's dataset.
        manifest: its manifest; the first images of the val split are tried.
        predictions: the evaluation's, `alexnet.evaluate.evaluation.read_predictions`.

    Raises:
        ModelNotServable: it cannot be loaded, or answers otherwise.
        ServiceError: there is no room for the images that are tried.
    """
    rows = _first_rows(dataset, manifest)
    views = [view for view in VIEW_NAMES if f"{view}_probabilities" in predictions.column_names]
    answers = _answers(model_uri, tracking_uri, rows, views)
    for answer, view in [*zip(views, views, strict=True), ("center_of_arrays", "center")]:
        expected = _probabilities(predictions, view, len(rows.labels))
        check_answers(answer, answers[answer], expected)


def check_answers(
    what: str, answers: dict[str, list[Any]], expected: npt.NDArray[np.float64]
) -> None:
    """Compare best classes and their probabilities with those expected, (n, classes).

    Raises:
        ModelNotServable: they differ by more than TOLERANCE.
    """
    found = np.asarray(answers["probability"], np.float64)
    theirs = expected[np.arange(len(expected)), np.asarray(answers["label"], np.int64)]
    # Near a tie either class may come out best; its probability must be right all the same.
    difference = np.maximum(abs(found - theirs), abs(found - expected.max(axis=1)))
    worst = int(difference.argmax())
    if not difference[worst] <= TOLERANCE:
        raise ModelNotServable(
            f"the logged model's {what} answer for validation image {worst} has probability "
            f"{found[worst]:.4f}, its evaluation {expected[worst].max():.4f}",
            remedy="report this: prediction and evaluation must share their code",
        )


def _first_rows(dataset: ObjectStore, manifest: Manifest) -> StoredRows:
    first = plan_blocks(manifest.val)[0].ranges[0]
    stop = min(first.stop, NUM_IMAGES)
    reader = BlockReader(dataset, manifest)
    try:
        return reader.read(Block((RowRange(first.shard, 0, stop),)))
    finally:
        reader.close()


def _answers(model_uri: str, tracking_uri: str, rows: StoredRows, views: Sequence[View]) -> Answers:
    jpegs = {f"jpeg-{i}": jpeg for i, jpeg in enumerate(rows.encoded)}
    with temporary_folder("alexnet-trial-") as folder:
        np.savez(
            folder / "images.npz",
            allow_pickle=False,
            pixels=rows.decode(),
            views=np.array(views),
            **jpegs,
        )
        _run_fresh(model_uri, tracking_uri, folder)
        return json.loads((folder / "answers.json").read_text("utf-8"))


def _run_fresh(model_uri: str, tracking_uri: str, folder: Path) -> None:
    script = Path(__file__).with_name("score.py")
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_REGISTRY_URI": tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    try:
        # -P: the script's folder stays off the path, its neighbours are no top-level modules.
        done = subprocess.run(
            [sys.executable, "-P", str(script), model_uri, str(folder)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(model_uri, f"gave no answer within {TIMEOUT_S:.0f} s") from error
    if done.returncode:
        # Before it is cut: of half a URI nobody knows what is its password.
        raise _failed(
            model_uri, f"failed:\n{without_credentials(done.stderr)[-STDERR_CHARACTERS:]}"
        )


def _failed(model_uri: str, what: str) -> ModelNotServable:
    return ModelNotServable(
        f"{model_uri}, loaded in a fresh process, {what}",
        remedy="see the reason above; nothing was registered, so run again when it is mended",
    )


def _probabilities(predictions: pa.Table, view: str, count: int) -> npt.NDArray[np.float64]:
    column = predictions.column(f"{view}_probabilities").slice(0, count).combine_chunks()
    return column.flatten().to_numpy().astype(np.float64).reshape(count, -1)
