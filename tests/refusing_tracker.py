"""A tracker that takes everything but points."""

from collections.abc import Sequence

from infra.errors import TrackingError
from infra.tracking.memory import MemoryTracker
from infra.tracking.points import MetricPoint


class Refusing(MemoryTracker):
    """Its server has no room for points until `refuses` is set to false."""

    refuses = True

    def log_points(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        if self.refuses:
            raise TrackingError("the disk is full", remedy="make room")
        super().log_points(run_id, points)
