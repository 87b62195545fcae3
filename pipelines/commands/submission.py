"""`alexnet submission`: ILSVRC's file of answers."""

from typing import Annotated

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import JsonOption, TrackingOption, ViewOption, WorkspaceOption


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("submission")(submission)


def submission(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model with IMAGES; else an evaluation or ensemble, or a file to check.",
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Folders or files, taken in order of their names."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="Write a .txt of five ids a line."),
    ] = None,
    devkit: Annotated[
        str | None,
        typer.Option("--devkit", metavar="DIR", help="Where the development kit's archive lies."),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="TRUTH", help="Hold it against a file of true ids."),
    ] = None,
    view: ViewOption = "center",
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write ILSVRC's file of answers, five ids an image, or check one."""
    from pipelines import api
    from pipelines.output import print_submission

    with interruptible("nothing was written"):
        found = api.submission(
            what,
            images or [],
            devkit=devkit,
            output=output,
            truth=check,
            view=view,
            workspace=workspace,
            tracking_uri=tracking_uri,
        )
    print_submission(found, as_json=as_json)
