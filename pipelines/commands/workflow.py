"""`alexnet demo`, `run`, and `train` to `report`: the workflow, whole or up to a step."""

import sys

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import (
    DemoTrackingOption,
    DryRunOption,
    FolderOption,
    JsonOption,
    RecipeArgument,
    SetOption,
    TrackingOption,
    WorkspaceOption,
)
from pipelines.defaults import folder_overrides, tracking_of, workspace_or_default


def add_to(app: typer.Typer) -> None:
    """Add the commands that do all of it."""
    app.command()(demo)
    app.command()(run)


def add_steps_to(app: typer.Typer) -> None:
    """Add the commands that stop after a step; `prepare`, which has more to it, is not among them.

    Each brings its step, and all before it, to its product.
    """
    _add_step(app, "train", "Train to the recipe's end, from where the run stands.")
    _add_step(app, "evaluate", "Count what the trained network gets right in validation.")
    _add_step(
        app,
        "gate",
        "Compare the evaluated network with the recipe's thresholds and with the champion (the"
        " registered model in use); exit code 5 if it may not take its place.",
    )
    _add_step(
        app,
        "register",
        "Make a version of the registered model: alias challenger, and champion if the gate"
        " accepted it.",
    )
    _add_step(app, "report", "Write a page about it all, with pictures; MLflow gets a copy.")


def demo(
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    workspace: WorkspaceOption = None,
    tracking_uri: DemoTrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run everything on small drawn archives, in minutes."""
    run_up_to("report", "demo", overrides, workspace, tracking_uri, as_json=as_json, whole=True)


def run(
    recipe: RecipeArgument,
    overrides: SetOption = [],  # noqa: B006
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
    from_folder: FolderOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Run the whole workflow; what is done already is not done again."""
    run_up_to(
        "report",
        recipe,
        [*folder_overrides(from_folder), *overrides],
        workspace,
        tracking_uri,
        as_json=as_json,
        whole=True,
        dry_run=dry_run,
    )


def run_up_to(
    step: str,
    name: str,
    overrides: list[str],
    workspace: str | None,
    tracking_uri: str | None,
    *,
    as_json: bool,
    whole: bool = False,
    dry_run: bool = False,
) -> None:
    """Run the workflow of a recipe up to a step and print the result.

    Raises:
        GateRefused: the gate said no; all else was done and printed before.
        ProjectError: any other deliberate failure.
    """
    from pipelines.recipe_yaml import load_recipe

    recipe = load_recipe(name, overrides)
    # Afterwards: it brings torch along, and a mistyped key should be told at once.
    from pipelines.command import run_command
    from pipelines.timeline import command_text

    with interruptible(
        "all that was finished is kept", "run the same command again: it goes on from there"
    ):
        run_command(
            recipe,
            step,
            workspace=workspace_or_default(workspace),
            tracking_uri=tracking_of(recipe, tracking_uri),
            command=command_text(sys.argv),
            as_json=as_json,
            whole=whole,
            dry_run=dry_run,
        )


def _add_step(app: typer.Typer, step: str, description: str) -> None:
    def command(
        recipe: RecipeArgument,
        overrides: SetOption = [],  # noqa: B006
        workspace: WorkspaceOption = None,
        tracking_uri: TrackingOption = None,
        as_json: JsonOption = False,
        from_folder: FolderOption = None,
    ) -> None:
        overrides = [*folder_overrides(from_folder), *overrides]
        run_up_to(step, recipe, overrides, workspace, tracking_uri, as_json=as_json)

    app.command(step, help=description)(command)
