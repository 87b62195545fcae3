"""`alexnet predict`: a trained network answers for images."""

import sys
from typing import Annotated

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import (
    ImagesArgument,
    JsonOption,
    ModelArgument,
    TrackingOption,
    ViewOption,
    WorkspaceOption,
)
from pipelines.defaults import tracking_or_environment, workspace_or_default


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    model: ModelArgument,
    images: ImagesArgument,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="Write a .parquet or .csv file instead."),
    ] = None,
    all_probabilities: Annotated[
        bool,
        typer.Option(
            "--all-probabilities",
            help="Write the probabilities of all classes too, in the order of labels; needs"
            " --output FILE.parquet.",
        ),
    ] = False,
    view: ViewOption = "center",
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a trained network name what images show."""
    from pipelines.inference.prediction import predict_images
    from pipelines.output import print_predictions

    if all_probabilities and output is None:
        raise typer.BadParameter("needs --output FILE.parquet", param_hint="--all-probabilities")
    with interruptible("nothing was written"):
        found = predict_images(
            model,
            images,
            view=view,
            output=output,
            all_probabilities=all_probabilities,
            workspace=workspace_or_default(workspace),
            tracking_uri=tracking_or_environment(tracking_uri),
            stream=sys.stderr,
        )
    print_predictions(found.fields(), as_json=as_json)
