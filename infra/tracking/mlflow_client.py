"""Clients of MLflow: of a server, or of a database file, which one process at a time brings up."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from infra.tracking.mlflow_quiet import import_mlflow
from infra.tracking.place import sqlite_path, without_credentials

_MIGRATION_S: Final = 300.0
_SOURCE: Final = "mlflow.source.name"
_COMMIT: Final = "mlflow.source.git.commit"
_DRIVERS: Final = frozenset(
    {"azure", "boto3", "botocore", "google", "paramiko", "pysftp", "requests", "urllib3"}
)
"""Packages through which MLflow reaches an artifact store that the server does not stand before."""


def open_mlflow_client(uri: str) -> Any:  # noqa: ANN401 - MLflow ships no types
    """Return a client whose runs and models are both at this URI.

    For a database file this makes or migrates its tables. Two processes that do so at the same
    moment both fail, and may leave a file that nobody can open; so it is done under a lock.

    Raises:
        OSError: the file's folder cannot be written, or the lock is held for minutes.
        MlflowException, SQLAlchemyError: whatever MLflow raises; `is_mlflows` tells.
    """
    mlflow = import_mlflow()
    with _lock_of(uri):
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def is_mlflows(error: Exception) -> bool:
    """Tell whether this is MLflow's own, its database's, or that of a driver of its artifacts.

    MLflow hands on what a driver raises, and an ImportError where one is not installed. Drivers are
    told by name, for they need not be there.
    """
    from sqlalchemy.exc import SQLAlchemyError

    # requests' errors are OSErrors.
    own = (import_mlflow().exceptions.MlflowException, SQLAlchemyError, OSError, ImportError)
    modules = (kind.__module__.partition(".")[0] for kind in type(error).__mro__)
    return isinstance(error, own) or not _DRIVERS.isdisjoint(modules)


def context_tags() -> dict[str, str]:
    """Say who makes a run, with which program and of which commit, as MLflow's own API does.

    The program by its name: its path is of this machine, and may be a URI with credentials.
    """
    mlflow = import_mlflow()
    tags: dict[str, str] = mlflow.tracking.context.registry.resolve_tags()
    tags[_SOURCE] = Path(without_credentials(tags.get(_SOURCE, ""))).name
    # The program usually lies in an ignored folder of the checkout that it runs.
    commit = mlflow.utils.git_utils.get_git_commit(str(Path(__file__).parent))
    return tags if commit is None else {_COMMIT: commit, **tags}


def _lock_of(uri: str) -> AbstractContextManager[Any]:
    path: Path | None = sqlite_path(uri)
    if path is None:
        return nullcontext()
    from filelock import FileLock  # its time-out is an OSError

    return FileLock(path.with_name(f"{path.name}.lock"), timeout=_MIGRATION_S)
