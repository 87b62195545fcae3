"""`alexnet prepare` with --verify, --repair, --estimate or --clean: looking after datasets."""

from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, Final

from infra.errors import ObjectCorrupt, ProjectError, RecipeError

if TYPE_CHECKING:
    from pipelines.recipe import Recipe
    from preprocessing.dataset.manifest import Manifest

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


def verify_dataset_at(uri: str, *, deep: bool, stream: IO[str]) -> dict[str, Any]:
    """Check a committed dataset; returns what `prepare --verify --json` prints, without an error.

    Args:
        uri: its folder.
        deep: decode every image too.
        stream: gets the progress.

    Raises:
        ManifestError: there is no dataset, or its manifest cannot be understood.
        ProjectError: the store or Ray is away.
    """
    from infra.nodes import check_nodes_see
    from infra.progress import StatusLine, tell
    from infra.ray_session import ray_session
    from infra.store import open_store
    from pipelines.context import FIRST_CONTACT_S, refuse_relative_in_a_job
    from preprocessing.care.verify import require_manifest, verify_dataset
    from preprocessing.dataset.manifest import MANIFEST

    refuse_relative_in_a_job("the dataset", uri)
    store = open_store(uri)
    manifest = require_manifest(store.with_deadline(FIRST_CONTACT_S))
    tell(stream, f"verify: reading all of {store.uri}")
    with redirect_stdout(stream), ray_session() as resources:
        if len(resources.nodes) > 1:
            check_nodes_see(store, MANIFEST)
        with closing(StatusLine("verify", stream)) as line:
            found = verify_dataset(store, manifest, deep=deep, progress=line)
    return {
        "uri": store.uri,
        "fingerprint": manifest.fingerprint,
        "whole": not found.problems,
        "deep": deep,
        "num_shards": found.num_shards,
        "num_rows": found.num_rows,
        "size_bytes": found.size_bytes,
        "problems": [{"path": item.path, "problem": item.problem} for item in found.problems],
        "repair": repair_command(manifest),
    }


def damage_in(fields: Mapping[str, Any]) -> ProjectError | None:
    """Return the error that a command ends with after this verification, if it does."""
    if fields["whole"]:
        return None
    num_objects = len({item["path"] for item in fields["problems"]})
    return ObjectCorrupt(
        f"{fields['uri']} is damaged: {len(fields['problems'])} problems in {num_objects} objects",
        remedy="make them anew in the workspace it lies in, with a RECIPE that names its images:"
        f" `{fields['repair']}`; or restore them from a copy",
    )


def repair_command(manifest: "Manifest") -> str:
    """Write the command that repairs a dataset, as far as the dataset knows it. Pure."""
    settings: dict[str, str | int | float] = {"dataset.name": manifest.name}
    settings |= {f"prepare.{name}": value for name, value in (manifest.options or {}).items()}
    if manifest.num_rejects:
        settings["prepare.max_rejects"] = manifest.num_rejects
    given = (f"--set {name}={value}" for name, value in settings.items())
    return " ".join(["alexnet prepare RECIPE --repair", *given])


def repair_dataset_of(
    recipe: "Recipe", *, deep: bool, workspace: str, tracking_uri: str | None, stream: IO[str]
) -> dict[str, Any]:
    """Make anew what of a recipe's dataset is damaged; prepare it if there is none.

    Args:
        recipe: resolved.
        deep: decode every image too.
        workspace: holds the dataset.
        tracking_uri: a place for runs; none are made.
        stream: gets the progress.

    Returns:
        What `prepare --repair --json` prints.

    Raises:
        ProjectError: any deliberate failure.
    """
    from pipelines.context import open_context
    from pipelines.steps.repair import RepairStep
    from pipelines.workflow import run_steps

    with redirect_stdout(stream):
        context = open_context(
            recipe, workspace=workspace, tracking_uri=tracking_uri, command="", stream=stream
        )
        try:
            step = RepairStep(context, deep=deep)
            (outcome,) = run_steps([step])
        finally:
            context.close()
    return {**outcome.fields, "repaired": step.repaired}


def estimate_dataset(recipe: "Recipe", *, workspace: str, stream: IO[str]) -> dict[str, Any]:
    """Index a recipe's images, render some, and say what all would take, before that is begun.

    Indexes, archives that are drawn, and images that have to be unpacked to be indexed (CIFAR,
    Hugging Face) are kept in the workspace; nothing else is written.

    Returns:
        What `prepare --estimate --json` prints.

    Raises:
        DataError: the images cannot be found or read.
    """
    from infra.store import open_store
    from preprocessing.building.estimate import estimate_build
    from preprocessing.sources.source import read_index

    with redirect_stdout(stream):
        index = read_index(recipe.dataset, recipe.prepare, open_store(workspace))
        fields = asdict(estimate_build(index, recipe.prepare))
    fields["core_hours"] = round(fields["core_hours"], 4)
    return fields


def clean_up(workspace: str) -> dict[str, Any]:
    """Remove what interrupted builds left in a workspace.

    Returns:
        What `prepare --clean --json` prints.

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
    return {
        "workspace": store.uri,
        "num_removed": len(found.removed),
        "size_bytes": sum(item.size_bytes for item in found.removed),
        "removed": [{"path": i.path, "size_bytes": i.size_bytes} for i in found.removed],
        "kept": [{"path": path, "reason": reason} for path, reason in found.kept.items()],
    }
