"""`alexnet inspect`, `alexnet receipt`: what something of ours is, and what the network is."""

from typing import Annotated

import typer

from pipelines.commands.options import JsonOption, TrackingOption, WorkspaceOption


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    app.command()(inspect)
    app.command()(receipt)


def inspect(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="A folder or s3:// URI that a step made, models:/NAME@ALIAS, or a run.",
        ),
    ],
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a dataset, run, checkpoint, evaluation or model is."""
    from pipelines import api
    from pipelines.output import print_fields

    found = api.inspect(uri, workspace=workspace, tracking_uri=tracking_uri)
    print_fields(found, as_json=as_json)


def receipt(as_json: JsonOption = False) -> None:
    """List what the network of 2012 is made of: paper, code and tests of each, and its worth."""
    from pipelines.receipt import print_receipt

    print_receipt(as_json=as_json)
