"""`alexnet features`, `alexnet similar`: what a layer makes of images, and what is near for it."""

from typing import Annotated

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import (
    ImagesArgument,
    JsonOption,
    ModelArgument,
    TrackingOption,
    WorkspaceOption,
)
from pipelines.defaults import tracking_or_environment, workspace_or_default

LayerOption = Annotated[
    str | None,
    typer.Option("--layer", metavar="NAME", help="A layer. [default: the last hidden one]"),
]


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    app.command()(features)
    app.command()(similar)


def features(
    model: ModelArgument,
    images: ImagesArgument,
    output: Annotated[
        str, typer.Option("--output", metavar="FILE", help="The .parquet file to write.")
    ],
    layer: LayerOption = None,
    split: Annotated[
        str, typer.Option("--split", metavar="SPLIT", help="Of a dataset: train or val.")
    ] = "val",
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what a layer of a network makes of images."""
    from pipelines import api
    from pipelines.output import print_features

    with interruptible("nothing was written"):
        found = api.features(
            model,
            images,
            output=output,
            layer=layer,
            split=split,
            workspace=workspace,
            tracking_uri=tracking_uri,
        )
    print_features(found, as_json=as_json)


def similar(
    model: ModelArgument,
    images: ImagesArgument,
    among: Annotated[
        str,
        typer.Option(
            "--among",
            metavar="URI",
            help="A dataset (its training split), images, or what `alexnet features` wrote.",
        ),
    ],
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=1, max=1000, help="Neighbours an image.")
    ] = 6,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="Write a .parquet or .csv file instead."),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option("--picture", metavar="FILE", help="Also draw them, as a .png file."),
    ] = None,
    layer: LayerOption = None,
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the images that a network takes as most like these."""
    import sys

    from pipelines.inference.similarity import find_similar
    from pipelines.output import print_similar

    with interruptible("nothing was written"):
        found = find_similar(
            model,
            images,
            among=among,
            count=count,
            output=output,
            picture=picture,
            layer=layer,
            workspace=workspace_or_default(workspace),
            tracking_uri=tracking_or_environment(tracking_uri),
            stream=sys.stderr,
        )
    print_similar(found.fields(output=output, picture=picture), as_json=as_json)
