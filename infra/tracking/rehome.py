"""A database of MLflow that was moved or copied with its workspace: its files lie beside it.

MLflow writes absolute locations into its tables and has no call to change them. Left alone, a
copied workspace would read and write files in the old place.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from infra.errors import TrackingError
from infra.looking import may_exist

log = logging.getLogger(__name__)

_LOCATIONS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of MLflow 3 that hold URIs of files."""


def rehome_artifacts(database: Path, artifacts_uri: str) -> None:
    """Make a workspace's database name its files where they are now, if it names another place.

    Args:
        database: the file; nothing is done when it has no tables yet.
        artifacts_uri: the folder `mlartifacts` beside it.

    Raises:
        TrackingError: the file is no database, or cannot be written.
    """
    if not may_exist(database):
        return
    try:
        # The inner one is the transaction: all of it or nothing.
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            if _has_tables(connection):
                for old in _homes(connection):
                    if old != artifacts_uri:
                        log.info("artifacts_rehomed from=%s to=%s", old, artifacts_uri)
                        _replace(connection, old, artifacts_uri)
    except sqlite3.Error as error:
        raise TrackingError(
            f"{database} cannot be used: {error}",
            remedy="restore it from a copy, make it writable, or name another --tracking-uri",
        ) from error


def _has_tables(connection: sqlite3.Connection) -> bool:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {table for table, _ in _LOCATIONS} <= {name for (name,) in rows}


def _homes(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
    return [location for (location,) in rows if str(location).endswith("/mlartifacts")]


def _replace(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _LOCATIONS:
        connection.execute(
            f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1)"
            f" WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
            {"old": old, "new": new},
        )
