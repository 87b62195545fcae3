"""A look at MLflow's runs past our tracker."""

from infra.tracking.mlflow_quiet import import_mlflow
from infra.tracking.place import TrackingPlace


class MlflowWindow:
    """What MLflow holds, in plain values."""

    def __init__(self, place: TrackingPlace) -> None:
        self.client = import_mlflow().MlflowClient(tracking_uri=place.uri)

    def points(self, run_id: str, key: str) -> list[tuple[int, float, int]]:
        """(step, value, timestamp_ms), sorted, one for each that is drawn."""
        history = self.client.get_metric_history(run_id, key)
        return sorted((point.step, point.value, point.timestamp) for point in history)

    def params(self, run_id: str) -> dict[str, str]:
        return self.client.get_run(run_id).data.params

    def tags(self, run_id: str) -> dict[str, str]:
        return self.client.get_run(run_id).data.tags

    def datasets(self, run_id: str) -> list[tuple[str, str]]:
        inputs = self.client.get_run(run_id).inputs.dataset_inputs
        return [(item.dataset.name, item.dataset.digest) for item in inputs]

    def delete(self, run_id: str) -> None:
        self.client.delete_run(run_id)
