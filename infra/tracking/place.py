"""Where runs are tracked: the server that was named, or a file in the workspace."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from infra.errors import RecipeError
from infra.store import ObjectStore

# Up to the last @: a password may hold any of `/@?`. A file's URI (`:///`) has no credentials.
_CREDENTIALS: Final = re.compile(r"(?<=://)(?!/)\S*@")
_QUERY: Final = re.compile(r"(://[^\s?]*)\?\S*")
_SQLITE: Final = "sqlite:///"
_SERVERS: Final = ("http://", "https://")

OWN_SERVER: Final = "workspace"
"""What notes and receipts call the database in a workspace's own directory, wherever that lies."""


@dataclass(frozen=True, slots=True)
class TrackingPlace:
    """One MLflow server, or a database file that needs none. Plain data: it crosses processes."""

    uri: str
    """What MLflow takes; may hold credentials, so it is never logged nor written down."""
    artifact_location: str | None
    """Where a new experiment keeps files; None leaves it to the server."""
    registry_id: str
    """Which server this is, fit to be written down; OWN_SERVER for the workspace's own."""


def place_for(workspace: ObjectStore, tracking_uri: str | None) -> TrackingPlace:
    """Choose the tracking URI if there is one, else a database in the workspace's directory.

    Nothing is made there. A relative sqlite path is taken from the current directory, once:
    workers have another.

    Raises:
        RecipeError: no tracking URI, and the workspace is no directory; or neither a server's nor
            a database file's.
    """
    if tracking_uri is not None:
        return _named_place(tracking_uri)
    if "://" in workspace.uri:
        raise RecipeError(
            f"{workspace.uri} is no directory, so runs cannot be tracked in it",
            remedy="name an MLflow server with --tracking-uri (or $MLFLOW_TRACKING_URI where the"
            " recipe takes it), or a database file: sqlite:////home/you/mlflow.db",
        )
    return _file_place(Path(workspace.uri) / "mlflow.db", registry_id=OWN_SERVER)


def without_credentials(uri: str) -> str:
    """Remove `user:password@` and `?query` from a URI, or from every URI in a text."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", uri))


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a `sqlite:///` URI's file; None for any other URI."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(unquote(uri.removeprefix(_SQLITE))).absolute()


def _named_place(uri: str) -> TrackingPlace:
    path = sqlite_path(uri)
    if path is None and not uri.startswith(_SERVERS):
        # MLflow takes a mistyped one for a folder, or fails in a way of its own hours later.
        raise RecipeError(
            f"{without_credentials(uri)!r} names no place to track runs at",
            remedy="name an MLflow server, https://… or http://…, or a database file:"
            " sqlite:////home/you/mlflow.db",
        )
    if path is None:
        return TrackingPlace(uri, None, without_credentials(uri).rstrip("/"))
    return _file_place(path, registry_id=_sqlite_uri(path))


def _file_place(path: Path, *, registry_id: str) -> TrackingPlace:
    # Files beside the database: MLflow's own default is the current directory.
    return TrackingPlace(_sqlite_uri(path), (path.parent / "mlartifacts").as_uri(), registry_id)


def _sqlite_uri(path: Path) -> str:
    # MLflow unquotes a path and cuts it at `?`. Spaces stay: it makes a folder named `a%20b`.
    return _SQLITE + str(path).replace("%", "%25").replace("?", "%3F")
