import pytest

from alexnet.figures.schedule_marks import ScheduleMark, schedule_marks
from alexnet.train.schedule import rates_at
from alexnet.train.schedule_settings import (
    CosineSchedule,
    DexpSchedule,
    Phase,
    PhasesSchedule,
    ScheduleSettings,
    Staircase,
)

RATES = {1: 0.01, 26: 0.001, 51: 0.0001}


def phases(*starts: int) -> PhasesSchedule:
    made = [Phase(from_epoch=s, weight_rate=RATES[s], bias_rate=0.02) for s in starts]
    return PhasesSchedule(phases=tuple(made))


def dexp(steps: int) -> DexpSchedule:
    stairs = Staircase(base=0.1, factor=100.0, steps=steps)
    return DexpSchedule(weight=stairs, bias=stairs)


def cosine(warmup_fraction: float) -> CosineSchedule:
    return CosineSchedule(weight_rate=0.1, bias_rate=0.2, warmup_fraction=warmup_fraction)


def test_phases_are_marked_where_they_begin_with_their_rates() -> None:
    marks = schedule_marks(phases(1, 26, 51), epochs=90, steps_per_epoch=10)
    assert marks == (ScheduleMark(250, "0.001"), ScheduleMark(500, "0.0001"))


def test_a_cosine_is_marked_where_its_warm_up_ends() -> None:
    assert schedule_marks(cosine(0.0), epochs=10, steps_per_epoch=10) == ()
    marks = schedule_marks(cosine(0.05), epochs=10, steps_per_epoch=10)
    assert marks == (ScheduleMark(5, "warm-up ends"),)


def test_stairs_are_marked_and_a_single_one_has_no_mark() -> None:
    assert schedule_marks(dexp(1), epochs=10, steps_per_epoch=10) == ()
    marks = schedule_marks(dexp(3), epochs=9, steps_per_epoch=10)
    assert marks == (ScheduleMark(31, "0.01"), ScheduleMark(61, "0.001"))


@pytest.mark.parametrize("schedule", [phases(1), phases(1, 26), dexp(2), dexp(7), dexp(40)])
@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(30, 1), (30, 7), (90, 3)])
def test_marks_are_where_the_rates_change(
    schedule: ScheduleSettings, epochs: int, steps_per_epoch: int
) -> None:
    total = epochs * steps_per_epoch
    rates = [
        rates_at(schedule, epoch=step // steps_per_epoch, progress=step / total).weight_rate
        for step in range(total)
    ]
    changes = [step for step in range(1, total) if rates[step] != rates[step - 1]]
    marks = schedule_marks(schedule, epochs=epochs, steps_per_epoch=steps_per_epoch)
    # Where there are more stairs than steps several begin at one step.
    assert sorted({mark.step for mark in marks}) == changes
