"""Where a schedule changes, to be marked in curves. Pure."""

import math
from dataclasses import dataclass

from alexnet.train.schedule import stair_at
from alexnet.train.schedule_settings import (
    CosineSchedule,
    DexpSchedule,
    FallingSchedule,
    PhasesSchedule,
    PlateauSchedule,
    PolynomialSchedule,
    ScheduleSettings,
)


@dataclass(frozen=True, slots=True)
class ScheduleMark:
    """A moment at which something else begins."""

    step: int
    """The first step of what begins."""
    label: str


def schedule_marks(
    schedule: ScheduleSettings, *, epochs: int, steps_per_epoch: int
) -> tuple[ScheduleMark, ...]:
    """Return where a run's phases begin, where its stairs do, or where its warm-up ends."""
    total = epochs * steps_per_epoch
    match schedule:
        case PhasesSchedule():
            return tuple(
                ScheduleMark((phase.from_epoch - 1) * steps_per_epoch, f"{phase.weight_rate:g}")
                for phase in schedule.phases[1:]
            )
        case DexpSchedule():
            # A stair begins with the first step whose progress lies beyond the end of the last.
            firsts = [
                i * total // schedule.weight.steps + 1 for i in range(1, schedule.weight.steps)
            ]
            return tuple(
                ScheduleMark(first, f"{stair_at(schedule.weight, first / total):.2g}")
                for first in firsts
                if first < total
            )
        case CosineSchedule() | PolynomialSchedule():
            end = math.ceil(schedule.warmup_fraction * total)
            return (ScheduleMark(end, "warm-up ends"),) if end else ()
        case FallingSchedule() | PlateauSchedule():
            return ()  # nothing begins, or only the losses tell when
