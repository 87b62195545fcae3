"""The reference tracker: a dictionary. What MLflow does is held against it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.errors import TrackingError
from infra.tracking.base import (
    DATASET_DIGEST_CHARACTERS,
    DATASET_DIGEST_TAG,
    ORIGIN_TAG,
    REASON_TAG,
    RUN_KEY_TAG,
    RunStatus,
)
from infra.tracking.points import MetricPoint


@dataclass
class MemoryRun:
    """One run, as the memory tracker keeps it."""

    name: str
    status: RunStatus = RunStatus.RUNNING
    deleted: bool = False
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[MetricPoint] = field(default_factory=list)
    datasets: set[tuple[str, str, str]] = field(default_factory=set)
    """(name, shortened digest, source URI)."""
    images: dict[tuple[str, int], npt.NDArray[np.uint8]] = field(default_factory=dict)
    """By key and step."""
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """By path."""


class MemoryTracker:
    """Runs in this process; `away` plays an outage."""

    def __init__(self, server: str = "memory") -> None:
        self._server = server
        self.runs: dict[str, MemoryRun] = {}
        self.away = False

    @property
    def server(self) -> str:
        """A label."""
        return self._server

    def check_reachable(self, timeout_s: float = 30.0) -> None:
        """Raise while away."""
        if self.away:
            raise TrackingError(f"{self._server} is away", remedy="bring it back")

    def find_run(self, run_key: str, origin: str | None = None) -> str | None:
        """Return the oldest run of the key."""
        self.check_reachable()
        wanted = {RUN_KEY_TAG: run_key} | ({} if origin is None else {ORIGIN_TAG: origin})
        for run_id, run in self.runs.items():
            if wanted.items() <= run.tags.items() and not run.deleted:
                return run_id
        return None

    def create_run(
        self, *, run_key: str, run_name: str, tags: Mapping[str, str] | None = None
    ) -> str:
        """Make a run."""
        self.check_reachable()
        run_id = f"run-{len(self.runs) + 1}"
        self.runs[run_id] = MemoryRun(run_name, tags={**(tags or {}), RUN_KEY_TAG: run_key})
        return run_id

    def status(self, run_id: str) -> RunStatus | None:
        """Return how a run stands."""
        self.check_reachable()
        run = self.runs.get(run_id)
        return None if run is None or run.deleted else run.status

    def set_status(self, run_id: str, status: RunStatus, reason: str = "") -> None:
        """Say how a run stands."""
        run = self._run(run_id)
        run.status = status
        run.tags[REASON_TAG] = reason

    def log_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Add points."""
        run = self._run(run_id)
        # As text: a NaN is not equal to itself.
        known = {str(point) for point in run.points}
        run.points += [point for point in points if str(point) not in known]

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Add parameters."""
        run = self._run(run_id)
        run.params = {**params, **run.params}

    def add_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add tags."""
        run = self._run(run_id)
        run.tags = {**tags, **run.tags}

    def log_dataset(self, run_id: str, *, name: str, digest: str, source_uri: str) -> None:
        """Note a dataset."""
        run = self._run(run_id)
        run.datasets.add((name, digest[:DATASET_DIGEST_CHARACTERS], source_uri))
        run.tags[DATASET_DIGEST_TAG] = digest

    def log_images(
        self, run_id: str, key: str, images: Mapping[int, npt.NDArray[np.uint8]]
    ) -> None:
        """Add pictures."""
        there = self._run(run_id).images
        for step, image in images.items():
            there.setdefault((key, step), image)

    def log_table(self, run_id: str, path: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a table."""
        self._run(run_id).tables[path] = {name: list(cells) for name, cells in columns.items()}

    def log_files(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Keep files."""
        self._run(run_id).files.update({f"{folder}/{name}": body for name, body in files.items()})

    def _run(self, run_id: str) -> MemoryRun:
        self.check_reachable()
        if self.status(run_id) is None:
            raise TrackingError(f"{self._server} has no run {run_id}", remedy="make a new one")
        return self.runs[run_id]
