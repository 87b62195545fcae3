"""Recipes and the workflow, for Python."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infra.errors import RecipeError
from pipelines.defaults import (
    StrPath,
    as_text,
    folder_overrides,
    tracking_of,
    workspace_or_default,
)

if TYPE_CHECKING:
    from pipelines.recipe import Recipe


def load_recipe(name_or_file: StrPath, overrides: Sequence[str] = ()) -> "Recipe":
    """Read a shipped recipe or a YAML file, with `key.path=value` overrides, and check it.

    Raises:
        RecipeError: no such recipe, or something in it is wrong.
    """
    from pipelines.recipe_yaml import load_recipe

    return load_recipe(as_text(name_or_file), overrides)


def resolved(
    recipe: "StrPath | Recipe", overrides: Sequence[str], from_folder: StrPath | None
) -> "Recipe":
    """Return the recipe that is meant: loaded by its name, or as it was given.

    Raises:
        RecipeError: overrides or a folder beside a recipe that is loaded already.
    """
    overrides = [*folder_overrides(from_folder), *overrides]
    if isinstance(recipe, (str, os.PathLike)):
        return load_recipe(recipe, overrides)
    if overrides:
        raise RecipeError(
            "a loaded recipe takes no overrides and no from_folder",
            remedy="give the recipe's name or file beside them, or load_recipe() the"
            ' overrides: load_recipe(NAME, ["train.epochs=3"])',
        )
    return recipe


def run(
    recipe: "StrPath | Recipe",
    overrides: Sequence[str] = (),
    *,
    until: str = "report",
    from_folder: StrPath | None = None,
    workspace: StrPath | None = None,
    tracking_uri: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run the workflow up to a step; what already holds is not done again.

    A refusal by the gate is a result here: `verdict` is "refused".

    Args:
        recipe: a shipped recipe's name, a YAML file, or what `load_recipe` returned.
        overrides: `key.path=value`, for a recipe that is given by name or file.
        until: prepare, train, evaluate, gate, register or report.
        from_folder: a folder per class, instead of the archives of a recipe given by name or file.
        workspace: holds everything made; by default as on the command line.
        tracking_uri: MLflow server; by default as on the command line.
        dry_run: only look which steps hold; the images are indexed for that.

    Returns:
        What `alexnet run --json` prints.

    Raises:
        RecipeError: overrides or a folder beside a recipe that is loaded already; no such step.
        ProjectError: any other deliberate failure.
    """
    chosen = resolved(recipe, overrides, from_folder)
    from pipelines.command import bring_about
    from pipelines.output import run_fields

    outcomes, _ = bring_about(
        chosen,
        until,
        workspace=workspace_or_default(workspace),
        tracking_uri=tracking_of(chosen, tracking_uri),
        # Not sys.argv: those are another program's words, and may hold its secrets.
        command=f"pipelines.run({chosen.name!r})",
        dry_run=dry_run,
    )
    return run_fields(outcomes)
