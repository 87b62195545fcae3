"""`alexnet prepare`: a dataset is made, or checked, mended or foreseen; a workspace is cleaned."""

import typer

from pipelines.commands.interruptible import interruptible
from pipelines.commands.options import (
    CleanOption,
    DeepOption,
    EstimateOption,
    FolderOption,
    JsonOption,
    PreparedRecipeArgument,
    RepairOption,
    SetOption,
    TrackingOption,
    VerifyOption,
    WorkspaceOption,
)
from pipelines.commands.workflow import run_up_to
from pipelines.defaults import folder_overrides


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prepare)


def prepare(
    recipe: PreparedRecipeArgument = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
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
    from pipelines.dataset_care import refuse_contradictions
    from pipelines.output import print_cleaning, print_fields

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
            _verify(verify, deep=deep, as_json=as_json)
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
            run_up_to("prepare", name, overrides, workspace, tracking_uri, as_json=as_json)


def _verify(uri: str, *, deep: bool, as_json: bool) -> None:
    """Check a dataset, print what was found, and end with the code of what is wrong."""
    from pipelines import api
    from pipelines.dataset_care import damage_in
    from pipelines.output import print_verification

    found = api.verify(uri, deep=deep)
    error = damage_in(found)
    print_verification(found, error, as_json=as_json)
    if error is not None:
        raise typer.Exit(int(error.exit_code))
