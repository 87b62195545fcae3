"""What a command, or a call from Python, takes where nothing is said."""

import json
import os
from typing import Final

from infra.errors import RecipeError

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def workspace_or_default(given: str | None) -> str:
    """Return the workspace: as given, $ALEXNET_WORKSPACE, else the user's data folder."""
    import platformdirs

    return given or os.environ.get("ALEXNET_WORKSPACE") or platformdirs.user_data_dir("alexnet")


def tracking_or_environment(given: str | None) -> str | None:
    """Return the MLflow server: as given, else $MLFLOW_TRACKING_URI, else None."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or None


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


def folder_overrides(folder: str | None) -> list[str]:
    """Return the overrides that put a folder per class in the place of a recipe's images."""
    from pipelines.recipe_yaml import slug_of
    from preprocessing.settings import SOURCES

    if folder is None:
        return []
    return [
        *(f"dataset.{source}=null" for source in SOURCES if source != "folder"),
        # JSON is YAML: whatever letters the path holds.
        f"dataset.folder={json.dumps(folder, ensure_ascii=False)}",
        f"dataset.name={slug_of(folder)}",
    ]
