"""What a trained network makes of images, for Python. Paths may be `pathlib.Path`s."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.defaults import StrPath, as_text, tracking_or_environment, workspace_or_default

if TYPE_CHECKING:
    import pyarrow as pa


def predict(
    model: StrPath,
    images: StrPath | Sequence[StrPath],
    *,
    view: str = "center",
    output: StrPath | None = None,
    all_probabilities: bool = False,
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
) -> "pa.Table":
    """Let a model answer for images: a row an image, also for those that are none.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's or an export's folder, or a run.
        images: files, folders, Parquet files or datasets.
        view: center; ten_crop, ten times slower and somewhat better; or nine_crop.
        output: also write a .parquet or .csv file.
        all_probabilities: also the probabilities of all classes, in the order of labels; not in a
            CSV.
        workspace: where the model is looked for; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Returns:
        Columns path, label, wnid, name, probability, top5_labels, top5_wnids, top5_names,
        top5_probabilities, reason; `reason` is null unless the file is no image. With
        `all_probabilities` a column of that name stands before it.

    Raises:
        RecipeError: there is no such view.
        InputRejected: a path that is not there, or none is an image.
        ProjectError: any other deliberate failure.
    """
    from pipelines.inference.prediction import predict_images

    return predict_images(
        as_text(model),
        _listed(images),
        view=view,
        output=as_text(output),
        all_probabilities=all_probabilities,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    ).table


def features(
    model: StrPath,
    images: StrPath | Sequence[StrPath],
    *,
    output: StrPath,
    layer: str | None = None,
    split: str = "val",
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Write what a layer makes of images to a Parquet file: a row an image that is one.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's or an export's folder, or a run.
        images: files, folders, Parquet files or datasets.
        output: a .parquet file: columns path, uri, row, label, features.
        layer: its name (docs/networks.md); none is the last hidden one, before dropout.
        split: of a dataset, train or val.
        workspace: where the model is looked for; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Returns:
        What `alexnet features --json` prints.

    Raises:
        RecipeError: there is no such layer; lists those there are.
        InputRejected: a path that is not there, or none is an image.
        ProjectError: any other deliberate failure.
    """
    from pipelines.inference.extraction import extract_features

    return extract_features(
        as_text(model),
        _listed(images),
        output=as_text(output),
        layer=layer,
        split=split,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    ).fields()


def similar(
    model: StrPath,
    images: StrPath | Sequence[StrPath],
    *,
    among: StrPath,
    count: int = 6,
    output: StrPath | None = None,
    picture: StrPath | None = None,
    layer: str | None = None,
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
) -> "pa.Table":
    """Find each image's nearest ones by Euclidean distance of their features, exactly.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's or an export's folder, or a run.
        images: files, folders, Parquet files or datasets.
        among: a dataset (its training split), images, or what `features` wrote.
        count: neighbours an image.
        output: also write a .parquet or .csv file.
        picture: also draw a .png file.
        layer: its name (docs/networks.md); none is the last hidden one, before dropout.
        workspace: where the model is looked for; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Returns:
        A row a neighbour: query, place (from 1), path, distance, label, uri, row.

    Raises:
        RecipeError: features of another model or layer.
        InputRejected: a path that is not there, or none is an image.
        ProjectError: any other deliberate failure.
    """
    from pipelines.inference.similarity import find_similar

    return find_similar(
        as_text(model),
        _listed(images),
        among=as_text(among),
        count=count,
        output=as_text(output),
        picture=as_text(picture),
        layer=layer,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    ).table


def figures(
    model: StrPath,
    images: StrPath | Sequence[StrPath] = (),
    *,
    output: StrPath,
    layer: str | None = None,
    among: StrPath | None = None,
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Draw what a network learned, sees and answers: PNGs in a folder.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's or an export's folder, or a run.
        images: files, folders, Parquet files or datasets; none are some of the validation images.
        output: the folder.
        layer: whose maps are drawn (docs/networks.md); none is the first.
        among: where neighbours are looked for: a dataset (its training split), images, or what
            `features` wrote; none is the validation split of what it was trained on.
        workspace: where the model, and what belongs to it, is looked for; by default as on the
            command line.
        tracking_uri: MLflow server; by default as on the command line.

    Returns:
        What `alexnet figures --json` prints.

    Raises:
        RecipeError: there is no such layer, or it has no maps.
        InputRejected: a path that is not there, or none is an image.
        ProjectError: any other deliberate failure.
    """
    from pipelines.inference.drawing import draw_figures

    return draw_figures(
        as_text(model),
        _listed(images),
        output=as_text(output),
        layer=layer,
        among=as_text(among),
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    )


def submission(
    what: StrPath,
    images: StrPath | Sequence[StrPath] = (),
    *,
    devkit: StrPath | None = None,
    output: StrPath | None = None,
    truth: StrPath | None = None,
    view: str = "center",
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Write or check ILSVRC's file of answers, five ids an image, as `alexnet submission --json`.

    Args:
        what: a model, if images are named; else an evaluation, or what `ensemble` wrote; without
            an output a file to check.
        images: folders or files, in the order of their names.
        devkit: the folder of the development kit's archive: it knows the ids.
        output: a .txt file to write.
        truth: a file of true ids to hold the answers against.
        view: center, ten_crop or nine_crop.
        workspace: where models and evaluations are looked for; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Raises:
        DataError: a class has no ILSVRC id, an image no line, or a file is not one of answers.
        ProjectError: any other deliberate failure.
    """
    from pipelines.inference.submissions import submit

    return submit(
        as_text(what),
        _listed(images),
        devkit=as_text(devkit),
        output=as_text(output),
        truth=as_text(truth),
        view=view,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    )


def _listed(images: StrPath | Sequence[StrPath]) -> list[str]:
    named = [images] if isinstance(images, (str, os.PathLike)) else images
    return [as_text(name) for name in named]
