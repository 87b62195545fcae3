"""A trained network as a whole, for Python: counted on a dataset, written as files."""

import sys
from typing import Any

from pipelines.defaults import StrPath, as_text, tracking_or_environment, workspace_or_default


def validate(
    model: StrPath,
    dataset: StrPath,
    *,
    view: str = "center",
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Count what a model gets right of a dataset's validation images, as `alexnet validate --json`.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's or an export's folder, or a run.
        dataset: its folder or URI; of the classes that the model was trained on.
        view: center; ten_crop or nine_crop beside it.
        workspace: where the model is looked for and the evaluation kept; by default as on the
            command line.
        tracking_uri: MLflow server; by default as on the command line.

    Raises:
        RecipeError: there is no such view, or the dataset has other classes.
        DataError: there is no such model or dataset.
        ProjectError: any other deliberate failure.
    """
    from pipelines.inference.validation import validate_model

    return validate_model(
        as_text(model),
        as_text(dataset),
        view=view,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    )


def export(
    model: StrPath,
    *,
    output: StrPath,
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Write a model as safetensors and JSON, and check it, as `alexnet export --json`.

    Args:
        model: `models:/NAME@ALIAS`, a checkpoint's or an export's folder, or a run.
        output: the folder; the other functions here take it for a model.
        workspace: where the model is looked for; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Raises:
        RecipeError: the folder holds another model.
        DataError: there is no such model, or it does not answer as before.
        ProjectError: any other deliberate failure.
    """
    from pipelines.inference.exporting import export_model

    return export_model(
        as_text(model),
        as_text(output),
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_or_environment(tracking_uri),
        stream=sys.stderr,
    )
