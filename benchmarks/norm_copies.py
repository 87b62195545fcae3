"""A norm on a GPU beside copies of its tensor: how near it is to what must be moved.

Forward must read x and write y, which is what one copy moves; backward must read x and dy and write
dx, as 1.5 copies do. What a norm keeps for its backward pass is written and read besides. The copy,
forward and backward take turns, each timed by the GPU's own events.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.device_rates import Work, timed_ms
from infra.commit import Frozen

COPIES: Final = {"forward": 1.0, "backward": 1.5}
CEILING: Final = 1.3
"""Of our compiled norm's time each way, in times of the copies that must be."""
HEAD: Final = ("norm", "ms", "of copies", "lowest", "highest", "kernels", "ceiling")


class Way(Frozen):
    """One direction of a norm."""

    name: str
    times_ms: tuple[float, ...]
    of_copies: tuple[float, ...]
    """Its time in each round over that of the copies that must be."""
    kernels: int
    """Launched; 0 where the profiler sees no GPU."""
    ceiling: float | None

    @property
    def holds(self) -> bool | None:
        """Whether the median is within the ceiling, if there is one."""
        return None if self.ceiling is None else median(self.of_copies) <= self.ceiling


def measure_ways(
    name: str, norm: Callable[[Tensor], Tensor], maps: Tensor, rounds: int, ceiling: float | None
) -> tuple[Way, ...]:
    """Time a norm forward and backward, and a copy of its maps.

    Args:
        name: of the norm.
        norm: of (batch, channel, height, width).
        maps: so large that a pass takes longer than its launch, and caches hold little of them.
        rounds: that count.
        ceiling: of both directions.
    """
    inputs, gradient = maps.clone().requires_grad_(), torch.randn_like(maps)
    target, outputs = torch.empty_like(maps), norm(inputs)

    def forward() -> None:
        nonlocal outputs
        outputs = norm(inputs)

    def backward() -> None:
        torch.autograd.grad(outputs, inputs, gradient)

    works = {"forward": forward, "backward": backward}
    backward()  # compiles
    forward()
    kernels = {way: _count_kernels(work) for way, work in works.items()}
    copies_ms, *ways_ms = timed_ms(
        [lambda: target.copy_(maps), *works.values()], rounds, maps.device
    )
    return tuple(
        Way(
            name=f"{name}, {way}",
            times_ms=tuple(times_ms),
            of_copies=of_copies(times_ms, copies_ms, COPIES[way]),
            kernels=kernels[way],
            ceiling=ceiling,
        )
        for way, times_ms in zip(works, ways_ms, strict=True)
    )


def of_copies(
    times_ms: Sequence[float], copies_ms: Sequence[float], copies: float
) -> tuple[float, ...]:
    """Divide each round's time by that of so many copies in the same round."""
    return tuple(one / (copies * copy) for one, copy in zip(times_ms, copies_ms, strict=True))


def rows(ways: Sequence[Way]) -> list[list[str]]:
    """Lay out what was found, as HEAD names it."""
    return [_row(way) for way in ways]


def _row(way: Way) -> list[str]:
    values = (median(way.of_copies), min(way.of_copies), max(way.of_copies))
    ceiling = "" if way.ceiling is None else f"{way.ceiling:g} {'holds' if way.holds else 'MISSED'}"
    cells = (f"{median(way.times_ms):.3f}", *(f"{value:.2f}" for value in values))
    return [way.name, *cells, str(way.kernels), ceiling]


def _count_kernels(work: Work) -> int:
    is_there = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * is_there]) as found:
        work()
        if is_there:
            torch.cuda.synchronize()
    return sum(
        event.device_type == DeviceType.CUDA and not event.is_user_annotation
        for event in found.events() or ()
    )
