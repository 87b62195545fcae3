"""Runs in MLflow: a server, or its database file. MLflow is imported when it is first used."""

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from infra.errors import TrackingError
from infra.temporary import MAKE_ROOM, lacks_room, temporary_folder
from infra.tracking.base import (
    DATASET_DIGEST_CHARACTERS,
    DATASET_DIGEST_TAG,
    ORIGIN_TAG,
    REASON_TAG,
    RUN_KEY_TAG,
    RunStatus,
)
from infra.tracking.bounded import answer_within
from infra.tracking.mlflow_client import context_tags, is_mlflows, open_mlflow_client
from infra.tracking.mlflow_quiet import import_mlflow
from infra.tracking.place import TrackingPlace, sqlite_path, without_credentials
from infra.tracking.points import MetricPoint

_METRICS_PER_CALL: Final = 1000
_PARAMS_PER_CALL: Final = 100
_REASON_CHARACTERS: Final = 5000
_CHECK: Final = (
    "check that the server runs, its URI and your access to it; then run again: what was measured"
    " is kept in the workspace and sent then"
)
_LISTED_TAG: Final = "mlflow.loggedArtifacts"
"""Where a run's page looks for its tables."""
_IMAGES: Final = "images"
_IMAGE_NAME: Final = re.compile(rf"{_IMAGES}/(?P<key>.+)\+step\+(?P<step>\d+)\+timestamp\+.*\.webp")
"""As `MlflowClient.log_image` names the last file that it writes of an image."""


class MlflowTracker:
    """Runs of one experiment of an MLflow server. Safe to share between threads.

    No call changes MLflow's global state (active run, tracking URI).
    """

    def __init__(self, place: TrackingPlace, *, experiment: str = "alexnet") -> None:
        self._place = place
        self._experiment = experiment
        self._opened: Any = None
        self._opening = threading.Lock()

    @property
    def server(self) -> str:
        """The server's URI without credentials; `workspace` for the workspace's own."""
        return self._place.registry_id

    def check_reachable(self, timeout_s: float = 30.0) -> None:
        """Look for the experiment, in a thread: MLflow's own retries can take minutes."""
        import_mlflow()  # here: it takes seconds that are not the server's
        if sqlite_path(self._place.uri) is not None:
            # Nor is the wait for other processes that bring the same new file up, one by one.
            with self._translated("open the database"):
                self._client()
        try:
            answer_within(timeout_s, self._find_experiment)
        except TimeoutError as error:
            raise self._error(str(error)) from error

    def find_run(self, run_key: str, origin: str | None = None) -> str | None:
        """Search the experiment by tags."""
        wanted = {RUN_KEY_TAG: run_key} | ({} if origin is None else {ORIGIN_TAG: origin})
        experiment_id = self._find_experiment()
        if experiment_id is None:
            return None
        with self._translated("search runs"):
            runs = self._client().search_runs(
                [experiment_id],
                filter_string=" and ".join(f"tags.`{k}` = '{v}'" for k, v in wanted.items()),
                order_by=["attributes.start_time ASC"],
                max_results=1,
            )
        return runs[0].info.run_id if runs else None

    def create_run(
        self, *, run_key: str, run_name: str, tags: Mapping[str, str] | None = None
    ) -> str:
        """Make a run, and the experiment before it if need be; tagged as MLflow tags its own."""
        experiment_id = self._find_experiment() or self._create_experiment()
        all_tags = {**context_tags(), **(tags or {}), RUN_KEY_TAG: run_key}
        with self._translated("create a run"):
            run = self._client().create_run(experiment_id, run_name=run_name, tags=all_tags)
        return run.info.run_id

    def status(self, run_id: str) -> RunStatus | None:
        """Ask for the run."""
        run = self._get_run(run_id)
        return None if run is None else RunStatus(run.info.status)

    def experiment_of(self, run_id: str) -> str:
        """Return the id of the experiment that a run is in.

        Raises:
            TrackingError: there is no such run.
        """
        run = self._get_run(run_id)
        if run is None:
            raise self._error(f"there is no run {run_id}")
        return run.info.experiment_id

    def set_status(self, run_id: str, status: RunStatus, reason: str = "") -> None:
        """Update the run, with an end time unless it is RUNNING."""
        with self._translated(f"set the status of run {run_id}"):
            self._client().set_tag(run_id, REASON_TAG, reason[:_REASON_CHARACTERS])
            if status is RunStatus.RUNNING:
                self._client().update_run(run_id, status=status.value)
            else:
                self._client().set_terminated(run_id, status.value)

    def log_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Send points, up to a thousand a call: one call costs as much as seventy points."""
        metric = import_mlflow().entities.Metric
        metrics = [metric(p.key, p.value, p.timestamp_ms, p.step) for p in points]
        with self._translated(f"log {len(metrics)} points to run {run_id}"):
            for start in range(0, len(metrics), _METRICS_PER_CALL):
                chunk = metrics[start : start + _METRICS_PER_CALL]
                self._client().log_batch(run_id, metrics=chunk, synchronous=True)

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Send the parameters that the run does not have: MLflow refuses a changed value."""
        run = self._get_run(run_id)
        there = {} if run is None else run.data.params
        param = import_mlflow().entities.Param
        new = [param(name, value) for name, value in params.items() if name not in there]
        with self._translated(f"log parameters to run {run_id}"):
            for start in range(0, len(new), _PARAMS_PER_CALL):
                chunk = new[start : start + _PARAMS_PER_CALL]
                self._client().log_batch(run_id, params=chunk, synchronous=True)

    def add_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Send the tags that the run does not have, in one call."""
        run = self._get_run(run_id)
        there = {} if run is None else run.data.tags
        tag = import_mlflow().entities.RunTag
        new = [tag(name, value) for name, value in tags.items() if name not in there]
        with self._translated(f"set tags of run {run_id}"):
            self._client().log_batch(run_id, tags=new, synchronous=True)

    def log_dataset(self, run_id: str, *, name: str, digest: str, source_uri: str) -> None:
        """Note a dataset without reading it; MLflow refuses digests longer than 36 characters."""
        entities = import_mlflow().entities
        dataset = entities.Dataset(
            name=name,
            digest=digest[:DATASET_DIGEST_CHARACTERS],
            source_type=_source_type(source_uri),
            source=json.dumps({"uri": source_uri}),
        )
        context = entities.InputTag("mlflow.data.context", "training")
        with self._translated(f"log the dataset of run {run_id}"):
            self._client().log_inputs(run_id, [entities.DatasetInput(dataset, [context])])
        self.add_tags(run_id, {DATASET_DIGEST_TAG: digest})

    def log_images(
        self, run_id: str, key: str, images: Mapping[int, npt.NDArray[np.uint8]]
    ) -> None:
        """Send the pictures that the run lacks, as its page shows them with a slider."""
        with self._translated(f"log images to run {run_id}"):
            listed = self._client().list_artifacts(run_id, _IMAGES)
            found = [_IMAGE_NAME.fullmatch(item.path) for item in listed]
            there = {int(match["step"]) for match in found if match and match["key"] == key}
            for step, image in images.items():
                if step not in there:
                    self._client().log_image(run_id, image, key=key, step=step, synchronous=True)

    def log_table(self, run_id: str, path: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Send a table as `MlflowClient.log_table` would write a new one.

        That call appends to a table that is there, and warns with pandas 3.
        """
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        run = self._get_run(run_id)
        listed = [] if run is None else json.loads(run.data.tags.get(_LISTED_TAG, "[]"))
        with self._translated(f"log a table to run {run_id}"):
            self._client().log_dict(run_id, {"columns": list(columns), "data": rows}, path)
            if (table := {"path": path, "type": "table"}) not in listed:
                self._client().set_tag(run_id, _LISTED_TAG, json.dumps([*listed, table]))

    def log_files(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Send files."""
        with (
            self._translated(f"log files to run {run_id}"),
            temporary_folder("alexnet-mlflow-", TrackingError) as directory,
        ):
            for name, body in files.items():
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)
            self._client().log_artifacts(run_id, str(directory), folder)

    def _client(self) -> Any:  # noqa: ANN401 - MLflow's types are not read (see pyproject)
        # Lazy: for a database file, making the client opens it and brings its tables up to date.
        with self._opening:
            if self._opened is None:
                self._opened = open_mlflow_client(self._place.uri)
            return self._opened

    def _find_experiment(self) -> str | None:
        with self._translated("look up an experiment"):
            found = self._client().get_experiment_by_name(self._experiment)
        if found is None:
            return None
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"MLflow at {without_credentials(self._place.uri)}:"
                f" the experiment {self._experiment} is deleted",
                remedy="restore it in MLflow, or set tracking.experiment to another name",
            )
        return found.experiment_id

    def _create_experiment(self) -> str:
        with self._translated("create an experiment"):
            try:
                return self._client().create_experiment(
                    self._experiment, artifact_location=self._place.artifact_location
                )
            except import_mlflow().exceptions.MlflowException:
                # Another process may have made it at the same moment.
                if (made := self._find_experiment()) is None:
                    raise
                return made

    def _get_run(self, run_id: str) -> Any:  # noqa: ANN401 - as above
        with self._translated(f"read run {run_id}"):
            try:
                run = self._client().get_run(run_id)
            except import_mlflow().exceptions.MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None
        return run if run.info.lifecycle_stage == "active" else None

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_mlflows(error):
                raise
            first_line = str(error).partition("\n")[0]
            raise self._error(
                f"cannot {what}: {without_credentials(first_line)}",
                remedy=MAKE_ROOM if lacks_room(error) else _CHECK,
            ) from error

    def _error(self, problem: str, remedy: str = _CHECK) -> TrackingError:
        return TrackingError(
            f"MLflow at {without_credentials(self._place.uri)}: {problem}", remedy=remedy
        )


def _source_type(uri: str) -> str:
    scheme, separator, _ = uri.partition("://")
    return scheme if separator and scheme != "file" else "local"
