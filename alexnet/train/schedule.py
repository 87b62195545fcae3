"""Learning rates and colour noise as a pure function of the epoch, progress and past losses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["weight", "bias"]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_SETTINGS = ConfigDict(
    frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
)


class LayerRates(BaseModel):
    """The two rates of one layer; a rate of 0 freezes what it belongs to."""

    model_config = _SETTINGS

    weight_rate: Rate
    """Learning rate of the layer's weights."""
    bias_rate: Rate
    """Learning rate of the layer's biases."""


class Phase(BaseModel):
    """The rates from one epoch up to the next phase; nothing is inherited from the one before."""

    model_config = _SETTINGS

    from_epoch: Annotated[int, Field(ge=1)]
    """First epoch of the phase, counted from 1 as in the release's logs."""
    weight_rate: Rate
    """Learning rate of all weights that `layers` does not name."""
    bias_rate: Rate
    """Learning rate of all biases that `layers` does not name."""
    layers: dict[str, LayerRates] = {}
    """Layers with rates of their own, by name; both rates are given."""
    color_noise: Rate | None = None
    """Strength of the colour noise; none keeps the augmentation's own value."""


class PhasesSchedule(BaseModel):
    """Rates by hand: constant within a phase, whole epochs long."""

    model_config = _SETTINGS

    kind: Literal["phases"] = "phases"
    """Rates that change at given epochs."""
    # Not strict: YAML knows lists only.
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, strict=False)]
    """In order; the first starts at epoch 1."""

    @model_validator(mode="after")
    def _phases_follow_each_other(self) -> "PhasesSchedule":
        starts = [phase.from_epoch for phase in self.phases]
        if starts[0] != 1:
            raise ValueError(f"the first phase starts at epoch {starts[0]}, not at 1")
        if any(late >= later for late, later in pairwise(starts)):
            raise ValueError(f"phases start at epochs {starts}, which do not increase")
        return self


class Staircase(BaseModel):
    """`steps` rates of equal duration from `base` down to `base / factor`, evenly in logarithm."""

    model_config = _SETTINGS

    base: Rate
    """The first rate."""
    factor: Annotated[float, Field(gt=0)]
    """The first rate over the last."""
    steps: Annotated[int, Field(ge=1)]
    """How many rates; a single one is `base` throughout."""

    def at(self, progress: float) -> float:
        """Return the rate of the first stair that ends at or after `progress`, in [0, 1)."""
        stair = next(i for i in range(self.steps) if progress <= (i + 1) / self.steps)
        return self.base * self.factor ** (-stair / max(self.steps - 1, 1))


class DexpSchedule(BaseModel):
    """The release's automatic schedule: a staircase for weights, another one for biases."""

    model_config = _SETTINGS

    kind: Literal["dexp"] = "dexp"
    """Rates that fall in equal stairs."""
    weight: Staircase
    """Learning rate of all weights."""
    bias: Staircase
    """Learning rate of all biases."""


class Fall(BaseModel):
    """A rate that falls from `base` to `base / factor` over the run."""

    model_config = _SETTINGS

    base: Rate
    """The rate at the start."""
    factor: Annotated[float, Field(gt=0)]
    """The first rate over the last."""


class FallingSchedule(BaseModel):
    """The release's other automatic schedules: a smooth fall for weights, another for biases."""

    model_config = _SETTINGS

    kind: Literal["exp", "linear"]
    """Evenly in logarithm (`exp`), or in a straight line (`linear`)."""
    weight: Fall
    """Learning rate of all weights."""
    bias: Fall
    """Learning rate of all biases."""

    def at(self, fall: Fall, progress: float) -> float:
        """Return the rate at `progress`, in [0, 1)."""
        if self.kind == "exp":
            return fall.base * fall.factor**-progress
        return fall.base * (1 - progress) + fall.base / fall.factor * progress


class CosineSchedule(BaseModel):
    """A linear ramp from 0 to the peak, then half a cosine down to the final rates.

    The very first step of a ramp has rate 0 and so moves nothing.
    """

    model_config = _SETTINGS

    kind: Literal["cosine"] = "cosine"
    """Rates that ramp up and fall along a cosine."""
    weight_rate: Rate
    """Peak learning rate of all weights."""
    bias_rate: Rate
    """Peak learning rate of all biases."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the run that the ramp takes."""
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The rates at the very end, over the peak."""

    def share_at(self, progress: float) -> float:
        """Return the part of the peak rates that holds at `progress`, in [0, 1)."""
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        fallen = (progress - self.warmup_fraction) / (1 - self.warmup_fraction)
        height = (1 + math.cos(math.pi * fallen)) / 2
        return self.final_fraction + (1 - self.final_fraction) * height


class PolynomialSchedule(BaseModel):
    """A linear ramp to the peak, then `(1 - progress) ** power` of it; 0 at the end of the run.

    The fall counts from the start of the run, not of the fall: after a ramp it begins a little
    below the peak.

    Source:
        NVCaffe's `sgd_solver.cpp`, `GetLearningRate` with `rampup_interval` and policy `poly`.
    """

    model_config = _SETTINGS

    kind: Literal["polynomial"] = "polynomial"
    """Rates that fall like a power of what is left of the run."""
    weight_rate: Rate
    """Peak learning rate of all weights."""
    bias_rate: Rate
    """Peak learning rate of all biases."""
    power: Annotated[float, Field(gt=0)] = 2.0
    """1 falls in a straight line."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the run that the ramp takes."""
    first_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The rates at the start of the ramp, over the peak."""

    def share_at(self, progress: float) -> float:
        """Return the part of the peak rates that holds at `progress`, in [0, 1)."""
        if progress < self.warmup_fraction:
            risen = progress / self.warmup_fraction
            return self.first_fraction + (1 - self.first_fraction) * risen
        return (1 - progress) ** self.power


class PlateauSchedule(BaseModel):
    """Rates that drop when the training loss stalls, as was done by hand in 2012.

    Looked at is the mean training loss of each epoch: in 2012 it was the validation error, but
    what is judged at the end should not steer the training.
    """

    model_config = _SETTINGS

    kind: Literal["plateau"] = "plateau"
    """Rates that drop when the loss stalls."""
    weight_rate: Rate
    """First learning rate of all weights."""
    bias_rate: Rate
    """First learning rate of all biases."""
    factor: Annotated[float, Field(gt=1)] = 10.0
    """A rate before a drop over the rate after it."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Epochs in a row without improvement that make a drop."""
    min_improvement: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Least fall of the loss, over the best so far, that counts as improvement."""
    max_drops: Annotated[int, Field(ge=0)] = 3
    """Drops after which the rates stay."""

    def drops_after(self, epoch_losses: Sequence[float]) -> int:
        """Return how often the rates have dropped after so many finished epochs."""
        drops, best, stalled = 0, math.inf, 0
        for loss in epoch_losses:
            if loss < best * (1 - self.min_improvement):
                best, stalled = loss, 0
                continue
            stalled += 1
            if stalled == self.patience:
                drops, stalled = drops + 1, 0
        return min(drops, self.max_drops)


ScheduleSettings: TypeAlias = Annotated[
    PhasesSchedule
    | DexpSchedule
    | FallingSchedule
    | CosineSchedule
    | PolynomialSchedule
    | PlateauSchedule,
    Field(discriminator="kind"),
]


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
            weight_rate, bias_rate = schedule.weight.at(progress), schedule.bias.at(progress)
            return Rates(weight_rate=weight_rate, bias_rate=bias_rate)
        case FallingSchedule():
            weight_rate = schedule.at(schedule.weight, progress)
            return Rates(weight_rate=weight_rate, bias_rate=schedule.at(schedule.bias, progress))
        case PlateauSchedule():
            share = schedule.factor ** -schedule.drops_after(epoch_losses)
            return Rates(
                weight_rate=share * schedule.weight_rate, bias_rate=share * schedule.bias_rate
            )
        case CosineSchedule() | PolynomialSchedule():
            share = schedule.share_at(progress)
            return Rates(
                weight_rate=share * schedule.weight_rate, bias_rate=share * schedule.bias_rate
            )


def last_phase_start(schedule: ScheduleSettings) -> int:
    """Return the epoch, counted from 1, at which the last phase starts: no run may end before."""
    return schedule.phases[-1].from_epoch if isinstance(schedule, PhasesSchedule) else 1


def layers_named(schedule: ScheduleSettings) -> frozenset[str]:
    """Return the layers with rates of their own in any phase, to compare with the network's."""
    if not isinstance(schedule, PhasesSchedule):
        return frozenset()
    return frozenset(name for phase in schedule.phases for name in phase.layers)
