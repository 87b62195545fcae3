"""The one import of MLflow: without its telemetry, its chatter, its minutes of retries."""

import logging
import os
import threading
from typing import Any, Final

_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A bar a file, where tqdm happens to be installed.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # uv.lock and pyproject.toml of the folder that a command runs in are no part of a model.
    "MLFLOW_UV_AUTO_DETECT": "false",
    # Points wait in the journal and are sent again: no call needs four minutes of its own.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    # A server hands out URLs of its S3 as it sees that itself; a client may have no way there, and
    # then tries for minutes. Through the server every file can be had.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
}
_LOUD_LOGGERS: Final = (
    "alembic",
    # Each attempt of a retry is a warning there; we report the outage once.
    "mlflow.store.db.utils",
    "urllib3.connectionpool",
    # Where there is no git, or no name for the user, a run is noted without.
    "mlflow.tracking.context.registry",
    "mlflow.utils.git_utils",
)

_IMPORTING: Final = threading.Lock()


def import_mlflow() -> Any:  # noqa: ANN401 - a module
    """Import MLflow (1.6 s the first time); settings that are in the environment stay."""
    # One thread at a time: its modules import each other, and two threads can block for good.
    with _IMPORTING:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        import mlflow

        for logger in _LOUD_LOGGERS:
            logging.getLogger(logger).setLevel(logging.ERROR)
        return mlflow
