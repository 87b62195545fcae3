"""`alexnet validate`: a trained network on the validation images of any dataset."""

from typing import Annotated

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import (
    JsonOption,
    ModelArgument,
    TrackingOption,
    ViewOption,
    WorkspaceOption,
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(validate)


def validate(
    model: ModelArgument,
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A dataset's folder or s3:// URI.")
    ],
    view: ViewOption = "center",
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count what a trained network gets right of a dataset's validation images."""
    from pipelines import api
    from pipelines.output import print_validation

    with interruptible("nothing was committed"):
        found = api.validate(
            model, dataset, view=view, workspace=workspace, tracking_uri=tracking_uri
        )
    print_validation(found, as_json=as_json)
