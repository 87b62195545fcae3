"""Looking after datasets, runs and the places that hold them, for Python."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.api.workflow import resolved
from pipelines.defaults import (
    StrPath,
    as_text,
    tracking_of,
    tracking_or_environment,
    workspace_or_default,
)

if TYPE_CHECKING:
    from pipelines.recipe import Recipe


def verify(uri: StrPath, *, deep: bool = False) -> dict[str, Any]:
    """Check every byte of a committed dataset, as `alexnet prepare --verify --json`.

    What is damaged is no error here: look at `whole` and `problems`.

    Args:
        uri: the dataset's folder.
        deep: decode every image too.

    Raises:
        ManifestError: there is no dataset, or its manifest cannot be understood.
        ProjectError: any other deliberate failure.
    """
    from pipelines.dataset_care import verify_dataset_at

    return verify_dataset_at(as_text(uri), deep=deep, stream=sys.stderr)


def repair(
    recipe: "StrPath | Recipe" = "alexnet-2012",
    overrides: Sequence[str] = (),
    *,
    from_folder: StrPath | None = None,
    deep: bool = False,
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Make anew what of a recipe's dataset is damaged, as `alexnet prepare --repair --json`.

    Args:
        recipe: as `run` takes it: the one that the dataset was prepared with.
        overrides: `key.path=value`, for a recipe that is given by name.
        from_folder: a folder per class, instead of the recipe's archives.
        deep: decode every image too.
        workspace: holds the dataset; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Returns:
        What `prepare` prints, and `repaired`: the paths of what was made anew.

    Raises:
        ProjectError: any deliberate failure.
    """
    chosen = resolved(recipe, overrides, from_folder)
    from pipelines.dataset_care import repair_dataset_of

    return repair_dataset_of(
        chosen,
        deep=deep,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_of(chosen, tracking_uri),
        stream=sys.stderr,
    )


def estimate(
    recipe: "StrPath | Recipe" = "alexnet-2012",
    overrides: Sequence[str] = (),
    *,
    from_folder: StrPath | None = None,
    workspace: StrPath | None = None,
) -> dict[str, Any]:
    """Say what preparing a recipe's dataset would take, as `alexnet prepare --estimate --json`.

    Args:
        recipe: as `run` takes it.
        overrides: `key.path=value`, for a recipe that is given by name.
        from_folder: a folder per class, instead of the recipe's archives.
        workspace: gets indexes of archives, and drawn ones; by default as on the command line.

    Raises:
        DataError: the images cannot be found or read.
        ProjectError: any other deliberate failure.
    """
    chosen = resolved(recipe, overrides, from_folder)
    from pipelines.dataset_care import estimate_dataset

    return estimate_dataset(chosen, workspace=workspace_or_default(workspace), stream=sys.stderr)


def clean(*, workspace: StrPath | None = None) -> dict[str, Any]:
    """Remove what interrupted builds left in a workspace, as `alexnet prepare --clean --json`.

    Args:
        workspace: by default as on the command line.

    Raises:
        RecipeError: there is no workspace.
        StoreError: it cannot be reached, or refuses.
    """
    from pipelines.dataset_care import clean_up

    return clean_up(workspace_or_default(workspace))


def reap_runs(
    *, workspace: StrPath | None = None, tracking_uri: str | None = None
) -> list[dict[str, Any]]:
    """Call runs KILLED whose drivers ended without a word, as `alexnet runs reap --json`.

    Args:
        workspace: by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.

    Raises:
        TrackingError: MLflow is away, or refuses.
    """
    from pipelines.run_care import reap_runs

    return reap_runs(
        workspace_or_default(workspace), tracking_uri=tracking_or_environment(tracking_uri)
    )


def check_storage(uri: StrPath) -> dict[str, Any]:
    """Prove that a place can hold a workspace, as `alexnet storage check --json`.

    Args:
        uri: a directory, or s3://bucket/prefix.

    Raises:
        StoreError: it does not keep a promise that commits rest on, or cannot be reached.
    """
    from pipelines.storage import try_storage

    return try_storage(as_text(uri), sys.stderr)
