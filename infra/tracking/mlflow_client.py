"""Clients of MLflow: of a server, or of a database file, which one process at a time brings up."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from infra.tracking.mlflow_quiet import import_mlflow
from infra.tracking.place import sqlite_path

_MIGRATION_S: Final = 300.0


def open_mlflow_client(uri: str) -> Any:  # noqa: ANN401 - MLflow ships no types
    """Return a client whose runs and models are both at this URI.

    For a database file this makes or migrates its tables. Two processes that do so at the same
    moment both fail, and may leave a file that nobody can open; so it is done under a lock.

    Raises:
        OSError: the file's folder cannot be written, or the lock is held for minutes.
        MlflowException, SQLAlchemyError: whatever MLflow raises.
    """
    mlflow = import_mlflow()
    with _lock_of(uri):
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def _lock_of(uri: str) -> AbstractContextManager[Any]:
    path: Path | None = sqlite_path(uri)
    if path is None:
        return nullcontext()
    from filelock import FileLock  # its time-out is an OSError

    return FileLock(path.with_name(f"{path.name}.lock"), timeout=_MIGRATION_S)
