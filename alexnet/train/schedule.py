"""Learning rates and colour noise as a pure function of the epoch, progress and past losses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from alexnet.train.schedule_settings import (
    CosineSchedule,
    DexpSchedule,
    Fall,
    FallingSchedule,
    LayerRates,
    PhasesSchedule,
    PlateauSchedule,
    PolynomialSchedule,
    ScheduleSettings,
    Staircase,
)

Kind = Literal["weight", "bias"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What holds at one moment of a run."""

    weight_rate: float
    bias_rate: float
    layers: Mapping[str, LayerRates] = field(default_factory=dict)
    color_noise: float | None = None
    """None keeps the augmentation's own value."""

    def of(self, layer: str, kind: Kind) -> float:
        """Return the learning rate of a layer's weights or biases."""
        rates = self.layers.get(layer, self)
        return rates.weight_rate if kind == "weight" else rates.bias_rate


def rates_at(
    schedule: ScheduleSettings,
    *,
    epoch: int,
    progress: float,
    epoch_losses: Sequence[float] = (),
) -> Rates:
    """Return the rates of one step.

    Args:
        schedule: phases look at the epoch only, a plateau at losses only, others at progress only.
        epoch: 0-based, so that `from_epoch: 25` begins at epoch 24.
        progress: steps done over steps of the whole run, in [0, 1).
        epoch_losses: mean training loss of each epoch before this one, which a plateau needs.

    Raises:
        ValueError: a negative epoch, or progress outside [0, 1).

    Source:
        The logs in the release's `layer-params-145.cfg`; `dexp`, `exp` and
        `linear` of its `src/lr.cu`.
    """
    if epoch < 0 or not 0 <= progress < 1:
        raise ValueError(f"epoch {epoch} or progress {progress} lies outside of every run")
    match schedule:
        case PhasesSchedule():
            phase = [phase for phase in schedule.phases if phase.from_epoch <= epoch + 1][-1]
            return Rates(
                weight_rate=phase.weight_rate,
                bias_rate=phase.bias_rate,
                layers=phase.layers,
                color_noise=phase.color_noise,
            )
        case DexpSchedule():
            weight_rate, bias_rate = (
                stair_at(schedule.weight, progress),
                stair_at(schedule.bias, progress),
            )
            return Rates(weight_rate=weight_rate, bias_rate=bias_rate)
        case FallingSchedule():
            return Rates(
                weight_rate=_fallen(schedule, schedule.weight, progress),
                bias_rate=_fallen(schedule, schedule.bias, progress),
            )
        case PlateauSchedule():
            share = schedule.factor ** -_drops_after(schedule, epoch_losses)
            return Rates(
                weight_rate=share * schedule.weight_rate, bias_rate=share * schedule.bias_rate
            )
        case CosineSchedule() | PolynomialSchedule():
            share = _share_of_peak(schedule, progress)
            return Rates(
                weight_rate=share * schedule.weight_rate, bias_rate=share * schedule.bias_rate
            )


def stair_at(staircase: Staircase, progress: float) -> float:
    """Return the rate of the first stair that ends at or after `progress`, in [0, 1)."""
    steps = staircase.steps
    stair = next(i for i in range(steps) if progress <= (i + 1) / steps)
    return staircase.base * staircase.factor ** (-stair / max(steps - 1, 1))


def _fallen(schedule: FallingSchedule, fall: Fall, progress: float) -> float:
    if schedule.kind == "exp":
        return fall.base * fall.factor**-progress
    return fall.base * (1 - progress) + fall.base / fall.factor * progress


def _share_of_peak(schedule: CosineSchedule | PolynomialSchedule, progress: float) -> float:
    if progress < schedule.warmup_fraction:
        risen = progress / schedule.warmup_fraction
        first = schedule.first_fraction if isinstance(schedule, PolynomialSchedule) else 0.0
        return first + (1 - first) * risen
    if isinstance(schedule, PolynomialSchedule):
        return (1 - progress) ** schedule.power
    fallen = (progress - schedule.warmup_fraction) / (1 - schedule.warmup_fraction)
    height = (1 + math.cos(math.pi * fallen)) / 2
    return schedule.final_fraction + (1 - schedule.final_fraction) * height


def _drops_after(schedule: PlateauSchedule, epoch_losses: Sequence[float]) -> int:
    """Return how often the rates have dropped after so many finished epochs."""
    drops, best, stalled = 0, math.inf, 0
    for loss in epoch_losses:
        if loss < best * (1 - schedule.min_improvement):
            best, stalled = loss, 0
            continue
        stalled += 1
        if stalled == schedule.patience:
            drops, stalled = drops + 1, 0
    return min(drops, schedule.max_drops)


def last_phase_start(schedule: ScheduleSettings) -> int:
    """Return the epoch, counted from 1, at which the last phase starts: no run may end before."""
    return schedule.phases[-1].from_epoch if isinstance(schedule, PhasesSchedule) else 1


def layers_named(schedule: ScheduleSettings) -> frozenset[str]:
    """Return the layers with rates of their own in any phase, to compare with the network's."""
    if not isinstance(schedule, PhasesSchedule):
        return frozenset()
    return frozenset(name for phase in schedule.phases for name in phase.layers)
