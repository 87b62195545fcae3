"""One MLflow run a training, true through failures."""

from infra.tracking.base import RunStatus, Tracker
from infra.tracking.journal import Journal
from infra.tracking.mlflow_tracker import MlflowTracker
from infra.tracking.place import TrackingPlace, place_for
from infra.tracking.points import MetricPoint
from infra.tracking.run_note import open_run

__all__ = [
    "Journal",
    "MetricPoint",
    "MlflowTracker",
    "RunStatus",
    "Tracker",
    "TrackingPlace",
    "open_run",
    "place_for",
]
