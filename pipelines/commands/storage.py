"""`alexnet storage check`: whether a place can hold a workspace."""

from typing import Annotated

import typer

from pipelines.commands.options import JsonOption


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Places that hold a workspace.", no_args_is_help=True)
    group.command()(check)
    app.add_typer(group, name="storage")


def check(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A directory, or s3://bucket/prefix.")],
    as_json: JsonOption = False,
) -> None:
    """Prove that a store keeps what commits rest on: conditional puts, ranges, lists and more."""
    from pipelines import api
    from pipelines.output import print_fields

    print_fields(api.check_storage(uri), as_json=as_json)
