"""`alexnet runs` and its `compare` and `reap`: the trainings of a workspace."""

from typing import Annotated

import typer

from pipelines.commands.options import JsonOption, TrackingOption, WorkspaceOption
from pipelines.defaults import workspace_or_default


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The trainings of a workspace.", no_args_is_help=False)
    group.callback(invoke_without_command=True)(runs)
    group.command()(compare)
    group.command()(reap)
    app.add_typer(group, name="runs")


def runs(
    context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """List the trainings of a workspace, newest first."""
    from pipelines import api
    from pipelines.output import print_runs

    if context.invoked_subcommand is None:
        place = workspace_or_default(workspace)
        print_runs(api.list_runs(workspace=place), place, as_json=as_json)


def compare(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="RUNS", help="Names, their beginnings, folders or MLflow's ids."),
    ],
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where trainings differ, what came of it, and MLflow's page of it."""
    from pipelines import api
    from pipelines.output import print_comparison

    # They may stand before the word `compare` too.
    before = context.parent.params if context.parent else {}
    found = api.compare_runs(
        names,
        workspace=before.get("workspace") if workspace is None else workspace,
        tracking_uri=tracking_uri,
    )
    print_comparison(found, as_json=as_json or bool(before.get("as_json")))


def reap(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have MLflow call trainings KILLED that were killed; each is listened to for half a minute."""
    from pipelines import api
    from pipelines.output import print_reaped

    before = context.parent.params if context.parent else {}
    place = workspace_or_default(before.get("workspace") if workspace is None else workspace)
    found = api.reap_runs(workspace=place, tracking_uri=tracking_uri)
    print_reaped(found, place, as_json=as_json or bool(before.get("as_json")))
