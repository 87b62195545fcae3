"""`alexnet figures`: pictures of a trained network, as files."""

from typing import Annotated

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import JsonOption, ModelArgument, TrackingOption, WorkspaceOption


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(figures)


def figures(
    model: ModelArgument,
    output: Annotated[
        str, typer.Option("--output", metavar="FOLDER", help="Where the pictures are written.")
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Files, folders, Parquet files or datasets. [default: the validation images]",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="Whose maps to draw. [default: the first]"),
    ] = None,
    among: Annotated[
        str | None,
        typer.Option(
            "--among",
            metavar="URI",
            help="Where to look for neighbours: a dataset (its training images, as in figure 4),"
            " images, features. [default: validation images]",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw what a trained network learned, sees and answers."""
    from pipelines import api
    from pipelines.output import print_fields

    with interruptible("pictures that were written are whole"):
        fields = api.figures(
            model,
            images or [],
            output=output,
            layer=layer,
            among=among,
            workspace=workspace,
            tracking_uri=tracking_uri,
        )
    print_fields(fields, as_json=as_json)
