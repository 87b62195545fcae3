"""`alexnet export`: a trained network as plain files."""

from typing import Annotated

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import JsonOption, ModelArgument, TrackingOption, WorkspaceOption


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    model: ModelArgument,
    output: Annotated[
        str, typer.Option("--output", metavar="FOLDER", help="Where the files are written.")
    ],
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trained network as safetensors and JSON, and check that it answers as before."""
    from pipelines import api
    from pipelines.output import print_fields

    with interruptible("without its model.json a folder holds no model"):
        found = api.export(model, output=output, workspace=workspace, tracking_uri=tracking_uri)
    print_fields(found, as_json=as_json)
