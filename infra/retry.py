"""The one policy of trying again: what is transient gets another try until a deadline."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")

WARN_S: Final = 10.0
"""How long a call must have failed before anyone is told; told again at twice that, and so on."""


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
        while True:
            try:
                result = work()
            except Exception as error:
                pause_s = wait_s * random.uniform(0.5, 1)
                elapsed_s = clock.monotonic() - started_at
                if not is_transient(error) or elapsed_s + pause_s > self.deadline_s:
                    raise
                failures += 1
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
