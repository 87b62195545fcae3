"""The one policy of trying again: what is transient gets another try until a deadline."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")

WARN_S: Final = 10.0
"""How long a call must have failed before anyone is told; told again at twice that, and so on."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Calls that failed at first: how many of each kind, and how long they took from then on."""

    calls: Counter[str] = field(default_factory=Counter)
    """By the first word of what was called, such as "read"."""
    waited_s: float = 0.0
    """Of all of them together; some may have waited at the same time."""

    def __add__(self, other: "Retried") -> "Retried":
        return Retried(self.calls + other.calls, self.waited_s + other.waited_s)

    def __sub__(self, other: "Retried") -> "Retried":
        return Retried(self.calls - other.calls, self.waited_s - other.waited_s)

    @property
    def text(self) -> str:
        """Say it; empty where nothing was tried again."""
        kinds = ", ".join(f"{count:,} to {kind}" for kind, count in sorted(self.calls.items()))
        total = self.calls.total()
        what = "1 request was" if total == 1 else f"{total:,} requests were"
        return (
            f"{what} tried again ({kinds}), {self.waited_s:,.0f} s waited in all" if total else ""
        )


class _Tally:
    """What this process has retried, and what it was told that others did for it."""

    def __init__(self) -> None:
        self._lock, self._total = threading.Lock(), Retried()

    def add(self, more: Retried) -> None:
        with self._lock:
            self._total += more

    @property
    def total(self) -> Retried:
        return self._total


_TALLY: Final = _Tally()


def retried_so_far() -> Retried:
    """Return what this process has tried again since it began; take two for what is between."""
    return _TALLY.total


def note_retried(elsewhere: Retried) -> None:
    """Count with this process's retries those that another made at its work."""
    _TALLY.add(elsewhere)


class Clock(Protocol):
    """What waiting needs; the module `time` is one."""

    def monotonic(self) -> float:
        """Return seconds."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long a call that fails for a passing reason is tried again.

    Waits double from `first_wait_s` to `longest_wait_s`; each is shortened by chance, to between
    half of it and all, so that many processes do not come back in step.
    """

    deadline_s: float = 300.0
    """No try begins later than this after the first one."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 8.0

    def call(
        self,
        work: Callable[[], Result],
        *,
        what: str,
        is_transient: Callable[[Exception], bool],
        clock: Clock = time,
    ) -> Result:
        """Return what `work` returns, or raise its last error.

        Args:
            work: may be called many times, so it must not mind having half happened.
            what: for the log, such as "write runs/x/a.json".
            is_transient: tells an error that may pass from one that will not.
            clock: measures and waits.
        """
        started_at, wait_s, failures, warn_at_s = clock.monotonic(), self.first_wait_s, 0, WARN_S
        failed_at = started_at
        while True:
            try:
                result = work()
            except Exception as error:
                pause_s = wait_s * random.uniform(0.5, 1)
                elapsed_s = clock.monotonic() - started_at
                if not is_transient(error) or elapsed_s + pause_s > self.deadline_s:
                    _note(what, failures, clock.monotonic() - failed_at)
                    raise
                failures += 1
                failed_at = clock.monotonic() if failures == 1 else failed_at
                # A blip is nothing to look at; an outage is, now and then.
                level = logging.WARNING if elapsed_s >= warn_at_s else logging.INFO
                warn_at_s = 2 * warn_at_s if elapsed_s >= warn_at_s else warn_at_s
                log.log(
                    level,
                    "call_failed what=%r tries=%d elapsed_s=%.0f problem=%s",
                    what,
                    failures,
                    elapsed_s,
                    error,
                )
                clock.sleep(pause_s)
                wait_s = min(2 * wait_s, self.longest_wait_s)
            else:
                _note(what, failures, clock.monotonic() - failed_at)
                if failures:
                    elapsed_s = clock.monotonic() - started_at
                    level = logging.WARNING if warn_at_s > WARN_S else logging.INFO
                    log.log(
                        level,
                        "call_succeeded what=%r tries=%d elapsed_s=%.1f",
                        what,
                        failures + 1,
                        elapsed_s,
                    )
                return result


def _note(what: str, failures: int, waited_s: float) -> None:
    if failures:
        _TALLY.add(Retried(Counter([what.partition(" ")[0]]), waited_s))
