"""The most that a device multiplies and copies, measured on it; and how its time is told."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

import torch

from alexnet.settings import Precision
from alexnet.train.precision import multiplying_in
from infra.commit import Frozen

WARM_UPS: Final = 3
ROUNDS: Final = 20
SIDE: Final = 8192
"""Of the square matrices on a GPU: rows and columns."""
COPIED_BYTES: Final = 2**30
"""On a GPU, read once and written once: many times what its caches hold."""
CPU_SIDE: Final = 512
CPU_COPIED_BYTES: Final = 2**22

Work = Callable[[], object]


class DeviceRates(Frozen):
    """What a device reaches at its best."""

    flop_per_s: dict[Precision, float]
    """Of a product of large square matrices: a multiplication and an addition are two."""
    bytes_per_s: float
    """Of a copy in its memory: those read and those written."""


def measure_rates(device: torch.device, precisions: Sequence[Precision]) -> DeviceRates:
    """Multiply and copy random numbers (zeros are quicker); small ones on a CPU, to be tested."""
    is_gpu = device.type == "cuda"
    side, size_bytes = (SIDE, COPIED_BYTES) if is_gpu else (CPU_SIDE, CPU_COPIED_BYTES)
    return DeviceRates(
        flop_per_s={one: _flop_per_s(device, one, side) for one in precisions},
        bytes_per_s=_bytes_per_s(device, size_bytes),
    )


def timed_ms(works: Sequence[Work], rounds: int, device: torch.device) -> list[list[float]]:
    """Time pieces of work in turn, so that a device that drifts slows all of them.

    On a GPU by its own events, without a wait in between: where each piece is longer for the device
    than its launch is for the program, launches do not count.

    Returns:
        Milliseconds by work and round, after a few rounds that do not count.
    """
    for work in list(works) * WARM_UPS:
        work()
    marks = [_mark(device)]
    for work in list(works) * rounds:
        work()
        marks.append(_mark(device))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    between = [_between_ms(start, stop) for start, stop in pairwise(marks)]
    return [between[number :: len(works)] for number in range(len(works))]


def _flop_per_s(device: torch.device, precision: Precision, side: int) -> float:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    with multiplying_in(precision):
        (times_ms,) = timed_ms([lambda: torch.mm(left, right, out=product)], ROUNDS, device)
    return 2 * side**3 / (median(times_ms) / 1000)


def _bytes_per_s(device: torch.device, size_bytes: int) -> float:
    source = torch.randn(size_bytes // 4, device=device)
    target = torch.empty_like(source)
    (times_ms,) = timed_ms([lambda: target.copy_(source)], ROUNDS, device)
    return 2 * size_bytes / (median(times_ms) / 1000)


def _mark(device: torch.device) -> torch.cuda.Event | float:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between_ms(start: torch.cuda.Event | float, stop: torch.cuda.Event | float) -> float:
    if isinstance(start, float) or isinstance(stop, float):
        assert isinstance(start, float)
        assert isinstance(stop, float)
        return (stop - start) * 1000
    return start.elapsed_time(stop)
