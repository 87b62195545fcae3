"""`alexnet prepare` with --verify, --repair, --estimate or --clean: looking after datasets."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stdout
from typing import Any, Final

from infra.errors import ExitCode, ObjectCorrupt, ProjectError, RecipeError
from pipelines.defaults import tracking_or_environment
from pipelines.output import print_cleaning, print_fields, print_verification
from pipelines.recipe_yaml import load_recipe

WORKSPACE_MARK: Final = "workspace.json"


def refuse_contradictions(
    chosen: Mapping[str, bool], *, deep: bool, recipe: str | None, overrides: Sequence[str]
) -> None:
    """Refuse options that do not go together.

    Args:
        chosen: by flag, whether it was given: those that say what is done instead of preparing.
        deep: whether --deep was given.
        recipe: the recipe that was named.
        overrides: by --set or --from-folder.

    Raises:
        RecipeError: names the options.
    """
    given = [flag for flag, is_given in chosen.items() if is_given]
    if len(given) > 1:
        raise RecipeError(
            f"{' and '.join(given)} do not go together", remedy="give one of them at a time"
        )
    if deep and given not in (["--verify"], ["--repair"]):
        raise RecipeError(
            "--deep is for a check", remedy="add --verify URI or --repair, or leave it out"
        )
    if given in (["--verify"], ["--clean"]) and (recipe is not None or overrides):
        what = "RECIPE" if recipe is not None else "--set and --from-folder"
        raise RecipeError(
            f"{given[0]} takes no {what}",
            remedy="leave it out: a dataset says itself what it should be"
            if given == ["--verify"]
            else "leave it out: it is the workspace that is cleaned",
        )


def verify(uri: str, *, deep: bool, as_json: bool) -> ExitCode:
    """Check a committed dataset, print what was found, and return how the command ends.

    Raises:
        ManifestError: there is no dataset, or its manifest cannot be understood.
        ProjectError: the store or Ray is away.
    """
    from infra.nodes import check_nodes_see
    from infra.progress import StatusLine
    from infra.ray_runtime import ray_session
    from infra.store import open_store
    from pipelines.context import FIRST_CONTACT_S, refuse_relative_in_a_job
    from preprocessing.care.verify import find_dataset, verify_dataset
    from preprocessing.dataset.manifest import MANIFEST

    refuse_relative_in_a_job("the dataset", uri)
    store = open_store(uri)
    manifest = find_dataset(store.with_deadline(FIRST_CONTACT_S))
    sys.stderr.write(f"verify: reading all of {store.uri}\n")
    with redirect_stdout(sys.stderr), ray_session() as resources:
        if len(resources.nodes) > 1:
            check_nodes_see(store, MANIFEST)
        with closing(StatusLine("verify", sys.stderr)) as line:
            found = verify_dataset(store, manifest, deep=deep, progress=line)
    fields: dict[str, Any] = {
        "uri": store.uri,
        "fingerprint": manifest.fingerprint,
        "whole": not found.problems,
        "deep": deep,
        "num_shards": found.num_shards,
        "num_rows": found.num_rows,
        "size_bytes": found.size_bytes,
        "problems": [{"path": item.path, "problem": item.problem} for item in found.problems],
    }
    error = _damaged(fields) if found.problems else None
    print_verification(fields, error, as_json=as_json)
    return error.exit_code if error else ExitCode.DONE


def _damaged(fields: Mapping[str, Any]) -> ProjectError:
    num_objects = len({item["path"] for item in fields["problems"]})
    return ObjectCorrupt(
        f"{fields['uri']} is damaged: {len(fields['problems'])} problems in {num_objects} objects",
        remedy="make them anew with the recipe, settings and workspace it was prepared with:"
        " `alexnet prepare RECIPE --repair`; or restore them from a copy",
    )


def repair(
    name: str,
    overrides: Sequence[str],
    workspace: str,
    tracking_uri: str | None,
    *,
    deep: bool,
    as_json: bool,
) -> None:
    """Make anew what of a recipe's dataset is damaged; prepare it if there is none. Print it.

    Raises:
        ProjectError: any deliberate failure.
    """
    recipe = load_recipe(name, overrides)
    from pipelines.context import open_context
    from pipelines.repair import RepairStep
    from pipelines.workflow import run_steps

    if tracking_uri is None and recipe.tracking.use_environment:
        tracking_uri = tracking_or_environment(None)
    with redirect_stdout(sys.stderr):
        context = open_context(
            recipe, workspace=workspace, tracking_uri=tracking_uri, stream=sys.stderr
        )
        try:
            step = RepairStep(context, deep=deep)
            (outcome,) = run_steps([step])
        finally:
            context.close()
    print_fields({**outcome.fields, "repaired": step.repaired}, as_json=as_json)


def clean(workspace: str, *, as_json: bool) -> None:
    """Remove what interrupted builds left in a workspace, and print it.

    Raises:
        RecipeError: there is no workspace.
        StoreError: it cannot be reached, or refuses.
    """
    from infra.store import open_store
    from pipelines.context import FIRST_CONTACT_S
    from preprocessing.care.clean import clean_workspace

    store = open_store(workspace)
    if store.with_deadline(FIRST_CONTACT_S).stat(WORKSPACE_MARK) is None:
        raise RecipeError(
            f"{store.uri} is no workspace: it holds no {WORKSPACE_MARK}",
            remedy="name the one to clean with --workspace or $ALEXNET_WORKSPACE",
        )
    found = clean_workspace(store)
    fields: dict[str, Any] = {
        "workspace": store.uri,
        "num_removed": len(found.removed),
        "size_bytes": sum(item.size_bytes for item in found.removed),
        "removed": [{"path": i.path, "size_bytes": i.size_bytes} for i in found.removed],
        "kept": [{"path": path, "reason": reason} for path, reason in found.kept.items()],
    }
    print_cleaning(fields, as_json=as_json)


def estimate(name: str, overrides: Sequence[str], *, workspace: str, as_json: bool) -> None:
    """Say what preparing a recipe's dataset would take; its images are indexed for that.

    Raises:
        ProjectError: any deliberate failure.
    """
    recipe = load_recipe(name, overrides)
    from pipelines.estimate import estimate_dataset

    with redirect_stdout(sys.stderr):
        fields = estimate_dataset(recipe, workspace=workspace)
    print_fields(fields, as_json=as_json)
