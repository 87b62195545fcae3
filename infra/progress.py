"""How far a stage is: one status line in a terminal, a plain line now and then elsewhere."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Protocol

ProgressReport = Callable[[int, int], None]
"""Called with (images done, images in all) as a stage goes on."""


class NotedReport(Protocol):
    """A ProgressReport that also takes a few words on what else there is to say."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show it."""
        ...


def no_progress(done: int, total: int, note: str = "") -> None:
    """Report nothing."""


class StatusLine:
    """Stage, done/total, images per second and time left, on one stream.

    Call it as often as you like: it writes at most ten times a second to a terminal, every ten
    seconds to anything else.
    """

    def __init__(
        self, stage: str, stream: IO[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stage = stage
        self._stream = stream
        self._clock = clock
        self._interval_s = 0.1 if stream.isatty() else 10.0
        self._first: tuple[float, int] | None = None
        self._written_at = clock() if not stream.isatty() else float("-inf")

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Take in the position; write it when it is time."""
        now = self._clock()
        if self._first is None:
            self._first = (now, done)
        if now - self._written_at >= self._interval_s:
            self._written_at = now
            self._write(self.text(done, total, now) + (f"  {note}" if note else ""))

    def text(self, done: int, total: int, now: float) -> str:
        """Return the line for a position at a time of the clock."""
        started_at, started_with = self._first or (now, done)
        elapsed_s = now - started_at
        line = f"{self._stage:<9} {done:>9,}/{total:,}"
        if elapsed_s > 0 and done > started_with:
            rate = (done - started_with) / elapsed_s
            line += f"  {rate:7,.0f} images/s  {_duration((total - done) / rate)} left"
        return line

    def close(self) -> None:
        """Clear the status line of a terminal."""
        if self._stream.isatty():
            _write(self._stream, "\r\x1b[K")

    def _write(self, line: str) -> None:
        if not self._stream.isatty():
            _write(self._stream, f"{line}\n")
            return
        # A line that wraps is cleared in its last row only.
        width = shutil.get_terminal_size().columns - 1
        _write(self._stream, f"\r\x1b[K{line[:width]}")


def tell(stream: IO[str], text: str) -> None:
    """Write one line for whoever watches; a terminal that is gone or a full disk ends nothing."""
    _write(stream, f"{text}\n")


def _write(stream: IO[str], text: str) -> None:
    with suppress(OSError):
        stream.write(text)
        stream.flush()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s"
