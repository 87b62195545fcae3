"""What the commands do, for Python: the same work, returned instead of printed.

Heavy libraries are imported when a function needs them, as on the command line.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.defaults import folder_overrides, tracking_or_environment, workspace_or_default

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.prediction import Predictions
    from pipelines.recipe import Recipe


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> "Recipe":
    """Read a shipped recipe or a YAML file, with `key.path=value` overrides, and check it.

    Raises:
        RecipeError: no such recipe, or something in it is wrong.
    """
    from pipelines.recipe_yaml import load_recipe

    return load_recipe(name_or_file, overrides)


def run(
    recipe: "str | Recipe",
    overrides: Sequence[str] = (),
    *,
    until: str = "report",
    from_folder: str | None = None,
    workspace: str | None = None,
    tracking_uri: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run the workflow up to a step; what already holds is not done again.

    A refusal by the gate is a result here: `verdict` is "refused".

    Args:
        recipe: a shipped recipe's name, a YAML file, or what `load_recipe` returned.
        overrides: `key.path=value`, for a recipe that is given by name.
        until: prepare, train, evaluate, gate, register or report.
        from_folder: a folder per class, instead of the recipe's archives.
        workspace: holds everything made; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.
        dry_run: only look which steps hold.

    Returns:
        What `alexnet run --json` prints.

    Raises:
        ProjectError: any deliberate failure.
    """
    overrides = [*folder_overrides(from_folder), *overrides]
    resolved = load_recipe(recipe, overrides) if isinstance(recipe, str) else recipe
    from pipelines.command import bring_about
    from pipelines.output import run_fields

    if tracking_uri is None and resolved.tracking.use_environment:
        tracking_uri = tracking_or_environment(None)
    outcomes, _ = bring_about(
        resolved,
        until,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_uri,
        dry_run=dry_run,
    )
    return run_fields(outcomes)


def predict(
    model: str,
    images: str | Sequence[str],
    *,
    ten_crop: bool = False,
    output: str | None = None,
    workspace: str | None = None,
    tracking_uri: str | None = None,
) -> "pa.Table":
    """Let a model answer for images: a row an image, also for those that are none.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's folder, or a run's name.
        images: files, folders, Parquet files or datasets.
        ten_crop: average over ten crops, ten times slower and somewhat better.
        output: also write a .parquet or .csv file.
        workspace: where the model is looked for; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Returns:
        Columns path, label, wnid, name, probability, top5_labels, top5_wnids, top5_names,
        top5_probabilities, reason; `reason` is null unless the file is no image.

    Raises:
        InputRejected: a path that is not there, or none is an image.
        ProjectError: any other deliberate failure.
    """
    return predictions(
        model,
        [images] if isinstance(images, str) else list(images),
        ten_crop=ten_crop,
        output=output,
        workspace=workspace,
        tracking_uri=tracking_uri,
    ).table


def predictions(
    model: str,
    images: Sequence[str],
    *,
    ten_crop: bool,
    output: str | None,
    workspace: str | None,
    tracking_uri: str | None,
) -> "Predictions":
    """Do what `predict` does, for the command line, which describes the model too."""
    from pipelines.prediction import predict_images

    return predict_images(
        model,
        images,
        view="ten_crop" if ten_crop else "center",
        output=output,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    )


def features(
    model: str,
    images: str | Sequence[str],
    *,
    output: str,
    layer: str | None = None,
    split: str = "val",
    workspace: str | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Write what a layer makes of images to a Parquet file: a row an image that is one.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's folder, or a run's name.
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
    from pipelines.extraction import extract_features

    return extract_features(
        model,
        [images] if isinstance(images, str) else list(images),
        output=output,
        layer=layer,
        split=split,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    ).fields()


def similar(
    model: str,
    images: str | Sequence[str],
    *,
    among: str,
    count: int = 6,
    output: str | None = None,
    picture: str | None = None,
    layer: str | None = None,
    workspace: str | None = None,
    tracking_uri: str | None = None,
) -> "pa.Table":
    """Find each image's nearest ones by Euclidean distance of their features, exactly.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's folder, or a run's name.
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
    from pipelines.similarity import find_similar

    return find_similar(
        model,
        [images] if isinstance(images, str) else list(images),
        among=among,
        count=count,
        output=output,
        picture=picture,
        layer=layer,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    ).table


def inspect(
    uri: str, *, workspace: str | None = None, tracking_uri: str | None = None
) -> dict[str, Any]:
    """Say what a dataset, run, checkpoint, evaluation or model is, as `alexnet inspect --json`.

    Raises:
        DataError: there is nothing of ours.
    """
    from pipelines.inspection import inspect_uri

    return inspect_uri(
        uri,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
    )


def list_runs(*, workspace: str | None = None) -> list[dict[str, Any]]:
    """Describe the trainings of a workspace, newest first, as `alexnet runs --json`."""
    from pipelines.runs import list_runs

    return list_runs(workspace_or_default(workspace))


def compare_runs(
    names: Sequence[str], *, workspace: str | None = None, tracking_uri: str | None = None
) -> dict[str, Any]:
    """Hold two or more trainings side by side, as `alexnet runs compare --json`.

    Raises:
        DataError: there is no such training.
        RecipeError: a name may be several, or there are fewer than two.
    """
    from pipelines.runs import compare_runs

    return compare_runs(
        names,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
    )


def ensemble(
    evaluations: Sequence[str],
    *,
    weights: str | None = None,
    search: bool = False,
    view: str = "center",
    output: str | None = None,
    workspace: str | None = None,
) -> dict[str, Any]:
    """Average several networks' probabilities on the same images, as `alexnet ensemble --json`.

    Args:
        evaluations: folders of evaluations, or trainings.
        weights: one each, "0.3,0.7"; by default equal ones.
        search: search them instead, by the error at 5.
        view: center, ten_crop or nine_crop.
        output: also write the average, a .parquet file like an evaluation's predictions.
        workspace: where trainings are looked for; by default as on the command line.

    Raises:
        RecipeError: the evaluations are of different images, or weights or view are wrong.
        DataError: there is no such evaluation.
    """
    from pipelines.ensembles import combine_evaluations

    return combine_evaluations(
        evaluations,
        weights=weights,
        search=search,
        view=view,
        output=output,
        workspace=workspace_or_default(workspace),
    )


def submission(
    what: str,
    images: Sequence[str] = (),
    *,
    devkit: str | None = None,
    output: str | None = None,
    truth: str | None = None,
    view: str = "center",
    workspace: str | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Write or check ILSVRC's file of answers, five ids an image, as `alexnet submission --json`.

    Args:
        what: a model, if images are named; else an evaluation; without an output a file to check.
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
    from pipelines.submissions import submit

    return submit(
        what,
        images,
        devkit=devkit,
        output=output,
        truth=truth,
        view=view,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    )


def check_gradients(network: str, layers: Sequence[str] = ()) -> dict[str, Any]:
    """Hold a network's gradients against finite differences, as `alexnet check-gradients --json`.

    Args:
        network: a network's name, a recipe's, or a YAML file.
        layers: those to check; by default all that have weights.

    Raises:
        RecipeError: there is no such network or layer.
    """
    from pipelines.gradients import check_network

    return check_network(network, layers, sys.stderr)
