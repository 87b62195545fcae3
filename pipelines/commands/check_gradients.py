"""`alexnet check-gradients`: autograd against finite differences."""

from typing import Annotated

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import JsonOption


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check-gradients")(check_gradients)


def check_gradients(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A network's name, a recipe's, or a YAML file.")
    ],
    layers: Annotated[
        list[str],
        typer.Option("--layer", metavar="NAME", help="Only this layer; repeatable."),
    ] = [],  # noqa: B006 - typer copies it
    as_json: JsonOption = False,
) -> None:
    """Hold gradients against finite differences of the loss; a wrong one ends with 3."""
    from pipelines import api
    from pipelines.gradients import error_of
    from pipelines.output import print_gradients

    with interruptible("nothing was changed"):
        found = api.check_gradients(network, layers)
    error = error_of(found)
    print_gradients(found, error, as_json=as_json)
    if error is not None:
        raise typer.Exit(int(error.exit_code))
