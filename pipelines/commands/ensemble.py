"""`alexnet ensemble`: several evaluated networks as one."""

from typing import Annotated

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import JsonOption, ViewOption, WorkspaceOption


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ensemble")(ensemble)


def ensemble(
    evaluations: Annotated[
        list[str],
        typer.Argument(metavar="EVALUATIONS", help="Folders of evaluations, or trainings."),
    ],
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="NUMBERS", help="0.3,0.7, say. [default: equal ones]"),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Look for the weights with the fewest errors, and say what they are worth on"
            " images that were not searched.",
        ),
    ] = False,
    view: ViewOption = "center",
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="Also write a .parquet of the average."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Average the probabilities of several networks on the same images."""
    from pipelines import api
    from pipelines.output import print_ensemble

    with interruptible("nothing was written"):
        found = api.ensemble(
            evaluations,
            weights=weights.split(",") if weights is not None else None,
            search=search,
            view=view,
            output=output,
            workspace=workspace,
        )
    print_ensemble(found, as_json=as_json)
