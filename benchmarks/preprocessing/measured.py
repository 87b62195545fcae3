"""One pass of anything that makes images: by the clock, by the CPU's time, and in memory."""

import re
from pathlib import Path
from typing import Final

from infra.commit import Frozen

_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class Measured(Frozen):
    """A pass."""

    images: int
    elapsed_s: float
    cpu_s: float
    """Of all processes that took part."""
    cores: int
    """Processes that rendered at the same time."""
    steady_s: float | None = None
    """Seconds for all images at the rate from 20 % to 90 % of them."""
    steady_cpu_s: float | None = None
    """CPU seconds for all images, likewise: without the start of Ray's workers and the commit."""
    peak_worker_bytes: int | None = None
    """Of a process that renders."""

    @property
    def per_core(self) -> float:
        """Images a second a core, by the clock."""
        return self.images / self.elapsed_s / self.cores

    @property
    def steady_per_core(self) -> float | None:
        """The same, without start and end."""
        return None if self.steady_s is None else self.images / self.steady_s / self.cores

    @property
    def steady_per_cpu_s(self) -> float | None:
        """Images a second of CPU time, without start and end."""
        return None if self.steady_cpu_s is None else self.images / self.steady_cpu_s

    @property
    def per_cpu_s(self) -> float:
        """Images a second of CPU time: what others do on the machine hardly shows in it."""
        return self.images / self.cpu_s


def peak_memory_bytes(pid: int) -> int | None:
    """Return the most that a process has had in memory so far; None where Linux does not say."""
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
