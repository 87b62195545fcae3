"""`alexnet submission`: five ILSVRC ids an image, written and checked."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import IO, Any, Final

import numpy as np

from alexnet.evaluate.interval import interval_95
from alexnet.evaluate.rows import View, view_called
from alexnet.evaluate.submission import (
    Ints,
    count_errors,
    ids_by_label,
    name_order,
    parse_submission,
    submission_text,
)
from infra.commit import read_object
from infra.errors import DataError, RecipeError
from infra.parquet import read_parquet
from infra.store import open_parent, open_store
from pipelines.context import refuse_relative_in_a_job
from pipelines.datasets import find_dataset
from pipelines.inference.ensemble_file import is_ensemble_file, read_ensemble
from pipelines.inference.output_files import check_output_file, write_output
from pipelines.inference.prediction import predict_images
from pipelines.lookup.evaluations import find_evaluation, read_top5
from pipelines.lookup.inspection import MODELS
from pipelines.lookup.runs import workspace_of
from preprocessing.dataset.labels import Classes, read_classes
from preprocessing.errors import DevkitMismatch
from preprocessing.sources.archives import DEVKIT_ARCHIVE
from preprocessing.sources.devkit import parse_ground_truth, read_ids

SUFFIXES: Final = (".txt",)
_TRUTH: Final = "name data/ILSVRC2012_validation_ground_truth.txt of the development kit"
_NOT_WRITTEN: Final = (
    "name a file of answers; add --output FILE and --devkit DIR to write one of a model or an"
    " evaluation first"
)


def submit(
    what: str,
    images: Sequence[str],
    *,
    devkit: str | None,
    output: str | None,
    truth: str | None,
    view: str,
    workspace: str,
    tracking_uri: str | None,
    stream: IO[str],
) -> dict[str, Any]:
    """Write a file of answers, check one, or both; returns what `submission --json` prints.

    Args:
        what: with images a model, as `open_model` takes it; without, an evaluation, as
            `find_evaluation` takes it, or a file of an ensemble; without `output` a file of
            answers, to be checked.
        images: files and folders; the lines are in the order of the files' names.
        devkit: the development kit's archive or its folder, path or URI; it knows the ids.
        output: a .txt file to write.
        truth: a file of true ids to hold the answers against, one a line.
        view: a name of `VIEW_NAMES`.
        workspace: where models and evaluations are looked for.
        tracking_uri: the MLflow server of a registered model, if not the workspace's own.
        stream: gets the progress.

    Raises:
        RecipeError: there is nothing to do, or an option is missing or wrong.
        DataError: an image or a class has no place in such a file, or a file is not one.
        ServiceError: a place, MLflow or Ray is away.
    """
    refuse_relative_in_a_job("the workspace", workspace)
    of_view = view_called(view)
    true_ids = None if truth is None else _read_truth(truth)
    if output is None:
        if true_ids is None or images:
            raise RecipeError(
                "nothing to write and nothing to check",
                remedy="give --output FILE, or a file of answers and --check TRUTH",
            )
        ids, where = parse_submission(_read(what, _NOT_WRITTEN), what), what
    else:
        check_output_file(output, SUFFIXES)
        known = _ids_of(devkit)
        if images:
            labels, classes = _answers(
                what, images, of_view, workspace=workspace, tracking_uri=tracking_uri, stream=stream
            )
        else:
            labels, classes = _evaluated(what, of_view, workspace)
        ids, where = ids_by_label(classes, known)[labels], output
    # Before anything is written: a file that does not fit its truth is wrong.
    checked = None if true_ids is None else _errors(ids, true_ids)
    if output is not None:
        write_output(output, submission_text(ids))
    return {"file": where, "count": len(ids), "errors": checked}


def _ids_of(devkit: str | None) -> dict[str, int]:
    if devkit is None:
        raise RecipeError(
            "which class has which ILSVRC2012_ID is only in the development kit",
            remedy=f"give --devkit, {DEVKIT_ARCHIVE} or its folder",
        )
    folder, name = open_parent(devkit)
    return read_ids(folder if name == DEVKIT_ARCHIVE else open_store(devkit))


def _evaluated(name: str, view: View, workspace: str) -> tuple[Ints, Classes]:
    """Return five labels an image of an evaluation or ensemble, in the order of images' names."""
    if name.startswith(MODELS):
        raise RecipeError(
            f"{name} is a model, and no images are named for it",
            remedy="name images after it, or an evaluation or a training in its place",
        )
    if is_ensemble_file(name):
        own, (fingerprint, (sample_ids, labels)) = workspace, read_ensemble(name, view)
    else:
        found = find_evaluation(name, workspace=workspace, view=view)
        own, fingerprint = workspace_of(found.store), found.evaluation.dataset_fingerprint
        sample_ids, labels = read_top5(found)
    dataset = find_dataset(fingerprint, (open_store(own), open_store(workspace)))
    if dataset is None:
        raise DataError(
            f"{name} is of dataset {fingerprint[:12]}, which is not in {own}",
            remedy="name the --workspace that has it: its members' names are needed",
        )
    store, manifest = dataset
    table = read_parquet(
        read_object(store, manifest.members), ["split", "sample_id", "member"]
    ).to_pydict()
    names = {
        sample_id: member
        for split, sample_id, member in zip(*table.values(), strict=True)
        if split == "val"
    }
    order = name_order([names[sample_id] for sample_id in sample_ids.tolist()])
    return labels[order].astype(np.int64), read_classes(store, manifest.classes)


def _answers(
    model: str,
    images: Sequence[str],
    view: View,
    *,
    workspace: str,
    tracking_uri: str | None,
    stream: IO[str],
) -> tuple[Ints, Classes]:
    """Return five labels an image of what a model answers, in the order of the images' names."""
    found = predict_images(
        model,
        images,
        view=view,
        output=None,
        workspace=workspace,
        tracking_uri=tracking_uri,
        stream=stream,
    )
    if rejected := found.rejected:
        path, reason = rejected[0]
        more = f", and {len(rejected) - 1:,} more are none" if len(rejected) > 1 else ""
        raise DataError(
            f"{path} is no image ({reason}){more}",
            remedy="every image needs a line: mend it, or take out of the folder what is none",
        )
    paths = found.answers["path"].to_pylist()
    order = name_order([PurePosixPath(path).name for path in paths])
    labels = np.array(found.answers["labels"].to_pylist(), np.int64)
    return labels[order], found.classes


def _read(uri: str, remedy: str) -> bytes:
    store, name = open_parent(uri)
    if not name or store.stat(name) is None:
        raise DataError(f"there is no file {uri}", remedy=remedy)
    return store.read(name)


def _read_truth(uri: str) -> Ints:
    body = _read(uri, "name one that is there")
    try:
        truth = parse_ground_truth(body, uri)
    except DevkitMismatch as error:
        raise DataError(f"{uri} is no list of ids, one a line", remedy=_TRUTH) from error
    if not len(truth) or truth.min() < 1:
        raise DataError(
            f"{uri} is no ground truth: it needs ids from 1 on, one a line", remedy=_TRUTH
        )
    return truth


def _errors(ids: Ints, truth: Ints) -> dict[str, Any]:
    found = count_errors(ids, truth)
    return {
        "wrong1": found.wrong1,
        "wrong5": found.wrong5,
        "error1": found.wrong1 / found.count,
        "error5": found.wrong5 / found.count,
        "error1_interval": list(interval_95(found.wrong1, found.count)),
        "error5_interval": list(interval_95(found.wrong5, found.count)),
    }
