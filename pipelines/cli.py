"""`alexnet`: parse, run, print what came of it, map errors to exit codes. Nothing else prints."""

import logging
import sys
from typing import Annotated, Any

import typer

from infra.errors import GateRefused, ProjectError
from infra.progress import tell
from pipelines.commands import (
    check_gradients,
    ensemble,
    features,
    figures,
    recipes,
    runs,
    storage,
    submission,
)
from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import (
    CleanOption,
    DeepOption,
    DemoTrackingOption,
    DryRunOption,
    EstimateOption,
    FolderOption,
    ImagesArgument,
    JsonOption,
    ModelArgument,
    PreparedRecipeArgument,
    RecipeArgument,
    RepairOption,
    SetOption,
    TrackingOption,
    VerifyOption,
    VersionOption,
    ViewOption,
    WorkspaceOption,
)
from pipelines.defaults import (
    folder_overrides,
    log_level,
    tracking_or_environment,
    workspace_or_default,
)

app = typer.Typer(
    name="alexnet",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def alexnet(_version: VersionOption = False) -> None:
    """From the ILSVRC-2012 archives to an evaluated, gated, registered AlexNet."""


@app.command()
def demo(
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    workspace: WorkspaceOption = None,
    tracking_uri: DemoTrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run everything on small drawn archives, in minutes."""
    _run("demo", "report", overrides, workspace, tracking_uri, as_json=as_json, whole=True)


@app.command()
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
    _run(
        recipe,
        "report",
        [*folder_overrides(from_folder), *overrides],
        workspace,
        tracking_uri,
        as_json=as_json,
        whole=True,
        dry_run=dry_run,
    )


@app.command()
def prepare(
    recipe: PreparedRecipeArgument = None,
    overrides: SetOption = [],  # noqa: B006
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
    from_folder: FolderOption = None,
    verify: VerifyOption = None,
    repair: RepairOption = False,
    deep: DeepOption = False,
    estimate: EstimateOption = False,
    clean: CleanOption = False,
) -> None:
    """Turn the archives into a dataset; check, mend or foresee one; clean up."""
    from pipelines import api
    from pipelines.dataset_care import damage_in, refuse_contradictions
    from pipelines.output import print_cleaning, print_fields, print_verification

    overrides = [*folder_overrides(from_folder), *overrides]
    chosen = {
        "--verify": verify is not None,
        "--repair": repair,
        "--estimate": estimate,
        "--clean": clean,
    }
    refuse_contradictions(chosen, deep=deep, recipe=recipe, overrides=overrides)
    name = recipe or "alexnet-2012"
    with interruptible("all that was finished is kept", "run the same command again"):
        if verify is not None:
            found = api.verify(verify, deep=deep)
            error = damage_in(found)
            print_verification(found, error, as_json=as_json)
            if error is not None:
                raise typer.Exit(int(error.exit_code))
        elif clean:
            print_cleaning(api.clean(workspace=workspace), as_json=as_json)
        elif estimate:
            print_fields(api.estimate(name, overrides, workspace=workspace), as_json=as_json)
        elif repair:
            mended = api.repair(
                name, overrides, deep=deep, workspace=workspace, tracking_uri=tracking_uri
            )
            print_fields(mended, as_json=as_json)
        else:
            _run(name, "prepare", overrides, workspace, tracking_uri, as_json=as_json)


def _add_step_command(step: str, description: str) -> None:
    """Add the command that brings one step, and all before it, to its product."""

    def command(
        recipe: RecipeArgument,
        overrides: SetOption = [],  # noqa: B006
        workspace: WorkspaceOption = None,
        tracking_uri: TrackingOption = None,
        as_json: JsonOption = False,
    ) -> None:
        _run(recipe, step, overrides, workspace, tracking_uri, as_json=as_json)

    app.command(step, help=description)(command)


_add_step_command("train", "Train to the recipe's end, from where the run stands.")
_add_step_command("evaluate", "Count what the trained network gets right in validation.")
_add_step_command(
    "gate",
    "Compare the evaluated network with the recipe's thresholds and with the champion (the"
    " registered model in use); exit code 5 if it may not take its place.",
)
_add_step_command(
    "register",
    "Make a version of the registered model: alias challenger, and champion if the gate accepted"
    " it.",
)
_add_step_command("report", "Write a page about it all, with pictures; MLflow gets a copy.")


@app.command()
def predict(
    model: ModelArgument,
    images: ImagesArgument,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="FILE", help="Write a .parquet or .csv file instead."),
    ] = None,
    view: ViewOption = "center",
    workspace: WorkspaceOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a trained network name what images show."""
    from pipelines.inference.prediction import predict_images
    from pipelines.output import print_predictions

    with interruptible("nothing was written"):
        found = predict_images(
            model,
            images,
            view=view,
            output=output,
            workspace=workspace_or_default(workspace),
            tracking_uri=tracking_or_environment(tracking_uri),
            stream=sys.stderr,
        )
    print_predictions(found.fields(), as_json=as_json)


for asking in (features, figures, ensemble, submission):
    asking.add_to(app)


@app.command()
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


@app.command()
def receipt(as_json: JsonOption = False) -> None:
    """List what the network of 2012 is made of: paper, code and tests of each, and its worth."""
    from pipelines.receipt import print_receipt

    print_receipt(as_json=as_json)


for looking in (check_gradients, runs, recipes, storage):
    looking.add_to(app)


def main() -> None:
    """Run the command line; the one place where errors become exit codes."""
    try:
        _configure_process()
        app()
    except GateRefused as refusal:
        tell(sys.stderr, f"{refusal.problem}\n  what to do: {refusal.remedy}")
        sys.exit(int(refusal.exit_code))
    except ProjectError as error:
        from pipelines.output import print_error

        print_error(error, as_json="--json" in sys.argv)
        sys.exit(int(error.exit_code))


def _run(
    name: str,
    until: str,
    overrides: list[str],
    workspace: str | None,
    tracking_uri: str | None,
    *,
    as_json: bool,
    whole: bool = False,
    dry_run: bool = False,
) -> None:
    from pipelines.recipe_yaml import load_recipe

    recipe = load_recipe(name, overrides)
    # Afterwards: it brings torch along, and a mistyped key should be told at once.
    from pipelines.command import run_command

    if tracking_uri is None and recipe.tracking.use_environment:
        tracking_uri = tracking_or_environment(None)
    with interruptible(
        "all that was finished is kept", "run the same command again: it goes on from there"
    ):
        run_command(
            recipe,
            until,
            workspace=workspace_or_default(workspace),
            tracking_uri=tracking_uri,
            as_json=as_json,
            whole=whole,
            dry_run=dry_run,
        )


def _configure_process() -> None:
    import signal

    def interrupt(_signal: int, _frame: Any) -> None:  # noqa: ANN401 - a frame
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    logging.basicConfig(level=log_level(), format="%(levelname)s %(name)s %(message)s")


if __name__ == "__main__":
    main()
