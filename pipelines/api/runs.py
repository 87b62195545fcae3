"""What a workspace holds and what it is worth, for Python."""

import sys
from collections.abc import Sequence
from typing import Any

from pipelines.defaults import StrPath, as_text, tracking_or_environment, workspace_or_default


def inspect(
    uri: StrPath, *, workspace: StrPath | None = None, tracking_uri: str | None = None
) -> dict[str, Any]:
    """Say what a dataset, run, checkpoint, evaluation or model is, as `alexnet inspect --json`.

    Args:
        uri: a folder that a step made, `models:/NAME@ALIAS`, or a run by name.
        workspace: where runs and models are looked for; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Raises:
        DataError: there is nothing of ours.
    """
    from pipelines.lookup.inspection import inspect_uri

    return inspect_uri(
        as_text(uri),
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
    )


def list_runs(*, workspace: StrPath | None = None) -> list[dict[str, Any]]:
    """Describe the trainings of a workspace, newest first, as `alexnet runs --json`."""
    from pipelines.lookup.runs import list_runs

    return list_runs(workspace_or_default(workspace))


def compare_runs(
    names: Sequence[StrPath], *, workspace: StrPath | None = None, tracking_uri: str | None = None
) -> dict[str, Any]:
    """Hold two or more trainings side by side, as `alexnet runs compare --json`.

    Raises:
        DataError: there is no such training.
        RecipeError: a name may be several, or there are fewer than two.
    """
    from pipelines.lookup.comparison import compare_runs

    return compare_runs(
        [as_text(name) for name in names],
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
    )


def ensemble(
    evaluations: Sequence[StrPath],
    *,
    weights: Sequence[float | str] | str | None = None,
    search: bool = False,
    view: str = "center",
    output: StrPath | None = None,
    workspace: StrPath | None = None,
) -> dict[str, Any]:
    """Average several networks' probabilities on the same images, as `alexnet ensemble --json`.

    Args:
        evaluations: folders of evaluations, or trainings.
        weights: one each, [0.3, 0.7] or "1/3,2/3"; by default equal ones.
        search: search them instead, by the error at 5.
        view: center, ten_crop or nine_crop.
        output: also write the average, a .parquet file like an evaluation's predictions.
        workspace: where trainings are looked for; by default as on the command line.

    Raises:
        RecipeError: the evaluations are of different images, or weights or view are wrong.
        DataError: there is no such evaluation.
    """
    from pipelines.inference.ensembles import combine_evaluations

    return combine_evaluations(
        [as_text(name) for name in evaluations],
        weights=weights.split(",") if isinstance(weights, str) else weights,
        search=search,
        view=view,
        output=as_text(output),
        workspace=workspace_or_default(workspace),
    )


def check_gradients(network: StrPath, layers: Sequence[str] = ()) -> dict[str, Any]:
    """Hold a network's gradients against finite differences, as `alexnet check-gradients --json`.

    Args:
        network: a network's name, a recipe's, or a YAML file.
        layers: those to check; by default all that have weights.

    Raises:
        RecipeError: there is no such network or layer.
    """
    from pipelines.gradients import check_gradients_of

    return check_gradients_of(as_text(network), layers, sys.stderr)
