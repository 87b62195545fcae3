"""The driver's end of a training's metrics: takes points, keeps them, has them sent."""

import logging
import math
import threading
import time
from collections.abc import Sequence

from infra.errors import StoreError
from infra.tracking.delivery import Delivery
from infra.tracking.journal import Journal
from infra.tracking.points import MetricPoint

log = logging.getLogger(__name__)

Position = tuple[int, int]
"""(step, images seen) of a training."""


class MetricsSink:
    """Buffers points, writes them to the journal now and then, and lets a delivery send them.

    Safe to share between threads. Starts at once; finish it.
    """

    def __init__(
        self, journal: Journal, delivery: Delivery, *, flush_every_s: float = 15.0
    ) -> None:
        self._journal = journal
        self._delivery = delivery
        self._flush_every_s = flush_every_s
        self._buffer: list[MetricPoint] = []
        self._position: Position | None = None
        self._buffering = threading.Lock()
        self._flushing = threading.Lock()
        self._finished = threading.Event()
        threading.Thread(target=self._run, name="metrics-flush", daemon=True).start()

    def record(self, points: Sequence[MetricPoint], position: Position) -> None:
        """Take points and how far the training is; returns at once."""
        with self._buffering:
            self._buffer += points
            self._position = position

    def flush(self, points: Sequence[MetricPoint] = (), *, deadline_s: float = math.inf) -> None:
        """Return when everything recorded so far is in the journal.

        Args:
            points: must be there too; those that were recorded before are taken once.
            deadline_s: how long to wait for another flush and for a store that is away.

        Raises:
            StoreError: it cannot be written; it is kept for the next flush.
        """
        deadline = time.monotonic() + deadline_s
        if not self._flushing.acquire(timeout=-1 if math.isinf(deadline_s) else deadline_s):
            raise StoreError(
                f"the journal has not been written for {deadline_s:.0f} s",
                remedy="see whether the workspace's place answers",
            )
        try:
            with self._buffering:
                self._buffer += points
                buffered = list(self._buffer)
            self._journal.append(buffered, deadline_s=max(0.0, deadline - time.monotonic()))
            with self._buffering:
                del self._buffer[: len(buffered)]
        finally:
            self._flushing.release()
        self._delivery.notify()

    def position(self) -> Position | None:
        """Return the latest (step, images); None before the first record."""
        return self._position

    def problem(self) -> str | None:
        """Return why nothing reaches the tracker at the moment; None when all is well."""
        return self._delivery.problem

    def finish(self, silence_s: float, *, at_most_s: float = math.inf) -> bool:
        """Flush, wait for the delivery, end; tell whether the tracker has everything.

        Args:
            silence_s: how long nothing may arrive at the tracker.
            at_most_s: how long to wait in all.
        """
        self._finished.set()
        try:
            last = time.monotonic() + at_most_s
            self.flush(deadline_s=at_most_s)
            left_s = max(0.0, last - time.monotonic())
            return self._delivery.drain(silence_s, at_most_s=left_s)
        finally:
            self._delivery.close()

    def _run(self) -> None:
        while not self._finished.wait(self._flush_every_s):
            try:
                self.flush()
            except StoreError as error:
                log.warning("journal_not_written problem=%s", error)
