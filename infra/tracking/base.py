"""What the system asks of a place that shows runs: MLflow, or memory in tests."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from infra.tracking.points import MetricPoint

RUN_KEY_TAG: Final = "alexnet.run_key"
ORIGIN_TAG: Final = "alexnet.origin"
"""Which training's folder a run shows: another workspace's run of the same key is not ours."""
REASON_TAG: Final = "alexnet.status_reason"
DATASET_DIGEST_TAG: Final = "alexnet.dataset_digest"
DATASET_DIGEST_CHARACTERS: Final = 32
"""Of a dataset's digest, what MLflow takes as the input's digest; the whole one is a tag."""


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Tracker(Protocol):
    """Runs with their parameters, tags, inputs and metrics, on one server.

    Every method raises TrackingError when the server stays away or refuses.
    """

    @property
    def server(self) -> str:
        """Which server this is, in words fit to be written down: no credentials."""
        ...

    def check_reachable(self, timeout_s: float = 30.0) -> None:
        """Return when the server has answered; raise within the timeout otherwise."""
        ...

    def find_run(self, run_key: str, origin: str | None = None) -> str | None:
        """Return the id of the run made for this key, the oldest if several; deleted ones not.

        With an origin only a run that carries it as a tag.
        """
        ...

    def create_run(
        self, *, run_key: str, run_name: str, tags: Mapping[str, str] | None = None
    ) -> str:
        """Make a run, RUNNING and tagged with its key; return its id."""
        ...

    def status(self, run_id: str) -> RunStatus | None:
        """Return how a run stands; None when it does not exist or was deleted."""
        ...

    def set_status(self, run_id: str, status: RunStatus, reason: str = "") -> None:
        """Say how a run stands, and why, as a tag."""
        ...

    def log_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Add points; one that is there already, timestamp included, is not added again."""
        ...

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Add parameters; one that is there keeps its first value."""
        ...

    def add_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add tags; one that is there keeps its first value."""
        ...

    def log_dataset(self, run_id: str, *, name: str, digest: str, source_uri: str) -> None:
        """Note a dataset as the run's training input; a second time changes nothing."""
        ...

    def log_images(
        self, run_id: str, key: str, images: Mapping[int, npt.NDArray[np.uint8]]
    ) -> None:
        """Add pictures (height, width, 3) by step; a step that has one keeps it."""
        ...

    def log_table(self, run_id: str, path: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a table under a name that ends in .json, replacing one that is there."""
        ...

    def log_files(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Keep files by name in one of the run's folders, replacing those of the same name."""
        ...
