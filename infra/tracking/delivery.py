"""Delivery: a thread that sends what is in the journal to the tracker, through outages."""

import logging
import math
import threading
import time
from typing import Final

from infra.errors import ProjectError
from infra.tracking.base import Tracker
from infra.tracking.journal import Journal

log = logging.getLogger(__name__)

POINTS_PER_CALL: Final = 1000
"""Points gathered for one call, from whole segments: at least so many, where there are. A replay of
days sends many segments of a few points."""


class Delivery:
    """Sends journal segments in order to one run, from the first that it does not have.

    Nothing is lost in an outage: the journal keeps it, and the same points are sent again with
    the same timestamps. Starts at once; close it.
    """

    def __init__(
        self,
        journal: Journal,
        tracker: Tracker,
        run_id: str,
        *,
        first_wait_s: float = 1.0,
        longest_wait_s: float = 30.0,
    ) -> None:
        self._journal = journal
        self._tracker = tracker
        self._run_id = run_id
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._sent: int | None = None
        self._problem: str | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why nothing is delivered at the moment; None when all is well."""
        return self._problem

    def notify(self) -> None:
        """Say that the journal has grown, or that it is worth trying again."""
        with self._changed:
            self._changed.notify_all()

    def drain(self, silence_s: float, *, at_most_s: float = math.inf) -> bool:
        """Wait until all that is in the journal now was delivered; say whether it was.

        Args:
            silence_s: how long nothing may arrive: a slow server is waited for, a silent one not.
            at_most_s: how long to wait in all.
        """
        goal = self._journal.num_segments
        last = time.monotonic() + at_most_s
        with self._changed:
            sent, deadline = self._sent, time.monotonic() + silence_s
            while not self._has_sent(goal) and self._thread.is_alive():
                if self._sent != sent:
                    sent, deadline = self._sent, time.monotonic() + silence_s
                if (left_s := min(deadline, last) - time.monotonic()) <= 0:
                    break
                # Every second: someone waits now, so the pauses of an outage are cut short.
                self._changed.notify_all()
                self._changed.wait(min(left_s, 1.0))
            return self._has_sent(goal)

    def close(self) -> None:
        """End the thread; what was not delivered stays in the journal."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # Bounded: a call to a server that is away may hang for longer, and nobody needs it.
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        wait_s = self._first_wait_s
        while not self._closed:
            try:
                self._send_pending()
            except Exception as error:  # of any kind: a thread that ended would deliver no more
                self._note_outage(error)
                self._pause(wait_s)
                wait_s = min(2 * wait_s, self._longest_wait_s)
            else:
                wait_s = self._first_wait_s
                self._pause_until_more()

    def _send_pending(self) -> None:
        server, run_id = self._tracker.server, self._run_id
        if self._sent is None:
            self._note_sent(self._journal.delivered(server, run_id))
        while not self._closed and not self._has_sent(self._journal.num_segments):
            points, number = self._journal.points_after(self._sent or 0, at_least=POINTS_PER_CALL)
            self._tracker.log_points(run_id, points)
            self._journal.mark_delivered(server, run_id, number)
            self._note_recovery()
            self._note_sent(number)

    def _note_sent(self, number: int) -> None:
        with self._changed:
            self._sent = number
            self._changed.notify_all()

    def _has_sent(self, number: int) -> bool:
        return (self._sent or 0) >= number

    def _pause(self, wait_s: float) -> None:
        with self._changed:
            if not self._closed:
                self._changed.wait(wait_s)

    def _pause_until_more(self) -> None:
        with self._changed:
            while not self._closed and self._has_sent(self._journal.num_segments):
                self._changed.wait()

    def _note_outage(self, error: Exception) -> None:
        if isinstance(error, ProjectError):
            problem, trace = error.problem, None
        else:
            problem, trace = f"{type(error).__name__}: {error}", error
        if self._problem is None or (trace is not None and problem != self._problem):
            log.warning("tracking_away run_id=%s problem=%s", self._run_id, error, exc_info=trace)
        self._problem = problem

    def _note_recovery(self) -> None:
        if self._problem is not None:
            log.info("tracking_back run_id=%s", self._run_id)
        self._problem = None
