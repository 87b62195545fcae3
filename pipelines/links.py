"""Where MLflow shows things: links to its pages, and what starts it for a database file."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from infra.tracking.place import TrackingPlace, without_credentials

_LOCAL: Final = "http://127.0.0.1:5000"
"""Where `mlflow ui` answers unless told otherwise."""


def run_link(run_id: str | None, tracking: TrackingPlace) -> str:
    """Link to a run's page, without credentials."""
    return f"{_server(tracking)}/#/runs/{run_id}"


def comparison_link(
    run_ids: Sequence[str], experiments: Sequence[str], tracking: TrackingPlace
) -> str:
    """Link to the page that compares runs, without credentials; experiments are given by id."""
    runs = _in_query(run_ids)
    return f"{_server(tracking)}/#/compare-runs?runs={runs}&experiments={_in_query(experiments)}"


def look_command(tracking: TrackingPlace) -> str | None:
    """Return what starts the server that links name, for a database file; None for a server."""
    if not tracking.uri.startswith("sqlite:"):
        return None
    mlflow = shlex.quote(str(Path(sys.executable).with_name("mlflow")))
    return f"{mlflow} ui --backend-store-uri {shlex.quote(tracking.uri)}"


def _server(tracking: TrackingPlace) -> str:
    server = without_credentials(tracking.uri).rstrip("/")
    return server if server.startswith("http") else _LOCAL


def _in_query(values: Sequence[str]) -> str:
    # Each once: MLflow's page asks for an experiment as often as it is named.
    return quote(json.dumps(list(dict.fromkeys(values)), separators=(",", ":")), safe="")
