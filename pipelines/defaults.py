"""What a command, or a call from Python, takes where nothing is said."""

import json
import os
from typing import TYPE_CHECKING, Final, overload

from infra.errors import RecipeError

if TYPE_CHECKING:
    from pipelines.recipe import Recipe

StrPath = str | os.PathLike[str]

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def workspace_or_default(given: StrPath | None) -> str:
    """Return the workspace: as given, $ALEXNET_WORKSPACE, else the user's data folder.

    Raises:
        RecipeError: an empty one is given.
    """
    import platformdirs

    if given is not None:
        return _not_empty("workspace", os.fspath(given))
    return os.environ.get("ALEXNET_WORKSPACE") or platformdirs.user_data_dir("alexnet")


@overload
def as_text(path: StrPath) -> str: ...
@overload
def as_text(path: None) -> None: ...
def as_text(path: StrPath | None) -> str | None:
    """Return a path or URI as text: from Python it may be a `pathlib.Path`."""
    return None if path is None else os.fspath(path)


def tracking_or_environment(given: str | None) -> str | None:
    """Return the MLflow server: as given, else $MLFLOW_TRACKING_URI, else None.

    Raises:
        RecipeError: an empty one is given.
    """
    if given is not None:
        return _not_empty("tracking URI", given)
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def tracking_of(recipe: "Recipe", given: str | None) -> str | None:
    """Return the MLflow server of a recipe's runs: not $MLFLOW_TRACKING_URI if it will not have it.

    Raises:
        RecipeError: an empty one is given.
    """
    if given is None and not recipe.tracking.use_environment:
        return None
    return tracking_or_environment(given)


def _not_empty(what: str, given: str) -> str:
    if not given:
        # Not the default: `-w "$WS"` without a $WS would clean another workspace than is meant.
        raise RecipeError(
            f"the {what} that is given is empty, as a variable of the shell that is not set is",
            remedy=f"name one, or give no {what} at all to have the default",
        )
    return given


def is_from_environment(tracking_uri: str) -> bool:
    """Tell whether this is the server that $MLFLOW_TRACKING_URI names."""
    return tracking_uri == os.environ.get("MLFLOW_TRACKING_URI")


def package_version() -> str:
    """Return the installed package's version; `unknown` where only its source is, as in a job."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("alexnet-pipeline")
    except PackageNotFoundError:
        return "unknown"


def log_level() -> str:
    """Return the least level that is logged: $ALEXNET_LOG in capitals or not, else WARNING.

    Raises:
        RecipeError: there is no such level.
    """
    level = os.environ.get("ALEXNET_LOG") or "WARNING"
    if level.upper() not in LOG_LEVELS:
        raise RecipeError(
            f"$ALEXNET_LOG is {level!r}, which is no level of logging",
            remedy=f"set it to one of {', '.join(LOG_LEVELS)}, or unset it",
        )
    return level.upper()


def folder_overrides(folder: StrPath | None) -> list[str]:
    """Return the overrides that put a folder per class in the place of a recipe's images.

    Raises:
        RecipeError: an empty one is given.
    """
    from pipelines.recipe_yaml import slug_of
    from preprocessing.settings import SOURCES

    if folder is None:
        return []
    folder = _not_empty("folder", os.fspath(folder))
    return [
        *(f"dataset.{source}=null" for source in SOURCES if source != "folder"),
        # JSON is YAML: whatever letters the path holds, and though a name may look like a number.
        f"dataset.folder={json.dumps(folder, ensure_ascii=False)}",
        f"dataset.name={json.dumps(slug_of(folder))}",
    ]
