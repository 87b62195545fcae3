"""A look at MLflow's runs past our tracker."""

import json
from pathlib import Path
from typing import Any

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

    def images(self, run_id: str) -> list[tuple[str, int]]:
        """(key, step) of the pictures that the run's page shows with a slider, sorted."""
        names = [Path(item.path).name for item in self.client.list_artifacts(run_id, "images")]
        whole = [name.split("+") for name in names if name.endswith(".png")]
        small = [name for name in names if name.endswith("+compressed.webp")]
        assert len(names) == len(whole) + len(small) == 2 * len(whole)
        assert not names or self.tags(run_id)["mlflow.loggedImages"] == "True"
        return sorted((words[0], int(words[2])) for words in whole)

    def table(self, run_id: str, path: str) -> dict[str, list[Any]]:
        """A table that the run's page lists, by column."""
        logged = json.loads(self.tags(run_id)["mlflow.loggedArtifacts"])
        assert logged == [{"path": path, "type": "table"}]
        found = json.loads(self.file(run_id, path))
        columns = zip(*found["data"], strict=True)
        return dict(zip(found["columns"], map(list, columns), strict=True))

    def file(self, run_id: str, path: str) -> bytes:
        return Path(self.client.download_artifacts(run_id, path)).read_bytes()

    def delete(self, run_id: str) -> None:
        self.client.delete_run(run_id)
